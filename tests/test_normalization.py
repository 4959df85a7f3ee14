"""Normalisation layers and operations: against float64, Keras and their definitions, in training and in inference."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import losses, optimizers, reference
from fastcnn.plan import builder
from fastcnn.plan.lowering import lower
from tests import float64_training as float64
from tests.check import assert_allocates_nothing, bits
from tests.float64_graph import assert_slopes
from tests.small_nets import SPARSE, NumpyAdd

EPSILON = 1e-3


pytestmark = pytest.mark.usefixtures("usual_threads")


def redraw(model, rng) -> None:
    """Weights for which no term of a formula drops out."""
    for v in model.weights:
        positive = v.name in ("gamma", "moving_variance")
        v.assign(rng.uniform(0.5, 1.5, v.shape) if positive else rng.normal(0, 0.4, v.shape))


def batch_net(**words) -> fc.Sequential:
    """Batch normalisation of images and of samples, with every kind of activation after it."""
    same = {"padding": "same", "use_bias": False}
    return fc.Sequential([
        L.Conv2D(8, 3, input_shape=(8, 9, 3), **same), L.BatchNormalization(), L.Activation("relu"), L.MaxPooling2D(2),
        L.Conv2D(6, 3, groups=2, **same), L.BatchNormalization(scale=False, **words), L.Activation("tanh"),
        L.Conv2D(17, 1, use_bias=False), L.BatchNormalization(momentum=0.5, center=False), L.Activation("relu6"),
        L.GlobalAveragePooling2D(), L.BatchNormalization(epsilon=0.1),
        L.Dense(7, use_bias=False), L.BatchNormalization(), L.Dense(5, activation="softmax"),
    ])  # fmt: skip


def sample_net() -> fc.Sequential:
    return fc.Sequential([
        L.Conv2D(8, 3, input_shape=(8, 9, 3)), L.GroupNormalization(4), L.Activation("relu"),
        L.Conv2D(6, 3, padding="same"), L.LayerNormalization(scale=False), L.GroupNormalization(-1),
        L.LayerNormalization(axis=[1, 2, 3], epsilon=0.01), L.Conv2D(6, 2), L.LayerNormalization(axis=[-1, -2]),
        L.Flatten(), L.Dense(5, activation="softmax"),
    ])  # fmt: skip


def data(rng, n=23, shape=(8, 9, 3), classes=5):
    return rng.normal(1, 1, (n, *shape)).astype(np.float32), rng.integers(0, classes, n)


# ------------------------------------------------------------------------------------------ whole training runs


@pytest.mark.parametrize("make", [batch_net, sample_net])
@pytest.mark.parametrize("threads", [1, 3])
def test_ten_steps_follow_float64(make, threads, rng):
    """Losses, weights and moving statistics, with two sizes of batches."""
    fc.set_num_threads(threads)
    model, (x, y) = make(), data(rng)
    redraw(model, rng)
    model.compile(optimizers.SGD(0.05, momentum=0.9), SPARSE)
    want = float64.Float64Training(model, "softmax")
    update = float64.Sgd(learning_rate=0.05, momentum=0.9)
    for step in range(10):
        rows = slice(0, 23 if step % 2 else 16)
        expected = want.step(x[rows], y[rows], update)
        assert model.train_on_batch(x[rows], y[rows]) == pytest.approx(expected, rel=2e-5)
    for v in model.weights:
        np.testing.assert_allclose(v.value, want.weights[v], rtol=1e-4, atol=2e-5, err_msg=v.path)


@pytest.mark.parametrize("frozen", [1, 4, 7])
def test_a_frozen_layer_trains_as_a_constant_map(frozen, rng):
    model, (x, y) = batch_net(), data(rng)
    redraw(model, rng)
    layer = model.layers[[1, 5, 8][[1, 4, 7].index(frozen)]]
    assert isinstance(layer, L.BatchNormalization)
    layer.trainable = False
    before = layer.get_weights()
    model.compile(optimizers.SGD(0.05), SPARSE)
    want = float64.Float64Training(model, "softmax")
    for _ in range(4):
        expected = want.step(x, y, float64.Sgd(learning_rate=0.05))
        assert model.train_on_batch(x, y) == pytest.approx(expected, rel=2e-5)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# Keras 3.15 with TensorFlow 2.21: losses of ten Adam steps, the loss after them in inference, a sample's prediction.
KERAS = {
    "batch": ([1.44337, 1.39369, 1.3508, 1.31277, 1.28035, 1.24974, 1.22079, 1.19335, 1.16584, 1.13789], 1.23016,
              [0.76958, 0.0206902, -0.301603, -1.10544]),
    "others": ([3.60229, 2.08465, 1.04839, 0.460872, 0.177474, 0.0592401, 0.0272573, 0.0168206, 0.012068, 0.00945641],
               0.00782415, [-4.71017, 2.6521, -6.82949, -4.38854]),
}  # fmt: skip


def keras_net(kind):
    """The network and data whose training Keras was asked for."""
    same = {"padding": "same", "use_bias": False}
    body = [
        L.Conv2D(8, 3, **same), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(2),
        L.DepthwiseConv2D(3, **same), L.BatchNormalization(momentum=0.9, scale=False), L.ReLU(6),
        L.Conv2D(6, 1, use_bias=False), L.BatchNormalization(momentum=0.5, center=False, epsilon=0.01),
        L.GlobalAveragePooling2D(),
    ] if kind == "batch" else [
        L.Conv2D(8, 3), L.GroupNormalization(4), L.ReLU(), L.Conv2D(6, 3), L.LayerNormalization(),
        L.Activation("tanh"), L.GroupNormalization(-1, scale=False), L.LayerNormalization(axis=[1, 2, 3]), L.Flatten(),
    ]  # fmt: skip
    model = fc.Sequential([L.Input((8, 9, 3)), *body, L.Dense(4)])
    rng = np.random.default_rng(7)
    x, y = rng.normal(1, 1, (20, 8, 9, 3)), rng.integers(0, 4, 20)
    for v in model.weights:
        if v.name in ("moving_mean", "moving_variance"):
            continue
        level, spread = {"kernel": (0, 0.3), "gamma": (1, 0.2)}.get(v.name, (0, 0.2))
        v.assign(rng.normal(level, spread, v.shape))
    return model, x, y


@pytest.mark.parametrize("kind", KERAS)
def test_ten_adam_steps_follow_keras(kind):
    curve, after, prediction = KERAS[kind]
    model, x, y = keras_net(kind)
    model.compile(optimizers.Adam(0.01), losses.SparseCategoricalCrossentropy(from_logits=True))
    assert [model.train_on_batch(x, y) for _ in range(10)] == pytest.approx(curve, rel=1e-3)
    assert model.test_on_batch(x, y) == pytest.approx(after, rel=1e-3)
    assert model.predict(x)[0] == pytest.approx(prediction, rel=1e-3)


# ------------------------------------------------------------------------------------------ gradients of graphs


def shared(make):
    """One normalisation at two places, with other statistics at each, and read by two layers."""
    x, norm = fc.Input((6, 5, 4)), make()
    a = norm(L.Conv2D(4, 3, padding="same", use_bias=False)(x))
    b = norm(L.Activation("tanh")(a))
    return fc.Model(x, L.Dense(3)(L.Flatten()(NumpyAdd()([a, b]))))


def first_layer(make):
    """The input needs no gradient."""
    x = fc.Input((6, 5, 4))
    return fc.Model(x, L.Dense(3)(L.Flatten()(L.Activation("tanh")(make()(x)))))


@pytest.mark.parametrize("make", [L.BatchNormalization, L.LayerNormalization, lambda: L.GroupNormalization(2),
                                  lambda: L.LayerNormalization([2, 3])])  # fmt: skip
@pytest.mark.parametrize("graph", [shared, first_layer])
def test_gradients_of_graphs(graph, make, rng):
    model = graph(make)
    redraw(model, rng)
    assert_slopes(model, rng.normal(size=(7, 6, 5, 4)), rng.normal(size=(7, 3)))


def test_a_shared_layer_moves_its_statistics_at_each_place(rng):
    model = shared(lambda: L.BatchNormalization(momentum=0.5))
    x = rng.normal(size=(7, 6, 5, 4)).astype(np.float32)
    norm = next(layer for layer in model.layers if isinstance(layer, L.BatchNormalization))
    conv = model.layers[0]
    a = conv(x)
    first = reference.batch_norm(a)
    model(x, training=True)
    mean = 0.25 * a.mean((0, 1, 2)) + 0.5 * np.tanh(first).mean((0, 1, 2))
    variance = 0.25 + 0.25 * a.var((0, 1, 2)) + 0.5 * np.tanh(first).var((0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean.value, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance.value, variance, rtol=1e-5)


# ------------------------------------------------------------------------------------------ moving statistics


def one_norm(**words):
    return fc.Sequential([L.BatchNormalization(input_shape=(4, 3), **words), L.Flatten(), L.Dense(2)])


def moved(model, batches, momentum):
    """What the moving statistics should be after these batches."""
    mean, variance = model.get_weights()[2:4]
    for x in batches:
        mean = momentum * mean + (1 - momentum) * x.mean((0, 1))
        variance = momentum * variance + (1 - momentum) * x.var((0, 1))
    return mean, variance


def test_who_moves_the_statistics(rng):
    x, y = rng.normal(3, 2, (10, 4, 3)), rng.normal(size=(10, 2))
    model = one_norm(momentum=0.8)
    model.compile("sgd", "mse")

    def unchanged(call):
        before = bits(model)
        call()
        return bits(model) == before

    assert unchanged(lambda: model.predict(x)) and unchanged(lambda: model(x))
    assert unchanged(lambda: model.evaluate(x, y, verbose=0)) and unchanged(lambda: model.test_on_batch(x, y))
    for call, batches in (
        (lambda: model.train_on_batch(x, y), [x]),
        (lambda: model(x, training=True), [x]),
        (lambda: model.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0), [x[:4], x[4:8], x[8:]] * 2),
        (lambda: model.layers[0](x, training=True), [x]),
    ):
        wanted = moved(model, batches, 0.8)
        call()
        np.testing.assert_allclose(model.get_weights()[2:4], wanted, rtol=1e-5, atol=1e-6)


def test_order_of_weights():
    model = one_norm()
    assert [v.name for v in model.layers[0].weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [v.name for v in model.layers[0].trainable_weights] == ["gamma", "beta"]
    assert [w.tolist() for w in model.layers[0].get_weights()] == [[1] * 3, [0] * 3, [0] * 3, [1] * 3]


@pytest.mark.parametrize("words", [{}, {"center": False, "scale": False}])
def test_freezing_and_thawing_takes_effect_at_once(words, rng):
    """Also for the layer's own call, and when it has no weights that could be trained."""
    x = rng.normal(3, 2, (10, 4, 3)).astype(np.float32)
    model = one_norm(**words)
    norm = model.layers[0]
    training, inference = reference.batch_norm(x), x / np.sqrt(1 + EPSILON)
    for frozen in (False, True, False, True):
        norm.trainable = not frozen
        norm.moving_mean.assign(np.zeros(3))
        norm.moving_variance.assign(np.ones(3))
        wanted = inference if frozen else training
        np.testing.assert_allclose(norm(x, training=True), wanted, rtol=1e-4, atol=1e-5)
        assert norm.moving_mean.value.any() == (not frozen)
        norm.moving_mean.assign(np.zeros(3))
        norm.moving_variance.assign(np.ones(3))
        flat = wanted.reshape(10, -1)
        np.testing.assert_allclose(model(x, training=True), flat @ model.layers[2].kernel.value, atol=1e-4)


def test_a_batch_of_one_sample():
    """A channel with one value has no variance: only beta remains."""
    model = fc.Sequential([L.BatchNormalization(input_shape=(3,), beta_initializer="ones")])
    np.testing.assert_array_equal(model(np.array([[5.0, -3.0, 0.0]]), training=True), np.ones((1, 3)))


# ------------------------------------------------------------------------------------------ inference


def names(model):
    return [op.name for op in lower(model.graph, False)[0]]


def inference(model, x):
    """Layer by layer, in float64."""
    values = {model.graph.inputs[0]: np.asarray(x, np.float64)}
    for node in model.graph.nodes:
        layer, (x, *others) = node.layer, [values[t] for t in node.inputs]
        if isinstance(layer, L.BatchNormalization):
            gamma = layer.gamma.value if layer.scale else 1.0
            beta = layer.beta.value if layer.center else 0.0
            moving = layer.moving_mean.value, layer.moving_variance.value
            x = reference.batch_norm(x, gamma, beta, *moving, epsilon=layer.epsilon)
        elif isinstance(layer, NumpyAdd):
            x = x + others[0]
        else:
            x = np.asarray(layer(x), np.float64)
        values[node.outputs[0]] = x
    return values[model.graph.outputs[0]]


def folded_net():
    model = fc.Sequential([
        L.Conv2D(8, 3, padding="same", input_shape=(8, 9, 4)), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(2),
        L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), L.BatchNormalization(scale=False), L.ReLU(6),
        L.Conv2D(32, 1, groups=4, use_bias=False), L.BatchNormalization(center=False), L.Activation("tanh"),
        L.Flatten(), L.Dense(130), L.BatchNormalization(scale=False, center=False), L.ReLU(), L.Dense(3),
    ])  # fmt: skip
    kinds = ["conv", "fold_norm", "depthwise", "fold_norm", "conv", "fold_norm", "activation", "reshape", "conv",
             "fold_norm", "conv"]  # fmt: skip
    return model, kinds


def kept_net():
    """Normalisations that no layer can take over: after an activation, a pooling, the input, and where two read x."""
    x = fc.Input((8, 9, 4))
    a = L.BatchNormalization()(L.Conv2D(8, 3, activation="relu")(x))
    a = L.ReLU()(L.BatchNormalization()(L.MaxPooling2D()(L.Conv2D(8, 3)(a))))
    b = L.Conv2D(5, 1)(L.BatchNormalization()(a))
    a = NumpyAdd()([L.BatchNormalization()(b), b])
    kinds = ["conv", "moving_norm", "conv", "moving_norm", "moving_norm", "conv", "moving_norm", "python"]
    return fc.Model(x, a), kinds


@pytest.mark.parametrize("make", [folded_net, kept_net])
def test_inference(make, machine_threads, rng):
    model, kinds = make()
    redraw(model, rng)
    x = rng.normal(size=(9, 8, 9, 4)).astype(np.float32)
    assert names(model) == kinds
    before = bits(model)
    for _ in range(2):  # the second time with other weights, which the folded ones must follow
        wanted = inference(model, x)
        np.testing.assert_allclose(model.predict(x), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
        model.set_weights([w * 1.25 for w in model.get_weights()])
    model.set_weights([w / 1.25**2 for w in model.get_weights()])
    np.testing.assert_allclose(np.frombuffer(bits(model), np.float32), np.frombuffer(before, np.float32), rtol=1e-6)


@pytest.fixture(params=[1, 3])
def machine_threads(request, isa):
    """Each instruction set, on one thread and on three."""
    fc.set_num_threads(request.param)


def test_an_output_before_the_normalisation_is_not_folded(rng):
    x = fc.Input((5, 5, 2))
    conv = L.Conv2D(3, 3)(x)
    model = fc.Model(x, [conv, L.BatchNormalization()(conv)])
    assert names(model) == ["conv", "moving_norm"]
    bare, normal = model.predict(rng.normal(size=(4, 5, 5, 2)))
    np.testing.assert_allclose(normal, bare / np.sqrt(1 + EPSILON), rtol=1e-5)


def test_one_convolution_with_two_normalisations(rng):
    """Each place has folded weights of its own."""
    x, conv = fc.Input((5, 5, 2)), L.Conv2D(2, 3, padding="same")
    model = fc.Model(x, L.BatchNormalization()(conv(L.BatchNormalization()(conv(x)))))
    redraw(model, rng)
    data = rng.normal(size=(4, 5, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(model.predict(data), inference(model, data), rtol=1e-4, atol=1e-5)


def test_training_after_folding_changes_predictions(rng):
    model, (x, y) = batch_net(), data(rng)
    model.compile("adam", SPARSE)
    before = model.predict(x)
    model.fit(x, y, batch_size=8, verbose=0)
    copy = batch_net()
    copy.set_weights(model.get_weights())
    assert not np.array_equal(model.predict(x), before)
    np.testing.assert_array_equal(model.predict(x), copy.predict(x))


# ------------------------------------------------------------------------------------------ bits, memory, files


def trained(threads, make):
    fc.set_num_threads(threads)
    fc.seed(3)
    rng = np.random.default_rng(4)
    model, (x, y) = make(), data(rng, 70)
    model.compile("adam", SPARSE, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=2, verbose=0).history
    return bits(model) + repr(history).encode() + model.predict(x).tobytes()


@pytest.mark.parametrize("make", [batch_net, sample_net])
def test_threads_do_not_change_a_bit(make):
    assert len({trained(threads, make) for threads in (1, 2, 3, 4)}) == 1


def read_in_two_places():
    """Normalised values that one layer reads, and others that two read, or the user."""
    x = fc.Input((8, 9, 3))
    a = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(x)))
    b = L.ReLU(6)(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(a)))
    c = L.BatchNormalization()(L.Conv2D(8, 1)(b))
    d = L.BatchNormalization()(L.Add()([L.Conv2D(8, 3, padding="same")(c), c]))
    head = L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(L.Conv2D(4, 3, strides=2)(d)))
    return fc.Model(x, head), fc.Model(x, [head, d])


def steps_of(model, losses):
    fc.seed(1)
    model.compile("adam", losses)
    x, y = data(np.random.default_rng(1))
    targets = y if len(losses) == 1 else [y, x[..., :1] * np.ones(8)]
    for _ in range(3):
        model.train_on_batch(x, targets)
    (plan,) = model._plans.values()
    return bits(model), plan.bytes["activations"], [name for name, _ in plan.steps if name.endswith("forward again")]


@pytest.mark.parametrize("outputs", [1, 2])
def test_values_computed_anew_change_no_bit(outputs, monkeypatch):
    """In the backward pass, where one layer reads a normalised value and the user does not."""
    monkeypatch.setattr(builder, "CHUNK_BYTES", 1)
    losses = [SPARSE, "mse"][:outputs]
    trained, memory, names = steps_of(read_in_two_places()[outputs - 1], losses)
    assert len(names) == 4 - outputs  # a, b and, unless the user reads it, d
    with monkeypatch.context() as patch:
        patch.setattr(builder.Builder, "saved", builder.Builder.buffer)
        fc.seed(0)
        kept, more, names = steps_of(read_in_two_places()[outputs - 1], losses)
    assert trained == kept and memory < more and not names


@pytest.mark.parametrize("make", [batch_net, sample_net])
def test_a_resumed_training_has_the_same_bits(make, tmp_path, rng):
    model, (x, y) = make(), data(rng)
    model.compile("adam", SPARSE)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "half.safetensors")
    again = fc.load_model(tmp_path / "half.safetensors")
    assert bits(again) == bits(model)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    for one in (model, again):
        one.fit(x, y, batch_size=8, epochs=1, verbose=0, shuffle=False)
    assert bits(again) == bits(model)


def test_a_steady_step_allocates_nothing(rng):
    model, (x, y) = batch_net(), data(rng)
    model.compile("sgd", SPARSE)
    for _ in range(3):
        model.train_on_batch(x, y)
    assert_allocates_nothing(model._plan("train", 23))


def test_regularizers_of_gamma_and_beta(rng):
    """The gradient of l2 is 2 * 0.1 * w, at a learning rate of 1."""
    model = one_norm(gamma_regularizer=fc.regularizers.L2(0.1), beta_initializer="ones")
    x, y = rng.normal(size=(6, 4, 3)), rng.normal(size=(6, 2))
    steps = []
    for factor in (0.1, 0.0):
        model.layers[0].gamma.regularizer = fc.regularizers.L2(factor)
        weights = model.get_weights()
        model.compile(optimizers.SGD(1.0), "mse")
        model.train_on_batch(x, y)
        steps.append(model.layers[0].gamma.value - weights[0])
        model.set_weights(weights)
    np.testing.assert_allclose(steps[0] - steps[1], -0.2 * np.ones(3), rtol=1e-5)


# ------------------------------------------------------------------------------------------ mistakes

X = np.zeros((2, 4, 4, 6))
MISTAKES = [
    (lambda: L.BatchNormalization(axis=1)(X), ValueError, ["axis=1", "(None, 4, 4, 6)", "use axis=-1"]),
    (lambda: L.BatchNormalization(axis=[3]), TypeError, ["axis must be a whole number", "[3]"]),
    (lambda: L.BatchNormalization(axis=True), TypeError, ["axis", "True"]),
    (lambda: L.BatchNormalization(momentum=1.5), ValueError, ["momentum", "at most 1", "1.5"]),
    (lambda: L.BatchNormalization(epsilon=0), ValueError, ["epsilon", "above 0"]),
    (lambda: L.BatchNormalization(center="no"), TypeError, ["center", "True or False"]),
    (lambda: L.BatchNormalization(gamma_initializer="one"), ValueError, ["unknown initializer 'one'"]),
    (lambda: L.BatchNormalization(moving_mean_initializer=3), TypeError, ["initializer", "3"]),
    (lambda: other_sizes(L.BatchNormalization(name="b")), ValueError, ["b: expected", "(6,)", "(5,)", "new layer"]),
    (lambda: L.LayerNormalization()(np.zeros(3)), ValueError, ["(batch, ..., channels)", "x[:, None]"]),
    (lambda: L.LayerNormalization(axis=[1, 3])(X), ValueError, ["several last ones", "[1, 3]"]),
    (lambda: L.LayerNormalization(axis=[0, 1, 2, 3])(X), ValueError, ["without the batch"]),
    (lambda: L.LayerNormalization(axis=[])(X), ValueError, ["expected axis", "[]"]),
    (lambda: L.LayerNormalization(axis=7)(X), ValueError, ["axis=7"]),
    (lambda: L.LayerNormalization(axis="last"), TypeError, ["'last'"]),
    (lambda: other_sizes(L.LayerNormalization([2, 3], name="l")), ValueError, ["l: expected", "(4, 6)", "(4, 5)"]),
    (lambda: L.GroupNormalization(4)(X), ValueError, ["groups=4 must divide", "got 6", "change groups"]),
    (lambda: L.GroupNormalization()(X), ValueError, ["groups=32"]),
    (lambda: L.GroupNormalization(0), ValueError, ["groups", "1 or more", "0"]),
    (lambda: L.GroupNormalization(2.0), TypeError, ["groups", "2.0"]),
    (lambda: L.GroupNormalization(2, axis=2)(X), ValueError, ["axis=2"]),
]


def other_sizes(layer):
    layer(X)
    layer(X[..., :5])


@pytest.mark.parametrize(("attempt", "error", "fragments"), MISTAKES)
def test_mistakes(attempt, error, fragments):
    with pytest.raises(error) as caught:
        attempt()
    assert type(caught.value) is error
    missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
