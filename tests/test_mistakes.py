"""Common mistakes with models and data: each is an error that names the place, what came, and what to do."""

from __future__ import annotations

import copy
import re
import warnings

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import callbacks
from fastcnn import layers as L  # noqa: N812
from tests.small_nets import SPARSE, X, Y, compiled


class Double(L.Layer):
    """A layer in NumPy."""

    def forward(self, x, training):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


def flat_net(units=5, activation="softmax"):
    return fc.Sequential(
        [L.Flatten(input_shape=(12, 12, 3)), L.Dense(units, activation=activation, name="out")], name="net"
    )


def fit(*data, **words):
    return compiled(flat_net(), words.pop("optimizer", "sgd"), words.pop("loss", SPARSE)).fit(
        *data, verbose=0, **words
    )


def compile_with(**words):
    return lambda: flat_net().compile(**words)


def layer_of(**methods):
    """A network with a layer in NumPy of these methods, after a layer of weights."""
    layer = type("Mine", (Double,), methods)(name="mine")
    return fc.Sequential([L.Conv2D(4, 3, input_shape=(12, 12, 3)), layer, L.Flatten(), L.Dense(5, "softmax")])


def no_super_in_layer():
    class Mine(L.Layer):
        def __init__(self):
            self.factor = 2

    fc.Sequential([L.Dense(3, input_shape=(3,)), Mine()])


def loss_of(per_sample=lambda y_true, y_pred: y_pred.sum(1), gradient=lambda y_true, y_pred: np.zeros_like(y_pred),
            **words):
    """Train with a loss that returns what these functions do."""
    methods = {"per_sample": lambda self, *arrays: per_sample(*arrays),
               "gradient": lambda self, *arrays: gradient(*arrays)}
    fit(X, np.zeros((len(X), 5)), loss=type("Mine", (fc.losses.Loss,), methods)("mine"), **words)


def metric_of(value):
    model = flat_net()
    model.compile("sgd", SPARSE, metrics=[fc.metrics.FunctionMetric(lambda y_true, y_pred: value, "mine")])
    return model.evaluate(X, Y, verbose=0)


def no_super():
    class Net(fc.Model):
        def __init__(self):
            self.out = L.Dense(3)

        def call(self, x):
            return self.out(x)

    Net().predict(X)


class BadGradient(L.Layer):
    """A layer in NumPy whose gradient has another shape than the weight."""

    def build(self, input_shape):
        self.add_weight((input_shape[-1], 2), "ones", "w")

    def forward(self, x, training):
        return x

    def backward(self, dy):
        self.gradients["w"] = np.zeros((2, 3))
        return dy


def bad_gradient():
    model = fc.Sequential([L.Dense(3, input_shape=(3,)), BadGradient(name="mine")])
    compiled(model, "sgd", "mse").train_on_batch(np.ones((2, 3)), np.ones((2, 3)))


def numpy_layer_twice():
    layer = Double(name="mine")
    compiled(
        fc.Sequential([L.Dense(3, input_shape=(3,)), layer, fc.Sequential([layer])]), "sgd", "mse"
    ).train_on_batch(np.ones((2, 3)), np.ones((2, 3)))


WITH_NAN = X.copy()
WITH_NAN[3, 0, 1, 2] = np.nan

MISTAKES = {
    "wrong channels": (
        lambda: fit(X[..., :1], Y),
        ValueError,
        r"net\.fit: .*\(None, 12, 12, 3\), got \(23, 12, 12, 1\)",
    ),
    "channels first": (lambda: fit(X.transpose(0, 3, 1, 2), Y), ValueError, r"channels come last.*transpose"),
    "no channel axis": (lambda: fit(X[..., 0], Y), ValueError, r"\(None, 12, 12, 3\), got \(23, 12, 12\)"),
    "one axis too many": (lambda: fit(X[..., None, None], Y), ValueError, r"got \(23, 12, 12, 3, 1, 1\)"),
    "no batch axis": (lambda: flat_net().predict(X[0]), ValueError, r"batch axis: x\[None\]"),
    "image below kernel": (
        lambda: fc.Sequential([L.Conv2D(4, 5, input_shape=(3, 3, 1), name="conv")]),
        ValueError,
        r"conv: the window of 5x5 pixels is larger than the image of 3x3.*padding='same'",
    ),
    "too many poolings": (
        lambda: fc.Sequential(
            [L.MaxPooling2D(2, input_shape=(4, 4, 1)), L.MaxPooling2D(2), L.MaxPooling2D(2, name="last")]
        ),
        ValueError,
        r"last: .*2x2 pixels is larger than the image of 1x1.*fewer pooling layers",
    ),
    "label too large": (
        lambda: fit(X, Y + 1),
        ValueError,
        r"label 5 at index \d+ is outside 0\.\.4 \(5 classes\)",
    ),
    "label negative": (lambda: fit(X, Y - 1), ValueError, r"label -1 at index \d+ is outside 0\.\.4"),
    "half a label": (lambda: fit(X, Y + 0.5), ValueError, r"integer class labels, got \d\.5 at index 0"),
    "labels as text": (
        lambda: fit(X, Y.astype(str)),
        TypeError,
        "integer class labels, got an array of dtype <U",
    ),
    "one-hot for sparse": (
        lambda: fit(X, np.eye(5)[Y]),
        ValueError,
        "one-hot targets belong to.*'categorical_",
    ),
    "labels for one-hot": (
        lambda: fit(X, Y, loss="categorical_crossentropy"),
        ValueError,
        r"use loss='sparse_categorical_crossentropy', or fastcnn\.utils\.to_categorical\(y, 5\)",
    ),
    "NaN in x": (lambda: fit(WITH_NAN, Y), ValueError, r"x holds nan at \(3, 0, 1, 2\).*nan_to_num"),
    "infinity in x": (
        lambda: fit(np.where(np.isnan(WITH_NAN), -np.inf, X), Y),
        ValueError,
        r"x holds -inf at \(3, 0",
    ),
    "NaN in y": (
        lambda: fit(X, np.full((23, 5), np.nan), loss="mse"),
        ValueError,
        r"finite, got nan at index \(0, 0\)",
    ),
    "object array": (
        lambda: fit(np.array([None] * 23), Y),
        TypeError,
        "x must hold real numbers, got dtype object",
    ),
    "images in a list": (lambda: fit(list(X), Y), ValueError, r"expected 1 array, got 23; .*numpy\.stack"),
    "complex x": (lambda: fit(X.astype(complex), Y), TypeError, "real numbers, got dtype complex128"),
    "y too short": (lambda: fit(X, Y[:20]), ValueError, "same number of samples, but x has 23, y has 20"),
    "y a number": (lambda: fit(X, 3), ValueError, "y must be an array.*got a single value"),
    "y missing": (lambda: fit(X), ValueError, "y is missing; give the targets after x"),
    "no samples": (lambda: fit(X[:0], Y[:0]), ValueError, r"net\.fit: the data holds no samples"),
    "no samples to test": (
        lambda: compiled(flat_net()).evaluate(X[:0], Y[:0]),
        ValueError,
        "the data holds no samples",
    ),
    "empty batch": (
        lambda: compiled(flat_net()).train_on_batch(X[:0], Y[:0]),
        ValueError,
        "the batch holds no samples",
    ),
    "generator read twice": (
        lambda: fit(iter([(X, Y)]), epochs=2),
        ValueError,
        "epoch 2 .*generator.*only once",
    ),
    "batches of one": (lambda: fit(iter([X])), ValueError, r"every batch must be \(x, y\)"),
    "y beside batches": (
        lambda: fit(iter([(X, Y)]), Y),
        ValueError,
        "y cannot be given when x yields the batches",
    ),
    "unknown optimizer": (
        compile_with(optimizer="adm", loss="mse"),
        ValueError,
        "unknown optimizer 'adm'.*'adam'",
    ),
    "unknown loss": (
        compile_with(loss="categorical_crossentropi"),
        ValueError,
        "Did you mean 'categorical_crossen",
    ),
    "unknown metric": (compile_with(loss="mse", metrics=["acuracy"]), ValueError, "Did you mean 'accuracy'"),
    "metrics not a list": (
        compile_with(loss="mse", metrics="accuracy"),
        TypeError,
        r"metrics must be a list.*\['acc",
    ),
    "unknown activation": (
        lambda: L.Dense(3, activation="rleu", name="d"),
        ValueError,
        "d: unknown.*mean 'relu'",
    ),
    "unknown layer name": (
        lambda: flat_net().get_layer("uot"),
        ValueError,
        "unknown layer 'uot'. Did you mean 'out'",
    ),
    "not compiled": (lambda: flat_net().fit(X, Y), ValueError, "net must be compiled first"),
    "no loss": (lambda: fit(X, Y, loss=None), ValueError, "without a loss"),
    "losses for outputs": (lambda: fit(X, Y, loss=["mse", "mse"]), ValueError, "the model has 1 outputs"),
    "batch size 0": (lambda: fit(X, Y, batch_size=0), ValueError, "batch_size must be a whole number of 1 or more"),
    "batch size 1.5": (lambda: fit(X, Y, batch_size=1.5), TypeError, "batch_size must be a whole number.*got 1.5"),
    "split of 1": (
        lambda: fit(X, Y, validation_split=1.0),
        ValueError,
        r"validation_split must be in \[0, 1\)",
    ),
    "tiny split": (lambda: fit(X, Y, validation_split=0.999), ValueError, "leaves no samples to train on"),
    "callback class": (lambda: fit(X, Y, callbacks=[callbacks.History]), TypeError, r"write History\(\)"),
    "sample_weight short": (
        lambda: fit(X, Y, sample_weight=[1, 2]),
        ValueError,
        "sample_weight must be 23 numbers",
    ),
    "class_weight word": (
        lambda: fit(X, Y, class_weight="balanced"),
        TypeError,
        "class_weight must be a dict",
    ),
    "layer class": (
        lambda: fc.Sequential([L.Flatten]),
        TypeError,
        r"expected a layer.*write Flatten\(\.\.\.\)",
    ),
    "no super().__init__": (
        no_super,
        AttributeError,
        r"Net\.__init__ must call super\(\)\.__init__\(\) first",
    ),
    "two inputs for a stack": (
        lambda: fc.Sequential([L.Dense(3)], name="net").predict([X, X]),
        ValueError,
        "net: a stack of layers has one input, got a list of 2",
    ),
    "NumPy layer twice": (
        numpy_layer_twice,
        ValueError,
        "mine: a layer written in NumPy can be called only once",
    ),
    "gradient of another shape": (
        bad_gradient,
        ValueError,
        r"mine: self\.gradients\['w'\] must have the weight's shape \(3, 2\), got \(2, 3\)",
    ),
    "beyond float32": (
        lambda: fit(np.where(np.isnan(WITH_NAN), 1e39, X.astype(float)), Y),
        ValueError,
        r"x holds 1e\+39 at \(3, 0, 1, 2\).*to scale",
    ),
    "ragged samples": (
        lambda: fc.Sequential([L.Dense(3)], name="net").predict([[1, 2], [3]]),
        ValueError,
        "net.predict: x must be an array, its samples of equal shape",
    ),
    "images beyond memory": (
        lambda: fc.Sequential([L.UpSampling2D(10**6, input_shape=(8, 8, 3), name="up")], name="net")(
            np.zeros((1, 8, 8, 3))
        ),
        MemoryError,
        r"net: no memory for a batch of 1: up alone takes 7\.15e\+05 GiB; use a smaller batch_size",
    ),
    "images beyond all arrays": (
        lambda: fc.Sequential([L.UpSampling2D(10**9, input_shape=(8, 8, 3), name="up")], name="net")(
            np.zeros((1, 8, 8, 3))
        ),
        MemoryError,
        "net: no memory for a batch of 1: up alone takes",
    ),
    "shuffle by word": (lambda: fit(X, Y, shuffle="batch"), TypeError, "shuffle must be True or False, got 'batch'"),
    "sample_weight NaN": (
        lambda: fit(X, Y, sample_weight=np.full(23, np.nan)),
        ValueError,
        "net.fit: sample_weight must be finite, got nan at index 0",
    ),
    "class_weight by name": (
        lambda: fit(X, Y, class_weight={"cat": 2.0}),
        TypeError,
        "the keys of class_weight must be class numbers, got 'cat'",
    ),
    "class_weight NaN": (
        lambda: fit(X, Y, class_weight={1: np.nan}),
        ValueError,
        r"class_weight\[1\] must be finite",
    ),
    "labels of images for maps": (
        lambda: compiled(fc.Sequential([L.Dense(5, activation="softmax", input_shape=(12, 12, 3))])).fit(X, Y),
        ValueError,
        r"for one label per sample, put Flatten\(\) or GlobalAveragePooling2D\(\) before the last layer",
    ),
    "a layer's weights": (
        lambda: flat_net().get_layer("out").set_weights([np.zeros((432, 5)), np.zeros(4)]),
        ValueError,
        r"out: out/bias has shape \(5,\), got \(4,\)",
    ),
    "copied model": (lambda: copy.deepcopy(flat_net()), TypeError, r"net: a model cannot be .*model\.save\(path\)"),
    "saved to a number": (lambda: flat_net().save(3), TypeError, "expected the path of a file, got 3"),
    "file of another kind": (
        lambda: fc.load_model("model.h5"),
        ValueError,
        r"must end in '\.safetensors', got 'model\.h5'; fastcnn reads no other kind",
    ),
    "split in words": (
        lambda: fit(X, Y, validation_split="a fifth"),
        TypeError,
        "fit: validation_split must be a number, got 'a fifth'",
    ),
    "x of no kind": (lambda: fit(object()), TypeError, r"fit: x must be an array, .*iterable of batches, got object"),
    "prediction of no kind": (lambda: flat_net().predict(object()), TypeError, "predict: x must be an array, .*object"),
    "validation data of no kind": (
        lambda: fit(X, Y, validation_data=object()),
        TypeError,
        "validation_data: x must be an array, .*got object",
    ),
    "layer instead of a list": (lambda: fc.Sequential(L.Dense(3)), TypeError, r"must be a list, got .*write \[...\]"),
    "index as a name": (lambda: flat_net().get_layer(1), TypeError, "name must be a string, got 1; write index=1"),
    "name as an index": (lambda: flat_net().get_layer(index="out"), TypeError, "index must be a whole number"),
    "count without shapes": (lambda: fc.Sequential([L.Dense(3)]).count_params(), ValueError, "has no shapes yet"),
    "weights without shapes": (
        lambda: fc.Sequential([L.Dense(3)]).set_weights([np.zeros((2, 3)), np.zeros(3)]),
        ValueError,
        "has no shapes yet",
    ),
    "weights of text": (
        lambda: flat_net().set_weights([w.astype(str) for w in flat_net().get_weights()]),
        TypeError,
        "set_weights: out/kernel must hold real numbers, got dtype <U",
    ),
    "complex weight": (
        lambda: flat_net().weights[1].assign(np.zeros(5, complex)),
        TypeError,
        "out/bias: the values must hold real numbers, got dtype complex",
    ),
    "no weights": (lambda: flat_net().set_weights(None), TypeError, "expected a list of 2 arrays, got None"),
    "layer without its base": (no_super_in_layer, AttributeError, r"Mine.__init__ must call super\(\).__init__\(\)"),
    "shape without the batch": (
        lambda: layer_of(compute_output_shape=lambda self, shape: shape[1:]),
        ValueError,
        r"mine: compute_output_shape must return a shape with None for the batch .* got \(10, 10, 4\)",
    ),
    "no shape": (
        lambda: layer_of(compute_output_shape=lambda self, shape: None),
        ValueError,
        "mine: compute_output_shape must return a shape .*got None",
    ),
    "transposed result": (
        lambda: layer_of(forward=lambda self, x, training: x.transpose(0, 3, 1, 2)).predict(X),
        ValueError,
        r"mine: forward must return an array of shape \(\d+, 10, 10, 4\), got \(\d+, 4, 10, 10\)",
    ),
    "transposed gradient": (
        lambda: compiled(layer_of(backward=lambda self, dy: dy.transpose(0, 3, 1, 2))).fit(X, Y, verbose=0),
        ValueError,
        r"mine: backward must return an array of shape \(\d+, 10, 10, 4\), got \(\d+, 4, 10, 10\)",
    ),
    "gradients of other inputs": (
        lambda: compiled(layer_of(backward=lambda self, dy: [dy, dy])).fit(X, Y, verbose=0),
        ValueError,
        "mine: backward must return the gradients of 1 inputs, got 2",
    ),
    "weight for each sample": (
        lambda: L.Layer(name="mine").add_weight((None, 4)),
        TypeError,
        "mine.add_weight: every size in shape must be a whole number of 0 or more, got None",
    ),
    "loss of a batch": (
        lambda: loss_of(lambda y_true, y_pred: 1.0),
        ValueError,
        r"mine: per_sample must return the loss of each of 23 samples, got float64 of shape \(\)",
    ),
    "losses that are no numbers": (
        lambda: loss_of(lambda y_true, y_pred: np.full(len(y_pred), None)),
        ValueError,
        r"mine: per_sample must return the loss of each of 23 samples, got object of shape \(23,\)",
    ),
    "loss without gradient": (
        lambda: loss_of(gradient=lambda y_true, y_pred: None),
        TypeError,
        r"mine: gradient must return an array of shape \(23, 5\), got None; does it end with return",
    ),
    "loss without weighted gradient": (
        lambda: loss_of(gradient=lambda y_true, y_pred: None, sample_weight=np.ones(len(X))),
        TypeError,
        r"mine: gradient must return an array of shape \(23, 5\), got None",
    ),
    "gradient of each sample": (
        lambda: loss_of(gradient=lambda y_true, y_pred: np.ones(len(y_pred))),
        ValueError,
        r"mine: gradient must return an array of shape \(23, 5\), got \(23,\)",
    ),
    "gradient of each sample, weighted": (
        lambda: loss_of(gradient=lambda y_true, y_pred: np.ones(len(y_pred)), sample_weight=np.ones(len(X))),
        ValueError,
        r"mine: gradient must return an array of shape \(23, 5\), got \(23,\)",
    ),
    "complex gradient": (
        lambda: loss_of(gradient=lambda y_true, y_pred: y_pred * 1j),
        TypeError,
        r"mine: gradient must return an array of shape \(23, 5\) that holds real numbers, got dtype complex64",
    ),
    "ragged gradient": (
        lambda: loss_of(gradient=lambda y_true, y_pred: [[1.0], [2.0, 3.0]]),
        ValueError,
        r"mine: gradient must return an array of shape \(23, 5\): .*inhomogeneous",
    ),
    "layer without gradient": (
        lambda: compiled(layer_of(backward=lambda self, dy: None)).fit(X, Y, verbose=0),
        TypeError,
        r"mine: backward must return an array of shape \(\d+, 10, 10, 4\), got None; does it end with return",
    ),
    "metric of nothing": (lambda: metric_of(None), ValueError, "mine: the function must return a number, .*object"),
    "metric of other samples": (lambda: metric_of(np.ones(3)), ValueError, r"the function .*got float64 .*\(3,\)"),
    "division by zero": (lambda: fc.Input((3,)) / 0, ValueError, "the divisor must not be 0"),
    "division by an array": (lambda: fc.Input((3,)) / np.ones(3), TypeError, "the divisor must be a number"),
    "disconnected graph": (
        lambda: fc.Model(fc.Input((3,)), L.Dense(2)(fc.Input((3,)))),
        ValueError,
        "not among the model's inputs",
    ),
    "layer on a model": (lambda: L.Dense(2, name="d")(flat_net()), TypeError, "d: called on a model; call it on"),
    "shape in pieces": (lambda: fc.Input(28, 28, 1), TypeError, r"a shape is one tuple, such as \(28, 28, 1\)"),
    "arrays as inputs": (lambda: fc.Model(X, X), TypeError, "inputs must be symbolic tensors"),
    "wrong weights": (
        lambda: flat_net().set_weights([np.zeros((2, 2)), np.zeros(5)]),
        ValueError,
        r"out/kernel has shape \(432, 5\), got \(2, 2\)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name):
    make, error, message = MISTAKES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the explanation comes as an error, not as a warning of NumPy's
        with pytest.raises(error) as caught:
            make()
    assert re.search(message, str(caught.value)), str(caught.value)


def test_a_refused_fit_leaves_the_model_unchanged():
    model = compiled(flat_net())
    before = model.get_weights()
    for x, y in ((X, Y + 1), (WITH_NAN, Y), (X[:-1], Y)):
        with pytest.raises(ValueError, match="fit"):
            model.fit(x, y, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.optimizer.iterations == 0


def test_weights_that_do_not_fit_change_nothing():
    layer = flat_net().get_layer("out")
    before = layer.get_weights()
    with pytest.raises(ValueError, match="has shape"):
        layer.set_weights([before[0] + 1, np.zeros(4)])
    assert all((a == b).all() for a, b in zip(before, layer.get_weights(), strict=True))


def test_an_interrupted_fit_can_go_on():
    class Interrupt(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    model = compiled(flat_net(), "adam")
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=8, callbacks=[Interrupt()], verbose=0)
    assert model.optimizer.iterations == 2
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0).history
    assert model.optimizer.iterations == 8 and np.isfinite(history["loss"]).all()
