"""What Keras offers by several names: functions beside classes, small letters, clones, inputs with more arguments."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import (
    activations,
    initializers,
    losses,
    metrics,
    ops,
    optimizers,
    reference,
    regularizers,
    schedules,
    utils,
)
from fastcnn import layers as L  # noqa: N812
from tests.check import bits
from tests.small_nets import SPARSE, X, Y, compiled, tiny_cnn, unet

# ------------------------------------------------------------------------------------------ small letters


@pytest.mark.parametrize("module", [regularizers, initializers])
def test_classes_go_by_their_names_in_small_letters(module):
    for name, cls in module._TABLE.items():
        assert getattr(module, name) is cls
    assert regularizers.l2(0.5).l2 == 0.5 and isinstance(regularizers.l1_l2(l1=0.1), regularizers.L1L2)


LOSS_FUNCTIONS = {losses.categorical_crossentropy: "categorical_crossentropy", losses.huber: "huber",
                  losses.sparse_categorical_crossentropy: SPARSE, losses.binary_crossentropy: "binary_crossentropy",
                  losses.mean_squared_error: "mse", losses.mean_absolute_error: "mae", losses.hinge: "hinge",
                  losses.kl_divergence: "kl_divergence"}


@pytest.mark.parametrize(("function", "name"), list(LOSS_FUNCTIONS.items()), ids=lambda case: str(case)[:20])
def test_losses_as_functions(function, name, rng):
    """On arrays they give a value per position; in compile they are the losses of their names."""
    scores = rng.random((4, 6, 5)) + 0.1
    p = scores / scores.sum(-1, keepdims=True)
    t = rng.integers(0, 5, (4, 6)) if name == SPARSE else np.eye(5)[rng.integers(0, 5, (4, 6))]
    values = function(t, p)
    assert values.shape == (4, 6) and values.mean() == pytest.approx(losses.get(name)(t, p))
    assert type(losses.get(function)) is type(losses.get(name)) is type(metrics.get(function).loss)
    assert getattr(metrics, function.__name__) is function
    assert metrics.get(function).name == function.__name__


def test_loss_functions_take_the_arguments_of_their_classes(rng):
    z, t = rng.standard_normal((4, 3)), np.eye(3)[[0, 2, 1, 1]]
    both = (losses.categorical_crossentropy(t, z, from_logits=True, label_smoothing=0.1),
            losses.CategoricalCrossentropy(True, 0.1).per_position(t, z))
    assert both[0].tolist() == both[1].tolist()
    assert losses.huber([[0.0]], [[3.0]], delta=2.0) == [4.0]


def test_models_train_with_functions(tmp_path):
    path, models = tmp_path / "model.safetensors", [tiny_cnn(), tiny_cnn()]
    models[1].set_weights(models[0].get_weights())
    given = ((losses.sparse_categorical_crossentropy, metrics.sparse_categorical_accuracy),
             (SPARSE, "sparse_categorical_accuracy"))
    logs = [compiled(model, "sgd", loss, metrics=[metric]).train_on_batch(X, Y, return_dict=True)
            for model, (loss, metric) in zip(models, given, strict=True)]
    assert logs[0] == logs[1] and bits(models[0]) == bits(models[1])
    models[0].save(path)
    assert fc.load_model(path).metrics_names == ["loss", "sparse_categorical_accuracy"]
    with pytest.raises(TypeError, match="has no gradient; make a subclass"):
        compiled(tiny_cnn(), "sgd", lambda y_true, y_pred: 0.0)


@pytest.mark.parametrize("name", ["categorical_accuracy", "sparse_categorical_accuracy", "binary_accuracy",
                                  "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy"])
def test_accuracies_as_functions(name, rng):
    p, labels = rng.random((30, 8)), rng.integers(0, 8, 30)
    t = labels if "sparse" in name else np.eye(8)[labels]
    metric = metrics.get(getattr(metrics, name))
    assert type(metric) is type(metrics.get(name)) and metric.name == name
    metric.update(t, p)
    assert np.mean(getattr(metrics, name)(t, p)) == pytest.approx(metric.result())
    if "top_k" in name:
        assert getattr(metrics, name)(t, p, k=8).all()


# ------------------------------------------------------------------------------------------ activations


@pytest.mark.parametrize("name", L.activations.ACTIVATIONS)
def test_activations_as_functions(name, rng):
    x = rng.standard_normal((3, 5)).astype(np.float32)
    function = getattr(activations, name)
    assert function.__name__ == name and activations.get(name) is activations.get(function) is function
    np.testing.assert_allclose(function(x), getattr(reference, name)(x), rtol=1e-5, atol=1e-6)
    symbol = fc.Input((5,))
    assert fc.Model(symbol, function(symbol)).predict(x).tobytes() == L.Activation(name)(x).tobytes()
    for given in (function, getattr(ops, name)):
        assert L.Dense(2, activation=given).get_config()["activation"] == name


def test_other_functions_are_no_activations():
    assert activations.get(None) is activations.linear
    for wrong in (np.tanh, lambda x: x, L.ReLU()):
        with pytest.raises(TypeError, match="activation must be a name"):
            L.Dense(2, activation=wrong)
    with pytest.raises(ValueError, match=r"activations\.get: unknown activation 'rleu'. Did you mean 'relu'"):
        activations.get("rleu")


# ------------------------------------------------------------------------------------------ merging


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate"])
def test_merging_by_functions(name, rng):
    arrays = [rng.standard_normal((2, 3, 3, 4)).astype(np.float32) for _ in range(2)]
    inputs, layer = [fc.Input((3, 3, 4)), fc.Input((3, 3, 4))], getattr(L, name.capitalize())
    output = getattr(L, name)(inputs, name="merged")
    assert output.node.layer.name == "merged" and type(output.node.layer) is layer
    want = layer()(arrays)
    assert fc.Model(inputs, output).predict(arrays).tobytes() == want.tobytes()
    assert getattr(L, name)(arrays).tobytes() == want.tobytes()


def test_concatenate_along_another_axis(rng):
    arrays = [rng.standard_normal((2, n, 4)).astype(np.float32) for n in (3, 5)]
    assert (L.concatenate(arrays, axis=1) == np.concatenate(arrays, axis=1)).all()


# ------------------------------------------------------------------------------------------ clones


class Scale(L.Layer):
    """A layer of one's own, with a weight."""

    def __init__(self, factor=2.0, name=None):
        super().__init__(name=name)
        self.factor = factor

    def build(self, input_shape):
        self.add_weight((1,), "ones", "weight")

    def forward(self, x, training):
        return x * self.factor * self.variables[0].value

    def backward(self, dy):
        self.gradients["weight"] = np.zeros(1)
        return dy * self.factor * self.variables[0].value

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Halves(initializers.Initializer):
    """An initialiser of one's own."""

    def values(self, shape, rng):
        return np.full(shape, 0.5)


def subclass():
    class Net(fc.Model):
        def __init__(self):
            super().__init__(name="net")
            self.out = L.Dense(3, kernel_initializer=Halves())

        def call(self, x):
            return Scale(3.0)(self.out(x))

    net = Net()
    net.build((None, 4))
    return net


@pytest.mark.parametrize("make", [tiny_cnn, unet, subclass])
def test_clones_have_new_weights_and_nothing_in_common(make):
    model = make()
    model.layers[0].trainable = False
    twin = fc.models.clone_model(model)
    assert twin.name == model.name and isinstance(twin, fc.Sequential) == isinstance(model, fc.Sequential)
    assert [v.path for v in twin.weights] == [v.path for v in model.weights]
    assert [layer.trainable for layer in twin.layers] == [layer.trainable for layer in model.layers]
    assert {*map(id, twin.weights)}.isdisjoint(map(id, model.weights))
    x = np.random.default_rng(0).random((2, *model.input_shape[1:]))
    if make is not subclass:
        assert (twin.weights[0].value != model.weights[0].value).any()
    before = bits(model)
    twin.set_weights(model.get_weights())
    assert twin.predict(x).tobytes() == model.predict(x).tobytes()
    twin.weights[0].assign(twin.weights[0].value + 1)
    assert bits(model) == before


def test_a_clone_is_not_compiled():
    twin = fc.clone_model(compiled(tiny_cnn()))
    with pytest.raises(ValueError, match="must be compiled first"):
        twin.fit(X, Y)


def test_what_cannot_be_cloned():
    with pytest.raises(TypeError, match="clone_model: expected a Model, got <Dense"):
        fc.clone_model(L.Dense(3))
    with pytest.raises(ValueError, match="has no shapes yet"):
        fc.clone_model(fc.Sequential([L.Dense(3)]))


# ------------------------------------------------------------------------------------------ neutral arguments


@pytest.mark.parametrize(("make", "words"), [
    (lambda **words: L.Conv2D(2, 3, **words), {"data_format": "channels_last", "kernel_constraint": None,
                                               "activity_regularizer": None, "bias_regularizer": None}),
    (L.MaxPooling2D, {"data_format": None, "dtype": "float32"}), (L.BatchNormalization, {"gamma_constraint": None}),
    (lambda **words: L.Dropout(0.5, **words), {"noise_shape": None}), (optimizers.Adam, {"amsgrad": False}),
    (optimizers.SGD, {"use_ema": False, "ema_momentum": 0.99, "gradient_accumulation_steps": None}),
    (losses.Huber, {"reduction": "sum_over_batch_size"}), (metrics.AUC, {"curve": "ROC", "dtype": None}),
    (fc.callbacks.TensorBoard, {"histogram_freq": 0, "write_graph": True}),
])
def test_arguments_of_keras_that_change_nothing_are_taken(make, words):
    assert config_of(make(**words)) == config_of(make())


def config_of(made):
    return {**made.get_config(), "name": None} if hasattr(made, "get_config") else type(made)


class KerasLike(L.Layer):
    """Passes on what it does not know, as layers for Keras do; its constructor runs once."""

    made = 0

    def __init__(self, units, **words):
        type(self).made += 1
        super().__init__(**words)
        self.units = units


def test_what_a_layer_passes_on():
    KerasLike.made = 0
    layer = KerasLike(3, dtype="float32", name="mine", trainable=False)
    assert (layer.name, layer.trainable, KerasLike.made) == ("mine", False, 1)
    with pytest.raises(ValueError, match="^KerasLike: dtype can only be None or 'float32' here, got 'float16'"):
        KerasLike(3, dtype="float16")
    with pytest.raises(TypeError, match="^KerasLike: unknown argument 'nmae'. Did you mean 'name'"):
        KerasLike(3, dtype="float32", nmae="mine")


def test_layers_are_called_without_a_mask():
    layer = L.Flatten()
    assert layer(X, mask=None).tobytes() == X.tobytes()
    with pytest.raises(ValueError, match="^Flatten: mask can only be None here"):
        layer(X, mask=X > 0)


def test_methods_of_models_take_them_too(tmp_path, capsys):
    model = compiled(tiny_cnn(), metrics=["accuracy"])
    model.summary(expand_nested=False, line_length=None)
    model.save(tmp_path / "model.safetensors", overwrite=True)
    model.save_weights(tmp_path / "weights.safetensors", overwrite=True)
    assert "conv2d" in capsys.readouterr().out
    loaded = fc.models.load_model(tmp_path / "model.safetensors", compile=False)
    assert bits(loaded) == bits(model)
    with pytest.raises(ValueError, match="must be compiled first"):
        loaded.evaluate(X, Y)
    with pytest.raises(ValueError, match=r"^Sequential\.save: overwrite can only be True here, got False"):
        model.save(tmp_path / "model.safetensors", overwrite=False)
    with pytest.raises(TypeError, match=r"^Sequential\.summary: unknown argument 'width'"):
        model.summary(width=80)
    with pytest.raises(TypeError, match="compile must be True or False, got 'no'"):
        fc.load_model(tmp_path / "model.safetensors", compile="no")


@pytest.mark.parametrize(("make", "message"), [
    (lambda: L.Conv2D(2, 3, data_format="channels_first"),
     "Conv2D: data_format can only be None or 'channels_last' here, got 'channels_first'; leave it out"),
    (lambda: L.Dense(2, bias_regularizer="l2"), "Dense: bias_regularizer can only be None here, got 'l2'"),
    (lambda: L.Dense(2, dtype=np.zeros(2)), "Dense: dtype can only be None or 'float32' here"),
    (lambda: optimizers.Adam(amsgrad=True), "Adam: amsgrad can only be False here, got True"),
    (lambda: optimizers.Adam(amsgrad=0), "Adam: amsgrad can only be False here, got 0"),
    (lambda: losses.MeanSquaredError(reduction="sum"), "MeanSquaredError: reduction can only be 'sum_over_batch_size'"),
    (lambda: fc.callbacks.TensorBoard(histogram_freq=1), "TensorBoard: histogram_freq can only be 0 here, got 1"),
])
def test_their_other_values_are_refused(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value).startswith(message)


# ------------------------------------------------------------------------------------------ Input, utils


@pytest.mark.parametrize("words", [{"shape": (4, 4, 1)}, {"batch_shape": (None, 4, 4, 1)},
                                   {"batch_shape": [8, 4, 4, 1]},
                                   {"shape": (4, 4, 1), "dtype": "float32", "batch_size": 8},
                                   {"shape": (4, 4, 1), "dtype": np.float32},
                                   {"shape": (4, 4, 1), "dtype": np.dtype("float32")}])
def test_inputs(words):
    assert fc.Input(**words).shape == (None, 4, 4, 1)


@pytest.mark.parametrize(("words", "error", "message"), [
    ({"shape": (4,), "dtype": "uint8"}, ValueError, "dtype must be 'float32' or None, got 'uint8'; leave it out"),
    ({"shape": (4,), "dtype": 3}, ValueError, "dtype must be 'float32' or None, got 3"),
    ({"shape": (4,), "batch_shape": (None, 4)}, ValueError, "give either shape and batch_size, or batch_shape"),
    ({"batch_shape": (None,)}, TypeError, r"batch_shape must be a tuple such as \(None, 28, 28, 1\), got \(None,\)"),
    ({"batch_shape": (0, 4)}, ValueError, "batch_size must be a whole number of 1 or more, got 0"),
    ({"batch_shape": (None, None, 4)}, ValueError, "shape must have known sizes"),
    ({}, TypeError, "shape must be a tuple"),
])
def test_wrong_inputs(words, error, message):
    with pytest.raises(error, match=f"^Input: {message}"):
        fc.Input(**words)


class Numbered(utils.PyDataset):
    """Two batches of the images, as a program for Keras has them."""

    def __init__(self, **words):
        super().__init__(**words)
        self.epochs = 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[12 * index : 12 * index + 12], Y[12 * index : 12 * index + 12]

    def on_epoch_end(self):
        self.epochs += 1


def test_data_sets_by_number():
    data, model = Numbered(workers=4, max_queue_size=5), compiled(tiny_cnn(), metrics=["accuracy"])
    assert model.evaluate(data, verbose=0) == pytest.approx(model.evaluate(X, Y, verbose=0))
    model.fit(data, epochs=3, validation_data=data, verbose=0)
    assert data.epochs == 7 and len(model.predict(data)) == len(X)
    assert utils.Sequence is utils.PyDataset and [len(y) for _, y in data] == [12, 11]


def test_endless_data_sets():
    class Endless(utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return X[:2] + index, Y[:2]

    history = compiled(tiny_cnn()).fit(Endless(), steps_per_epoch=3, epochs=2, verbose=0).history
    assert len(history["loss"]) == 2


def test_unfinished_data_sets():
    with pytest.raises(NotImplementedError, match="PyDataset must define __len__"):
        compiled(tiny_cnn()).evaluate(utils.PyDataset(), verbose=0)
    with pytest.raises(NotImplementedError, match="PyDataset must define __getitem__"):
        utils.PyDataset()[0]
    with pytest.raises(TypeError, match="Numbered: unknown argument 'worker'. Did you mean 'workers'"):
        Numbered(worker=3)


def test_schedules_are_also_found_beside_the_optimizers():
    for name in optimizers.schedules.__all__:
        assert getattr(optimizers.schedules, name) is getattr(schedules, name)


def test_metrics_by_keras_methods():
    metric = metrics.SparseCategoricalAccuracy()
    metric.update_state([0, 1], [[1, 0], [1, 0]], [3.0, 1.0])
    assert metric.result() == 0.75
    metric.reset_state()
    assert metric.result() == 0.0


def test_set_random_seed():
    utils.set_random_seed(4)
    first = bits(tiny_cnn())
    fc.seed(4)
    assert bits(tiny_cnn()) == first
    with pytest.raises(AttributeError, match="no attribute 'plot_modle'"):
        _ = utils.plot_modle
