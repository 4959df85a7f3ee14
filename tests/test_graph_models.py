"""Models that are graphs: branches, several inputs and outputs, parts that are models, and their memory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import data, losses, optimizers
from fastcnn import layers as L  # noqa: N812
from tests.check import assert_same
from tests.float64_graph import assert_numerical_gradients
from tests.small_nets import unet

FASTCNN = SimpleNamespace(L=L, Model=fc.Model, Input=fc.Input, SGD=optimizers.SGD, losses=losses)


def weights_for(model):
    """The same weights for any library."""
    rng = np.random.default_rng(7)
    return [rng.standard_normal(w.shape) * 0.4 / np.sqrt(max(1, np.prod(w.shape[:-1]))) for w in model.get_weights()]


# ------------------------------------------------------------------------------------------ against Keras


def residual_net(lib):
    """Two residual blocks that share their convolution, squeeze-and-excite, PReLU, and an hourglass."""
    x = lib.Input((8, 8, 3))
    shared = lib.L.Conv2D(6, 3, padding="same")
    y = lib.L.Conv2D(6, 3, padding="same", activation="tanh")(x)
    for _ in range(2):
        z = shared(lib.L.ReLU()(shared(y)))
        y = lib.L.ReLU()(lib.L.Add()([y, z]))
    s = lib.L.Dense(6, activation="sigmoid")(lib.L.GlobalAveragePooling2D(keepdims=True)(y))
    y = lib.L.PReLU(shared_axes=[1, 2])(lib.L.Subtract()([lib.L.Multiply()([y, s]), y]))
    half = lib.L.MaxPooling2D(2)(y)
    y = lib.L.Concatenate()([lib.L.UpSampling2D(2, interpolation="bilinear")(half), y, lib.L.UpSampling2D(2)(half)])
    y = lib.L.Average()([lib.L.Conv2D(4, 1)(y), lib.L.Conv2D(4, 3, padding="same")(y)])
    y = lib.L.Cropping2D(((1, 0), (0, 2)))(lib.L.Maximum()([y, lib.L.Permute((2, 1, 3))(y)]))
    model = lib.Model(x, lib.L.Dense(4)(lib.L.GlobalAveragePooling2D()(y)))
    model.compile(lib.SGD(learning_rate=0.2, momentum=0.9),
                  lib.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    rng = np.random.default_rng(1)
    return model, rng.standard_normal((16, 8, 8, 3)).astype(np.float32), rng.integers(0, 4, 16)


def two_by_two(lib):
    """An image and a vector; a class and two numbers."""
    image, vector = lib.Input((6, 6, 2), name="image"), lib.Input((5,), name="vector")
    y = lib.L.Flatten()(lib.L.Conv2D(4, 3, activation="relu")(image))
    y = lib.L.Concatenate()([y, lib.L.Dense(8, activation="tanh")(vector)])
    kind = lib.L.Dense(3, activation="softmax", name="kind")(y)
    place = lib.L.Dense(2, name="place")(lib.L.Concatenate()([y, kind]))
    model = lib.Model([image, vector], [kind, place])
    model.compile(lib.SGD(learning_rate=0.1, momentum=0.5), {"kind": "sparse_categorical_crossentropy", "place": "mse"},
                  metrics={"kind": ["accuracy"], "place": ["mae"]}, loss_weights={"kind": 1.0, "place": 0.3})
    rng = np.random.default_rng(2)
    x = {"image": rng.standard_normal((20, 6, 6, 2)).astype(np.float32),
         "vector": rng.standard_normal((20, 5)).astype(np.float32)}
    return model, x, {"kind": rng.integers(0, 3, 20), "place": rng.standard_normal((20, 2)).astype(np.float32)}


# Ten epochs of one batch: model.fit(x, y, batch_size=len(x), epochs=10, shuffle=False) in Keras 3.15 with TensorFlow
# 2.21, from the weights of `weights_for`.
RESIDUAL = {
    "loss": [1.3126631, 1.289932, 1.2527306, 1.2128956, 1.1827526, 1.1704524, 1.1752422, 1.1874342, 1.1955328,
             1.194752],
    "accuracy": [0.4375, 0.4375, 0.4375, 0.4375, 0.4375, 0.4375, 0.375, 0.375, 0.375, 0.375],
}
TWO_BY_TWO = {
    "loss": [1.6304995, 1.5069567, 1.3905636, 1.3068726, 1.2381355, 1.1677989, 1.0909986, 1.0092504, 0.9252583,
             0.8397762],
    "kind_loss": [1.2086608, 1.1225264, 1.0393249, 0.9758807, 0.9208465, 0.8635504, 0.8010082, 0.7345125, 0.6659157,
                  0.5965792],
    "place_loss": [1.4061286, 1.2814343, 1.1707958, 1.1033064, 1.0576299, 1.0141616, 0.9666349, 0.9157931, 0.8644753,
                   0.8106567],
    "kind_accuracy": [0.25, 0.25, 0.55, 0.7, 0.75, 0.75, 0.85, 0.95, 0.95, 1.0],
    "place_mae": [1.0045575, 0.9475489, 0.8967485, 0.8594624, 0.8298502, 0.8096009, 0.7912739, 0.7736868, 0.756059,
                  0.735801],
}


@pytest.mark.parametrize(("make", "want"), [(residual_net, RESIDUAL), (two_by_two, TWO_BY_TWO)])
@pytest.mark.parametrize("threads", [1, 3])
def test_ten_steps_of_keras(make, want, threads):
    before = fc.get_num_threads()
    fc.set_num_threads(threads)
    model, x, y = make(FASTCNN)
    model.set_weights(weights_for(model))
    samples = len(y) if isinstance(y, np.ndarray) else 20
    got = model.fit(x, y, batch_size=samples, epochs=10, shuffle=False, verbose=0).history
    fc.set_num_threads(before)
    assert got.keys() == want.keys()
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, rtol=3e-5, err_msg=name)


def test_residual_gradients_numerically(rng):
    for make, shape in ((residual_net, (8, 8, 3)), (pre_activation_net, (6, 6, 2)), (wide_sums, (4, 4, 2))):
        model = make(FASTCNN)[0] if make is residual_net else make()
        model.set_weights(weights_for(model))
        assert_numerical_gradients(model, [rng.standard_normal((5, *shape))], rng)


def pre_activation_net():
    """Sums that feed sums: a gradient is shared, added to, and shared again, some of them with halos."""
    x = fc.Input((6, 6, 2))
    y = L.Conv2D(3, 3, padding="same")(x)
    for _ in range(3):
        z = L.Conv2D(3, 3, padding="same")(L.Activation("tanh")(y))
        y = y + L.Conv2D(3, 3, padding="same")(z)
    return fc.Model(x, L.Dense(2)(L.Flatten()(y)))


def wide_sums():
    """Sums of reshaped, repeated, broadcast and differently padded branches; the sum is an output as well."""
    x = fc.Input((4, 4, 2))
    a, b = L.Conv2D(3, 3, padding="same")(x), L.Conv2D(3, 5, padding="same", use_bias=False)(x)
    c = L.Reshape((4, 4, 3))(L.Dense(48)(L.Flatten()(a)))
    total = L.ReLU()(L.Add()([a, b, c, b, L.GlobalAveragePooling2D(keepdims=True)(a)]))
    other = L.Add()([L.Flatten()(total), L.Reshape((48,))(a)])
    return fc.Model(x, [total, L.Dense(2)(other)])


# ------------------------------------------------------------------------------------------ inputs and outputs

RNG = np.random.default_rng(0)
X = {"a": RNG.standard_normal((20, 6)).astype("f"), "b": RNG.standard_normal((20, 4)).astype("f")}
Y = {"kind": RNG.integers(0, 3, 20), "size": RNG.standard_normal((20, 1)).astype("f")}
LOSS = {"kind": "sparse_categorical_crossentropy", "size": "mse"}


def net(forms=(list, list), **words):
    """Two inputs a and b; two outputs kind and size; `forms` says how the model is given them."""
    fc.seed(1)
    a, b = fc.Input((6,), name="a"), fc.Input((4,), name="b")
    y = L.Dense(5, activation="tanh")(L.Concatenate()([a, b]))
    kind, size = L.Dense(3, activation="softmax", name="kind")(y), L.Dense(1, name="size")(y)
    inputs, outputs = {"a": a, "b": b}, {"kind": kind, "size": size}
    given = (list(t.values()) if form is list else t for form, t in zip(forms, (inputs, outputs), strict=True))
    model = fc.Model(*given)
    model.compile(optimizers.SGD(0.1), LOSS, **words)
    return model


def values(d):
    return list(d.values())


def test_lists_dictionaries_and_batches_are_the_same():
    weights = np.arange(20) / 10
    histories, predictions = [], []
    for forms in ((list, list), (dict, dict), (list, dict)):
        for x, y, w in ((X, Y, {"size": weights}), (values(X), values(Y), [None, weights]),
                        (dict(reversed(X.items())), values(Y), {"size": weights, "kind": np.ones(20)})):
            model = net(forms, metrics={"size": ["mae"]})
            histories.append(model.fit(x, y, batch_size=8, shuffle=False, verbose=0, sample_weight=w,
                                       validation_data=(x, y)).history)
            out = model.predict(x)
            assert isinstance(out, dict if forms[1] is dict else list)
            predictions.append(b"".join(o.tobytes() for o in (out.values() if isinstance(out, dict) else out)))
    assert all(history == histories[0] for history in histories)
    assert len(set(predictions)) == 1
    assert list(histories[0])[:5] == ["loss", "kind_loss", "size_loss", "size_mae", "val_loss"]


def test_sources_of_batches():
    batches = [({n: a[i : i + 8] for n, a in X.items()}, {n: a[i : i + 8] for n, a in Y.items()}) for i in (0, 8, 16)]
    runs = [(X, Y), (batches, None), (data.Dataset(X, Y, 8), None), (data.Dataset(values(X), values(Y), 8), None)]
    histories = [net().fit(x, y, batch_size=8, shuffle=False, verbose=0).history for x, y in runs]
    assert all(history == histories[0] for history in histories)


def test_weights_of_samples_and_losses():
    """One array weighs all outputs; loss_weights weigh losses, in the sum and in the gradient."""
    model = net(metrics=[["accuracy"], []], loss_weights=[2.0, 0.0])
    w = np.arange(20.0)
    kind, size = (a.astype(np.float64) for a in model.predict(X))
    before = [v.numpy() for v in model.weights]
    history = model.fit(X, Y, batch_size=20, shuffle=False, verbose=0, sample_weight=w).history
    by_kind = (-np.log(kind[np.arange(20), Y["kind"]]) * w).mean()
    assert history["kind_loss"][0] == pytest.approx(by_kind, rel=1e-5)
    assert history["size_loss"][0] == pytest.approx((((size - Y["size"]) ** 2)[:, 0] * w).mean(), rel=1e-5)
    assert history["loss"][0] == pytest.approx(2 * by_kind, rel=1e-5)
    assert history["kind_accuracy"][0] == pytest.approx((kind.argmax(1) == Y["kind"]).mean())
    kernel, bias = (v for v in model.weights if v.layer.name == "size")
    assert_same(kernel.value, before[model.weights.index(kernel)])  # its loss has the weight 0
    gradient = (before[3] - model.weights[3].value) / 0.1
    want = 2 * ((kind - np.eye(3)[Y["kind"]]) * w[:, None]).mean(0)
    np.testing.assert_allclose(gradient, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("own", [losses.Huber(0.5), "mae", "kl_divergence"])
def test_loss_weights_reach_every_kind_of_loss(own):
    """Half the weight is half the step."""
    steps = []
    for weight in (1.0, 0.5):
        x = fc.Input((4,))
        fc.seed(0)
        model = fc.Model(x, L.Dense(3, kernel_initializer="zeros", activation="sigmoid")(x))
        model.compile(optimizers.SGD(1.0), own, loss_weights=[weight])
        model.train_on_batch(X["b"], np.full((20, 3), 0.25))
        steps.append(model.get_weights()[0])
    np.testing.assert_allclose(steps[1], steps[0] / 2, rtol=1e-5)
    assert np.abs(steps[0]).max() > 1e-4


def test_an_output_without_a_loss():
    model = net()
    model.compile("sgd", [None, "mse"], metrics={"size": "mae"})
    before = [v.numpy() for v in model.weights]
    for y in ([None, Y["size"]], {"size": Y["size"]}, Y):
        assert list(model.fit(X, y, verbose=0).history) == ["loss", "size_mae"]
    for v, old in zip(model.weights, before, strict=True):
        assert (v.layer.name == "kind") == (v.value == old).all()
    assert [p.shape for p in model.predict(X)] == [(20, 3), (20, 1)]


def test_one_tensor_as_two_outputs():
    """Both losses count, and a softmax is not taken away from the second."""
    x = fc.Input((4,))
    y = L.Dense(3, activation="softmax", name="d")(x)
    model = fc.Model(x, [y, y])
    assert model.output_names == ["d", "d_1"]
    target = RNG.random((20, 3))
    weights = model.get_weights()
    steps = []
    for loss in (["categorical_crossentropy", "mse"], ["categorical_crossentropy", None], [None, "mse"]):
        model.set_weights(weights)
        model.compile(optimizers.SGD(0.1), loss)
        model.train_on_batch(X["b"], [target, target])
        steps.append(model.get_weights()[0] - weights[0])
    np.testing.assert_allclose(steps[0], steps[1] + steps[2], atol=1e-6)


def test_single_batches():
    model = net(metrics=[["accuracy"], ["mae"]])
    want = model.evaluate(X, Y, verbose=0)
    assert model.test_on_batch(X, Y) == pytest.approx(want)
    assert model.train_on_batch(X, values(Y)) == pytest.approx(want)
    names = ["loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae"]
    assert list(model.evaluate(X, Y, verbose=0, return_dict=True)) == names
    for called, predicted in zip(model(X), model.predict(X), strict=True):
        assert_same(called, predicted)


# ------------------------------------------------------------------------------------------ models of models


class Block(fc.Model):
    """A residual block."""

    def __init__(self, filters):
        super().__init__()
        self.first = L.Conv2D(filters, 3, padding="same", activation="relu")
        self.second = L.Conv2D(filters, 3, padding="same")

    def call(self, x, training=False):
        return L.ReLU()(x + self.second(self.first(x), training=training))


class Net(fc.Model):
    """Blocks in a list, inputs and outputs by name."""

    def __init__(self):
        super().__init__()
        self.stem = L.Conv2D(4, 3, padding="same")
        self.blocks = [Block(4) for _ in range(2)]
        self.head = fc.Sequential([L.GlobalAveragePooling2D(), L.Dense(3)], name="head")

    def call(self, inputs):
        x = self.stem(inputs["image"])
        for block in self.blocks:
            x = block(x)
        return {"logits": self.head(x), "features": x}


def traced():
    model = Net()
    model.compile("adam", {"logits": losses.SparseCategoricalCrossentropy(from_logits=True), "features": None},
                  metrics={"logits": ["accuracy"]})
    return model


def siamese():
    """One encoder for two inputs."""
    encoder = fc.Sequential([L.Conv2D(4, 3, input_shape=(6, 6, 2)), L.Flatten(), L.Dense(5)], name="encoder")
    left, right = fc.Input((6, 6, 2), name="left"), fc.Input((6, 6, 2), name="right")
    return fc.Model([left, right], L.Dense(1)(encoder(left) * encoder(right)))


IMAGES = RNG.standard_normal((9, 6, 6, 2)).astype("f")


def test_traced_models_and_their_parts():
    model = traced()
    history = model.fit({"image": IMAGES}, {"logits": np.arange(9) % 3}, epochs=3, verbose=0).history
    assert list(history) == ["loss", "logits_accuracy"] and history["loss"][-1] < history["loss"][0]
    assert model.input_shape == {"image": (None, 6, 6, 2)} and model.output_names == ["logits", "features"]
    assert len(model.weights) == 2 * (1 + 4 + 1)
    assert model.get_layer("head") is model.head and model.get_layer(model.stem.name) is model.stem
    assert model.models == [*model.blocks, model.head]
    model.blocks[0].trainable = False
    assert len(model.trainable_weights) == 8


def test_a_shared_encoder(rng):
    model = siamese()
    assert len(model.weights) == 6 and model.get_layer("encoder") in model.models
    assert_numerical_gradients(model, [rng.standard_normal((4, 6, 6, 2)) for _ in range(2)], rng)
    encoder = model.get_layer("encoder")
    features = fc.Model(encoder.input, encoder.layers[0].output)
    assert_same(features.predict(IMAGES), encoder.layers[0](IMAGES))


def test_models_in_stacks():
    inner = fc.Sequential([L.Dense(4, activation="tanh", input_shape=(6,)), L.Dense(3)], name="inner")
    outer = fc.Sequential([inner, L.Dense(2, name="top")])
    assert outer.output_shape == (None, 2) and outer.output_names == ["top"]
    outer.pop()
    assert outer.output_names == ["inner"] and len(outer.layers) == 2
    assert_same(outer.predict(X["a"]), inner.predict(X["a"]))


@pytest.mark.parametrize("make", [siamese, traced, net, lambda: net((dict, dict)), lambda: residual_net(FASTCNN)[0]])
def test_every_graph_survives_a_file(make, tmp_path):
    model = make()
    model.build({"image": (None, 6, 6, 2)})
    x = [np.random.default_rng(i).standard_normal((6, *t.sample_shape)) for i, t in enumerate(model.inputs)]
    x = dict(zip(model.input_names, x, strict=True))
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = fc.load_model(path)
    assert (loaded.input_names, loaded.output_names) == (model.input_names, model.output_names)
    assert (loaded.input_shape, loaded.output_shape) == (model.input_shape, model.output_shape)
    pairs = [one.predict(x) for one in (loaded, model)]
    assert type(pairs[0]) is type(pairs[1])
    for got, want in zip(*(p if isinstance(p, list) else values(p) if isinstance(p, dict) else [p] for p in pairs),
                         strict=True):
        assert got.tobytes() == want.tobytes()


def test_training_goes_on_from_a_file(tmp_path):
    model = net(metrics={"kind": "accuracy", "size": ["mae", "mse"]}, loss_weights={"size": 0.5})
    model.fit(X, Y, verbose=0, shuffle=False)
    model.save(tmp_path / "m.safetensors")
    loaded = fc.load_model(tmp_path / "m.safetensors")
    histories = [one.fit(X, Y, verbose=0, shuffle=False).history for one in (loaded, model)]
    assert histories[0] == histories[1] and len(histories[0]) == 6


# ------------------------------------------------------------------------------------------ mistakes


class Endless(fc.Model):
    """A model that calls itself."""

    def call(self, x):
        return self(x)


class Composed(L.Layer):
    """What would be a layer in Keras."""

    def call(self, x):
        return x


def inputs():
    return fc.Input((6,), name="a"), fc.Input((4,), name="b")


def called_twice():
    layer = L.Dense(2, name="d")
    layer(fc.Input((3,))), layer(fc.Input((3,)))
    return layer


def stack_in_itself():
    model = fc.Sequential([L.Dense(2)], name="loop")
    model.add(fc.Sequential([model]))


MISTAKES = {
    "unused input": (lambda: (lambda a, b: fc.Model([a, b], L.Dense(2)(a), name="m"))(*inputs()), ValueError,
                     ["m: no output depends on the input", "(None, 4) b", "leave it out"]),
    "missing input": (lambda: (lambda a, b: fc.Model(a, L.Concatenate()([a, b]), name="m"))(*inputs()), ValueError,
                      ["m: the outputs depend on", "(None, 4) b", "not among the model's inputs"]),
    "input twice": (lambda: (lambda a, _: fc.Model([a, a], a, name="m"))(*inputs()), ValueError, ["m:", "a", "twice"]),
    "no outputs": (lambda: fc.Model(inputs()[0], [], name="m"), ValueError, ["m: outputs must hold at least one"]),
    "array as output": (lambda: fc.Model(inputs()[0], np.ones(3), name="m"), TypeError, ["m: outputs", "ndarray"]),
    "array in a graph": (lambda: L.Add(name="s")([inputs()[0], np.ones((2, 6))]), TypeError,
                         ["s: called on symbolic tensors and ndarray", "Input"]),
    "array in a part": (lambda: net()([inputs()[0], np.ones((2, 4))]), TypeError, ["input 'b' is ndarray", "Input"]),
    "shape of a part": (lambda: net()([inputs()[0], fc.Input((5,), name="c")]), ValueError,
                        ["input 'b' has shape (None, 4), got c of shape (None, 5)"]),
    "cycle": (lambda: Endless(name="m").predict(X["a"]), ValueError, ["m: call uses the model itself"]),
    "stack in itself": (stack_in_itself, ValueError, ["cannot be a part of itself"]),
    "layer with call": (lambda: Composed(name="c")(inputs()[0]), TypeError, ["c: a layer has no call", "Model"]),
    "two calls": (lambda: called_twice().output, ValueError, ["d was called 2 times"]),
    "x name": (lambda: net().fit({"a": X["a"], "c": X["b"]}, Y), ValueError,
               ["fit: x: unknown input 'c'", "Choose one of: a, b"]),
    "x missing": (lambda: net().predict({"a": X["a"]}), ValueError, ["predict: x: 'b' missing", "'a', 'b'"]),
    "x count": (lambda: net().predict([X["a"]]), ValueError, ["predict: x: expected 2 arrays, got 1", "a, b"]),
    "x exchanged": (lambda: net().predict([X["b"], X["a"]]), ValueError, ["predict: input 'a': the model expects"]),
    "y exchanged": (lambda: net().fit(X, [Y["size"], Y["kind"]]), ValueError, ["fit: output 'kind': "]),
    "y name": (lambda: net().fit(X, {"kind": Y["kind"], "sise": Y["size"]}), ValueError,
               ["fit: y: unknown output 'sise'", "Did you mean 'size'?"]),
    "y missing": (lambda: net().fit(X, {"kind": Y["kind"]}), ValueError, ["fit: y lacks", "'size'"]),
    "loss name": (lambda: net().compile("sgd", {"kin": "mse", "size": "mse"}), ValueError,
                  ["compile: loss: unknown output 'kin'", "'kind'"]),
    "loss missing": (lambda: net().compile("sgd", {"size": "mse"}), ValueError,
                     ["compile: loss: 'kind' missing", "None"]),
    "loss count": (lambda: net().compile("sgd", ["mse"]), ValueError, ["2 outputs", "by name", "got ['mse']"]),
    "no loss": (lambda: net().compile("sgd", [None, None]), ValueError, ["no output has a loss"]),
    "metric name": (lambda: net(metrics={"sizes": ["mae"]}), ValueError, ["compile: metrics: unknown output 'sizes'"]),
    "metric list": (lambda: net(metrics=["mae"]), ValueError, ["2 outputs", "a dictionary by name", "['mae']"]),
    "metric without targets": (lambda: net().compile("sgd", [None, "mse"], metrics=["mae", "mae"]), ValueError,
                               ["output 'kind' has metrics but no loss"]),
    "loss_weights name": (lambda: net(loss_weights={"sizes": 1}), ValueError, ["loss_weights: unknown output 'sizes'"]),
    "loss_weights count": (lambda: net(loss_weights=[1.0]), ValueError, ["expected 2 loss_weights, got [1.0]"]),
    "loss_weights text": (lambda: net(loss_weights=["one", 1]), TypeError, ["loss weight", "'one'"]),
    "sample_weight name": (lambda: net().fit(X, Y, sample_weight={"sizes": np.ones(20)}), ValueError,
                           ["sample_weight: unknown output 'sizes'"]),
    "class_weight": (lambda: net().fit(X, Y, class_weight={0: 1.0}), ValueError,
                     ["class_weight", "2", "sample_weight"]),
    "lengths": (lambda: net().fit(X, [Y["kind"][:5], Y["size"]]), ValueError, ["y[0] has 5", "x[1] has 20"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    attempt, error, fragments = MISTAKES[mistake]
    with pytest.raises(error) as caught:
        attempt()
    missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


# ------------------------------------------------------------------------------------------ summaries and pictures


def rows_of(model):
    lines = []
    model.summary(8, print_fn=lines.append)
    return lines[0].splitlines()


def test_a_summary_shows_connections():
    table = rows_of(siamese())
    assert table[2].split() == ["Layer", "(type)", "Output", "shape", "Params", "MFLOPs", "Connected", "to"]
    assert [row.split()[0] for row in table[4:6]] == ["left", "right"]
    multiply = next(row for row in table if "(Multiply)" in row)
    first, second = (name.strip() for name in multiply.split("0.00")[-1].split(","))
    assert first.endswith("[0]") and second == first.replace("[0]", "[1]")
    assert sum("shared" in row for row in table) == 2  # the encoder's layers with weights, in their second place
    chain = rows_of(fc.Sequential([L.Dense(3, input_shape=(4,)), L.Dense(2)]))
    assert "Connected" not in chain[2] and len(chain) == 4 + 2 + 1 + 6


def test_a_summary_tells_the_memory_of_a_step():
    model = net()
    model.compile("sgd", LOSS)
    assert any(row.startswith("Memory:") and "for training at batch size 8" in row for row in rows_of(model))
    kind, used, _ = model.measure(64)
    model.train_on_batch({n: a.repeat(4, 0)[:64] for n, a in X.items()}, {n: a.repeat(4, 0)[:64] for n, a in Y.items()})
    assert kind == "training" and used == next(reversed(model._plans.values())).bytes
    assert siamese().measure(4)[0] == "prediction"
    with pytest.raises(ValueError, match="batch_size"):
        model.measure(0)


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    from fastcnn import plot

    plot.graph(net(), tmp_path / "graph.png")
    assert (tmp_path / "graph.png").stat().st_size > 5000
    for make in (unet, siamese, net, pre_activation_net):
        model = make()
        figure = plot.graph(model)
        texts = [text.get_text() for text in figure.axes[0].texts]
        for layer in model.layers:
            assert any(text.startswith(layer.name) for text in texts)
        assert str(model.outputs[0].shape) in texts
        levels = plot.arrange(plot.boxes_of(model, True))
        assert sum(len(level) > 0 for level in levels) == len(levels)
        for level in levels:
            for left, right in zip(level, level[1:], strict=False):
                assert right.x - left.x >= (left.width + right.width) / 2 + plot.GAP - 1e-9
    texts = [text.get_text() for text in plot.graph(siamese(), show_shapes=False).axes[0].texts]
    assert not any("None" in text for text in texts)
    with pytest.raises(ValueError, match="no shapes yet"):
        plot.graph(fc.Sequential([L.Dense(2)]))


def test_division_by_a_number(rng):
    x = fc.Input((4,))
    data = rng.standard_normal((3, 4))
    np.testing.assert_allclose(fc.Model(x, x / 255).predict(data), data / 255, rtol=1e-6)


class InPlace(L.Layer):
    """ReLU as one may write it in NumPy: both passes overwrite what they get."""

    def forward(self, x, training):
        self.is_off = x < 0
        x[self.is_off] = 0
        return x

    def backward(self, dy):
        dy[self.is_off] = 0
        return dy


def test_a_numpy_layer_may_overwrite_what_it_gets(rng):
    """Other layers read the same values and gradients."""
    def step(layer):
        x = fc.Input((6,))
        y = L.Dense(6)(x)
        model = fc.Model(x, L.Add()([y, layer(y), y]))
        model.set_weights(weights)
        model.compile("sgd", "mse")
        model.train_on_batch(data, data[::-1])
        return model.get_weights()

    data, weights = rng.standard_normal((8, 6)), [rng.standard_normal((6, 6)), np.zeros(6)]
    for got, want in zip(step(InPlace()), step(L.ReLU()), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------ no numbers

TENSOR = L.Conv2D(4, 3, name="conv")(fc.Input((8, 8, 3)))

# (what a user of arrays may write, what the message must say)
ON_SYMBOLS = {
    "function": (lambda x: np.tanh(x), "is no argument for numpy.tanh: .* compute with layers"),
    "function of two": (lambda x: np.maximum(x, 0), "is no argument for numpy.maximum"),
    "reduction": (lambda x: np.sum(x), "is no argument for numpy.add"),
    "mean": (lambda x: np.mean(x), "is no array"),
    "joining": (lambda x: np.concatenate([x, x]), "is no array"),
    "array": (lambda x: np.asarray(x), "is no array: .* call a Model on arrays"),
    "operation": (lambda x: fc.ops.relu(x), "is no array"),
    "data": (lambda x: fc.Sequential([L.Flatten()]).predict(x), "is no array"),
    "slice": (lambda x: x[:, :2], "cannot be indexed: .* Cropping2D"),
    "assignment": (lambda x: x.__setitem__(0, 1), "cannot be indexed"),
    "loop": (lambda x: list(x), "cannot be indexed"),
    "length": (lambda x: len(x), "has no length: .*in .shape"),
    "float": (lambda x: float(x), "is no number: .* call a Model on arrays"),
    "int": (lambda x: int(x), "is no number"),
    "condition": (lambda x: 1 if x else 2, "is neither true nor false: .* cannot depend on values"),
    "condition of values": (lambda x: 1 if x > 0 else 2, "cannot be compared"),
    "power": (lambda x: x**2, r"only takes \+, -, \* and division by a number"),
    "reciprocal": (lambda x: 1 / x, "only takes"),
    "reciprocal in NumPy": (lambda x: np.float32(1) / x, "is no argument for numpy.divide"),
    "product of matrices": (lambda x: np.ones((2, 2)) @ x, "is no argument for numpy.matmul"),
    "sum with an array": (lambda x: np.ones(4) + x, "the other operand must be a symbolic tensor or a number"),
}


@pytest.mark.parametrize("name", ON_SYMBOLS)
def test_symbolic_tensors_hold_no_numbers(name):
    call, words = ON_SYMBOLS[name]
    with pytest.raises(TypeError, match=words) as error:
        call(TENSOR)
    assert "<symbolic tensor (None, 6, 6, 4) conv>" in str(error.value)


@pytest.mark.parametrize("name", ["view", "reshape", "flatten", "mean", "size", "dtype"])
def test_symbolic_tensors_have_no_methods_of_arrays(name):
    with pytest.raises(AttributeError, match=f"a symbolic tensor has no attribute '{name}': .* Flatten, Permute"):
        getattr(TENSOR, name)
    assert not hasattr(TENSOR, name)


def test_numbers_of_numpy_make_layers(rng):
    x = fc.Input((3,))
    model = fc.Model(x, np.float32(2) * x + np.array(1.0) - np.add(x, x) / np.float64(4))
    data = rng.standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(model.predict(data), 2 * data + 1 - data / 2, rtol=1e-6)
