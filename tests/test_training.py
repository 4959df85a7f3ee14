"""Whole training runs: against float64, to the bit on any number of threads, with every kind of data."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import callbacks, initializers, losses, metrics, optimizers, regularizers, zoo
from fastcnn import layers as L  # noqa: N812
from fastcnn.data import Dataset
from fastcnn.kernels import _cpu
from tests import float64_training as float64

RNG = np.random.default_rng(0)
X = RNG.standard_normal((23, 12, 12, 3)).astype(np.float32)
Y = RNG.integers(0, 5, 23)
START = RNG.bit_generator.state
SPARSE = "sparse_categorical_crossentropy"


@pytest.fixture(autouse=True)
def same_start():
    """Every test draws the same weights and data, whatever ran before it."""
    threads = _cpu.get_num_threads()
    RNG.bit_generator.state = START
    fc.seed(0)
    yield
    _cpu.set_num_threads(threads)


def tiny_cnn(**words) -> fc.Sequential:
    """Like SimpleCNN, for images of 12x12x3 and five classes."""
    return fc.Sequential(
        [
            L.Conv2D(8, 3, padding="same", activation="relu", input_shape=(12, 12, 3), **words),
            L.MaxPooling2D(2),
            L.Conv2D(16, 3, padding="same", activation="relu", **words),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(20, activation="relu", **words),
            L.Dense(5, activation="softmax"),
        ]
    )


def smooth_cnn() -> fc.Sequential:
    """Strides, dilation, groups, overlapping and average pooling, and activations with curves."""
    return fc.Sequential(
        [
            L.Conv2D(8, 5, strides=2, padding="same", activation="tanh", input_shape=(12, 12, 3)),
            L.AveragePooling2D(3, strides=2, padding="same"),
            L.Conv2D(6, 3, dilation_rate=2, padding=((2, 1), (2, 3)), groups=2, activation="gelu"),
            L.AveragePooling2D(2, strides=1),
            L.Conv2D(9, (1, 2), use_bias=False),
            L.Activation("swish"),
            L.GlobalAveragePooling2D(),
            L.Dense(5, activation="softmax"),
        ]
    )


def odd_cnn() -> fc.Sequential:
    """A convolution per channel, overlapping max-pooling, and no softmax."""
    return fc.Sequential(
        [
            L.Conv2D(
                6,
                3,
                groups=3,
                padding=((1, 0), (2, 1)),
                activation="sigmoid",
                use_bias=False,
                input_shape=(12, 12, 3),
            ),
            L.MaxPooling2D(3, strides=2, padding="same"),
            L.Flatten(),
            L.Dense(5, activation="elu"),
        ]
    )


def compiled(model: fc.Model, optimizer="sgd", loss=SPARSE, **words) -> fc.Model:
    model.compile(optimizer, loss, **words)
    return model


def bits(model: fc.Model) -> bytes:
    return b"".join(w.tobytes() for w in model.get_weights())


# ------------------------------------------------------------------------------------------ against float64


def assert_same_course(model, optimizer, update, loss=SPARSE, steps=10, clip=None, tolerance=5e-6):
    """Train engine and float64 side by side: the losses and the final weights must agree."""
    y = Y if loss == SPARSE else RNG.standard_normal((len(X), 5))
    model.compile(optimizer, loss)
    want = float64.Float64Training(model, "softmax" if loss == SPARSE else "mse")
    options = {} if clip is None else {"clip": clip}
    for step in range(steps):
        rows = slice(0, 23 if step % 2 else 16)  # two sizes of batches
        expected = want.step(X[rows], y[rows], update, **options)
        assert model.train_on_batch(X[rows], y[rows]) == pytest.approx(expected, rel=tolerance)
    for variable in model.weights:
        np.testing.assert_allclose(
            variable.value, want.weights[variable], rtol=0, atol=2e-6, err_msg=variable.path
        )
    return want


@pytest.mark.parametrize(("make", "loss"), [(tiny_cnn, SPARSE), (smooth_cnn, SPARSE), (odd_cnn, "mse")])
@pytest.mark.parametrize("threads", [1, 3])
def test_ten_steps_follow_float64(make, loss, threads):
    fc.set_num_threads(threads)
    assert_same_course(
        make(),
        optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        float64.Sgd(learning_rate=0.05, momentum=0.9, nesterov=True),
        loss,
    )


def test_adam_follows_float64():
    """Adam divides by the root of small second moments, which enlarges rounding errors."""
    assert_same_course(
        smooth_cnn(),
        optimizers.Adam(0.01, epsilon=1e-3),
        float64.Adam(learning_rate=0.01, epsilon=1e-3),
        tolerance=1e-5,
    )


def test_regularizers_follow_float64():
    penalty = regularizers.L1L2(1e-3, 2e-2)
    want = assert_same_course(
        tiny_cnn(kernel_regularizer=penalty), optimizers.SGD(0.1), float64.Sgd(learning_rate=0.1)
    )
    assert sum(v.regularizer is not None for v in want.weights) == 3


def test_weight_decay_follows_float64():
    assert_same_course(
        tiny_cnn(), optimizers.SGD(0.1, weight_decay=0.05), float64.Sgd(learning_rate=0.1, weight_decay=0.05)
    )


def clip_each(limit):
    return lambda gradients: [g * min(1.0, limit / np.linalg.norm(g)) for g in gradients]


def clip_together(limit):
    def clip(gradients):
        norm = np.sqrt(sum((g * g).sum() for g in gradients))
        return [g * min(1.0, limit / norm) for g in gradients]

    return clip


@pytest.mark.parametrize(
    ("words", "clip"),
    [
        ({"clipnorm": 0.1}, clip_each(0.1)),
        ({"global_clipnorm": 0.3}, clip_together(0.3)),
        ({"clipvalue": 0.01}, lambda gradients: [np.clip(g, -0.01, 0.01) for g in gradients]),
    ],
)
def test_clipping_follows_float64(words, clip):
    """With penalties, whose gradients count before clipping, and a frozen layer, whose gradient does not."""
    model = tiny_cnn(kernel_regularizer=regularizers.L2(0.01))
    model.layers[2].trainable = False
    clipped = assert_same_course(
        model, optimizers.SGD(0.5, **words), float64.Sgd(learning_rate=0.5), clip=clip
    )
    frozen = {v for v in model.weights if not v.trainable}
    assert len(frozen) == 2
    free = float64.Float64Training(model, "softmax")
    free.weights = dict(clipped.weights)
    gradients = [g for v, g in free.loss_and_gradients(X, Y)[1].items() if v.trainable]
    assert any((a != b).any() for a, b in zip(clip(gradients), gradients, strict=True)), "nothing was clipped"


def test_optimizers_without_a_kernel_clip_too():
    """Adadelta runs in NumPy: its steps with clipping must be those of its own rule on clipped gradients."""
    model = compiled(tiny_cnn(), optimizers.Adadelta(1.0, clipvalue=0.005))
    want = float64.Float64Training(model, "softmax")
    rule, state = optimizers.Adadelta(1.0), {}

    def update(key, w, g):
        slots = state.setdefault(key, {name: np.zeros_like(w) for name in rule.slots})
        rule.update(w, g, slots)
        return w

    for _ in range(5):
        expected = want.step(
            X, Y, update, clip=lambda gradients: [np.clip(g, -0.005, 0.005) for g in gradients]
        )
        assert model.train_on_batch(X, Y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("y", [Y, np.eye(5)[Y]])
def test_sample_and_class_weights_follow_float64(y):
    weights, classes = RNG.random(23), {0: 2.0, 3: 0.25}
    model = compiled(
        tiny_cnn(),
        optimizers.SGD(0.1),
        SPARSE if y.ndim == 1 else "categorical_crossentropy",
        metrics=["accuracy"],
    )
    want = float64.Float64Training(model, "softmax")
    right = model.predict(X).argmax(1) == Y
    total = weights * np.array([classes.get(label, 1.0) for label in Y])
    expected = want.step(X, Y, float64.Sgd(learning_rate=0.1), total)
    history = model.fit(
        X, y, batch_size=23, shuffle=False, verbose=0, sample_weight=weights, class_weight=classes
    )
    assert history.history["loss"] == [pytest.approx(expected, rel=2e-6)]
    assert history.history["accuracy"] == [pytest.approx(right.mean())], "metrics count all samples alike"
    for variable in model.weights:
        np.testing.assert_allclose(variable.value, want.weights[variable], rtol=0, atol=1e-6)


def test_class_weights_of_a_single_output_unit():
    model = fc.Sequential(
        [L.Flatten(input_shape=(12, 12, 3)), L.Dense(1, "sigmoid", kernel_initializer="zeros")]
    )
    y = Y > 2
    history = compiled(model, optimizers.SGD(0.0), "binary_crossentropy").fit(
        X, y, class_weight={1: 3.0}, verbose=0
    )
    assert history.history["loss"] == [pytest.approx(np.log(2) * np.where(y, 3, 1).mean())]


def test_smaller_last_batch():
    """23 samples in batches of 8: an epoch's loss is the mean over samples, a step's that over its batch."""
    model = compiled(tiny_cnn(), optimizers.SGD(0.1))
    want, update = float64.Float64Training(model, "softmax"), float64.Sgd(learning_rate=0.1)
    rows = [slice(0, 8), slice(8, 16), slice(16, 23)]
    expected = [want.step(X[r], Y[r], update) for r in rows]
    history = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
    assert history["loss"] == [pytest.approx(np.average(expected, weights=[8, 8, 7]), rel=2e-6)]
    for variable in model.weights:
        np.testing.assert_allclose(variable.value, want.weights[variable], rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------ graphs


def assert_gradient(model, x, y, loss="mse", tolerance=2e-2):
    """<gradient, d> must be the slope of the loss along a random direction d, for each weight on its own."""
    model.compile(optimizers.SGD(1.0), loss)
    before = model.get_weights()
    model.train_on_batch(x, y)
    gradients = [a.astype(np.float64) - b for a, b in zip(before, model.get_weights(), strict=True)]
    for i, (w, g) in enumerate(zip(before, gradients, strict=True)):
        direction = g / np.linalg.norm(g) + 0.5 * RNG.standard_normal(w.shape) / np.sqrt(w.size)
        step = 1e-2 * max(1.0, np.linalg.norm(w)) / np.linalg.norm(direction)
        sides = []
        for sign in (1, -1):
            model.set_weights([*before[:i], w + sign * step * direction, *before[i + 1 :]])
            value = model.test_on_batch(x, y)
            sides.append(value[0] if isinstance(value, list) else value)
        slope = (sides[0] - sides[1]) / (2 * step)
        assert slope == pytest.approx((g * direction).sum(), rel=tolerance), model.weights[i].path


class NumpyAdd(L.Layer):
    """The sum of two inputs, as a layer of the user's own."""

    def compute_output_shape(self, shapes):
        return shapes[0]

    def forward(self, x, training):
        return x[0] + x[1]

    def backward(self, dy):
        return [dy, dy]


def branches():
    x = fc.Input((6, 6, 2))
    a = L.Conv2D(4, 3, padding="same", activation="tanh")(x)
    b = NumpyAdd()([L.Conv2D(4, 1)(x), L.AveragePooling2D(3, strides=1, padding="same")(a)])
    c = NumpyAdd()([a, b])
    return fc.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(c)))


def shared_layer():
    x = fc.Input((6, 6, 2))
    conv = L.Conv2D(2, 3, padding="same", activation="tanh")
    return fc.Model(x, L.Dense(3)(L.Flatten()(conv(conv(conv(x))))))


def output_inside():
    """The first output is also read by what computes the second one."""
    x = fc.Input((6, 6, 2))
    first = L.Dense(3, activation="tanh")(L.Flatten()(x))
    return fc.Model(x, [first, L.Dense(3)(L.Activation("sigmoid")(first))])


def relu_read_twice():
    """A convolution read by its activation and by another layer must not absorb the activation."""
    x = fc.Input((6, 6, 2))
    conv = L.Conv2D(3, 3, bias_initializer=initializers.RandomNormal(stddev=1.0))(x)
    pooled = [L.GlobalAveragePooling2D()(y) for y in (conv, L.ReLU()(conv))]
    return fc.Model(x, NumpyAdd()(pooled))


@pytest.mark.parametrize("make", [branches, shared_layer, output_inside, relu_read_twice])
def test_gradients_of_graphs(make):
    model = make()
    x = RNG.standard_normal((7, 6, 6, 2))
    y = RNG.standard_normal((7, 3))
    assert_gradient(model, x, [y, -y] if make is output_inside else y)


def test_several_outputs_add_their_weighted_losses():
    x = fc.Input((4,))
    model = fc.Model(x, [L.Dense(2, name="a")(x), L.Dense(1, name="b")(x)])
    data, targets = RNG.standard_normal((9, 4)), [RNG.standard_normal((9, 2)), RNG.standard_normal((9, 1))]
    model.compile("sgd", ["mse", "mae"], metrics=[["mae"], []], loss_weights=[2.0, 0.5])
    a, b = model.predict(data)
    logs = model.evaluate(data, targets, return_dict=True, verbose=0)
    assert list(logs) == ["loss", "a_loss", "b_loss", "a_mae"]
    assert logs["a_loss"] == pytest.approx(((a - targets[0]) ** 2).mean(), rel=1e-6)
    assert logs["b_loss"] == pytest.approx(np.abs(b - targets[1]).mean(), rel=1e-6)
    assert logs["a_mae"] == pytest.approx(np.abs(a - targets[0]).mean(), rel=1e-6)
    assert logs["loss"] == pytest.approx(2 * logs["a_loss"] + 0.5 * logs["b_loss"])


# ------------------------------------------------------------------------------------------ the same bits


def train_with_dropout(threads: int) -> bytes:
    fc.set_num_threads(threads)
    fc.seed(3)
    model = fc.Sequential(
        [
            *zoo.simple_cnn((12, 12, 1), 4).layers[:-2],
            L.Dropout(0.3),
            L.Dense(32, activation="relu"),
            L.Dropout(0.5),
            L.Dense(4, activation="softmax"),
        ]
    )
    x = np.random.default_rng(1).random((70, 12, 12, 1))
    compiled(model, optimizers.Adam(clipnorm=1.0), metrics=["accuracy"])
    history = model.fit(x, np.arange(70) % 4, batch_size=32, epochs=2, verbose=0).history
    return bits(model) + repr(history).encode() + model.predict(x).tobytes()


def test_threads_do_not_change_a_bit():
    results = {threads: train_with_dropout(threads) for threads in (1, 2, 3, 4)}
    assert len(set(results.values())) == 1
    assert train_with_dropout(2) == results[1], "a second run with the same seed"


def test_python_threads_train_two_models():
    """Two models trained at the same time get the bits they get one after the other."""
    fc.set_num_threads(2)

    def models():
        fc.seed(5)
        return [compiled(tiny_cnn(), "adam"), compiled(smooth_cnn(), optimizers.SGD(0.1))]

    def train(model):
        for _ in range(6):
            model.train_on_batch(X, Y)

    alone, together = models(), models()
    for model in alone:
        train(model)
    threads = [threading.Thread(target=train, args=(model,)) for model in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert [bits(model) for model in together] == [bits(model) for model in alone]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("wanted", [None, 2])
def test_a_forked_child_trains(wanted):
    """After the parent has used its threads; also when the child asks for threads, which it cannot have."""
    fc.set_num_threads(2)
    model = compiled(tiny_cnn())
    model.train_on_batch(X, Y)
    copy = compiled(tiny_cnn())
    copy.set_weights(model.get_weights())
    copy.train_on_batch(X, Y)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if wanted is not None:
                fc.set_num_threads(wanted)
            model.train_on_batch(X, Y)
            os.write(write, bytes([fc.get_num_threads(), bits(model) == bits(copy)]))
        finally:
            os._exit(0)
    os.close(write)
    deadline = time.monotonic() + 30
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == bytes([1, True])


def test_a_steady_step_allocates_nothing():
    """A run of a plan makes a few Python numbers; a whole step, nothing of the size of a batch."""
    model = compiled(zoo.simple_cnn((12, 12, 1), 4), "adam", metrics=["accuracy"])
    x, y = RNG.random((64, 12, 12, 1), np.float32), np.arange(64) % 4
    for _ in range(3):
        model.train_on_batch(x, y)
    plan = model._plan("train", 64)

    def traced(call, times=100):
        """(bytes kept, most bytes in use at once) by that many calls."""
        call()
        tracemalloc.start()
        try:
            for _ in range(times):
                call()
            _, peak = tracemalloc.get_traced_memory()
            gc.collect()
            return tracemalloc.get_traced_memory()[0], peak
        finally:
            tracemalloc.stop()

    kept, peak = traced(plan.run)
    assert kept < 3000
    assert peak < 5000
    few, peak = traced(lambda: model.train_on_batch(x, y), 50)
    many, _ = traced(lambda: model.train_on_batch(x, y), 250)
    assert many - few < 3000  # what the interpreter keeps for itself does not grow with the steps
    assert peak < x.nbytes


# ------------------------------------------------------------------------------------------ data


def test_every_kind_of_data_trains_alike():
    """Arrays of any dtype and layout, Dataset, batches and generator: the same bits in the same order."""
    integers = RNG.integers(0, 255, X.shape).astype(np.uint8)
    batches = [(integers[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]
    read_only = integers.astype(np.float32)
    read_only.flags.writeable = False
    kinds = {
        "uint8": (integers, Y),
        "float64": (integers.astype(np.float64), Y),
        "int64": (integers.astype(np.int64), Y[:, None]),
        "fortran": (np.asfortranarray(integers.astype(np.float32)), Y.astype(np.float64)),
        "read only": (read_only, Y),
        "strided": (np.repeat(integers, 2, axis=2)[:, :, ::2], Y.tolist()),
        "list": ([integers.astype(">f4")], [Y]),
        "Dataset": (Dataset(integers, Y, batch_size=8), None),
        "batches": (batches, None),
        "generator": ((batch for batch in batches), None),
        "iterator": (iter(batches), None),
    }
    results = {}
    for name, (x, y) in kinds.items():
        fc.seed(1)
        model = compiled(
            fc.Sequential([L.Rescaling(1 / 255), L.Conv2D(4, 3), L.Flatten(), L.Dense(5, "softmax")])
        )
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        results[name] = bits(model)
    assert {name for name, result in results.items() if result != results["uint8"]} == set()


def test_evaluate_and_predict_take_iterables():
    model = compiled(tiny_cnn(), metrics=["accuracy"])
    batches = [(X[:10], Y[:10]), (X[10:], Y[10:])]
    want = model.evaluate(X, Y, verbose=0)
    assert model.evaluate(batches, verbose=0) == pytest.approx(want)
    assert model.evaluate(Dataset(X, Y), verbose=0) == pytest.approx(want)
    assert model.predict(Dataset(X, Y, batch_size=9)).tobytes() == model.predict(X).tobytes()
    assert model.predict(iter([X[:10], X[10:]])).tobytes() == model.predict(X).tobytes()


def test_inputs_are_not_modified():
    x, y = X.copy(), Y.copy()
    model = compiled(fc.Sequential([L.ReLU(input_shape=(12, 12, 3)), L.Flatten(), L.Dense(5, "softmax")]))
    model.fit(x, y, verbose=0)
    model.predict(x)
    model(x)
    assert (x == X).all()
    assert (y == Y).all()


def test_results_are_copies():
    model = tiny_cnn()
    first = model(X)
    kept = first.copy()
    model(X[::-1])
    model.predict(X[::-1])
    assert (first == kept).all()


def test_samples_in_lists_of_numbers():
    x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    model = fc.Sequential([L.Dense(8, activation="tanh"), L.Dense(1, activation="sigmoid")])
    compiled(model, optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=100, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] == 1.0
    assert (model.predict(x)[:, 0].round() == y).all()


def test_shuffling_visits_every_sample_once():
    seen = []

    class Watch(L.Layer):
        def forward(self, x, training):
            seen.extend(x[:, 0].tolist())
            return x

        def backward(self, dy):
            return dy

    model = compiled(
        fc.Sequential(
            [L.Dense(1, input_shape=(1,), kernel_initializer="ones", trainable=False), Watch(), L.Dense(1)]
        ),
        "sgd",
        "mse",
    )
    model.fit(np.arange(10.0)[:, None], np.zeros(10), batch_size=4, epochs=2, verbose=0)
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:] != list(range(10))


def test_validation_split_takes_the_last_samples():
    weights = RNG.random(23)
    model = compiled(tiny_cnn(), optimizers.SGD(0.0), metrics=["accuracy"])
    history = model.fit(
        X, Y, validation_split=0.3, sample_weight=weights, class_weight={0: 9.0}, verbose=0
    ).history
    cut = int(23 * 0.7)
    by_hand = model.fit(
        X[:cut], Y[:cut], validation_data=(X[cut:], Y[cut:], weights[cut:]), verbose=0
    ).history
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history["val_loss"] == pytest.approx(by_hand["val_loss"], rel=1e-6)
    assert history["val_accuracy"] == by_hand["val_accuracy"]
    probability = model.predict(X[cut:])[np.arange(23 - cut), Y[cut:]]
    assert history["val_loss"] == [pytest.approx((-np.log(probability) * weights[cut:]).mean(), rel=1e-5)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: (X[:9], Y[:9]),
        lambda: Dataset(X[:9], Y[:9], batch_size=4),
        lambda: iter([(X[:4], Y[:4]), (X[4:9], Y[4:9])]),
    ],
)
def test_validation_data_of_every_kind(make):
    model = compiled(tiny_cnn())
    history = model.fit(X, Y, validation_data=make(), verbose=0).history
    assert history["val_loss"] == [pytest.approx(model.evaluate(X[:9], Y[:9], verbose=0), rel=1e-6)]


def test_several_metrics():
    """Each must be what its own class makes of the predictions, over all batches of an evaluation."""
    chosen = [
        "accuracy",
        "sparse_top_k_categorical_accuracy",
        metrics.SparseTopKCategoricalAccuracy(k=2, name="top2"),
        metrics.ConfusionMatrix(),
        metrics.Precision(class_id=1),
        "sparse_categorical_crossentropy",
        lambda y_true, y_pred: y_pred.max(axis=-1),
    ]
    chosen[-1].__name__ = "confidence"
    model = compiled(tiny_cnn(), metrics=chosen)
    logs = model.evaluate(X, Y, batch_size=7, return_dict=True, verbose=0)
    p = model.predict(X)
    ranks = (p > p[np.arange(23), Y][:, None]).sum(1)
    confusion = np.zeros((5, 5))
    np.add.at(confusion, (Y, p.argmax(1)), 1)
    positive = p[:, 1] > 0.5
    want = {
        "loss": logs["loss"],
        "accuracy": (ranks == 0).mean(),
        "sparse_top_k_categorical_accuracy": 1.0,
        "top2": (ranks < 2).mean(),
        "confusion_matrix": confusion,
        "precision": (Y[positive] == 1).mean() if positive.any() else 0.0,
        "sparse_categorical_crossentropy": logs["loss"],
        "confidence": p.max(1).mean(),
    }
    assert list(logs) == list(want)
    for name, value in want.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-6, err_msg=name)
    assert all(type(value) is float for name, value in logs.items() if name != "confusion_matrix")


def test_accuracy_means_what_the_loss_needs():
    for loss, units, y in (
        (SPARSE, 5, Y),
        ("categorical_crossentropy", 5, np.eye(5)[Y]),
        ("binary_crossentropy", 1, Y > 2),
    ):
        model = fc.Sequential(
            [L.Flatten(input_shape=(12, 12, 3)), L.Dense(units, "sigmoid" if units == 1 else "softmax")]
        )
        p = compiled(model, "sgd", loss, metrics=["accuracy"]).predict(X)
        right = (p[:, 0] > 0.5) == y if units == 1 else p.argmax(1) == Y
        assert model.evaluate(X, y, verbose=0)[1] == pytest.approx(right.mean())


def test_a_new_output_gets_its_own_accuracy():
    """'accuracy' of one unit, then, without compiling again, of five."""
    model = fc.Sequential([L.Flatten(input_shape=(12, 12, 3)), L.Dense(1, "sigmoid")])
    compiled(model, "sgd", "mse", metrics=["accuracy"]).fit(X, Y > 2, verbose=0)
    model.pop()
    model.add(L.Dense(5, activation="softmax"))
    right = model.predict(X).argmax(1) == Y
    assert model.evaluate(X, np.eye(5)[Y], verbose=0)[1] == pytest.approx(right.mean())


# ------------------------------------------------------------------------------------------ layers


class NumpyDense(L.Layer):
    """A dense layer with tanh in NumPy, as the class `Layer` says one writes it."""

    def __init__(self, units, name=None):
        super().__init__(name=name)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), "glorot_uniform", "kernel")
        self.bias = self.add_weight((self.units,), "zeros", "bias")

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def forward(self, x, training):
        self.x, self.y = x, np.tanh(x @ self.kernel.value + self.bias.value)
        return self.y

    def backward(self, dy):
        dz = dy * (1 - self.y**2)
        self.gradients["kernel"], self.gradients["bias"] = self.x.T @ dz, dz.sum(0)
        return dz @ self.kernel.value.T


@pytest.mark.parametrize("frozen", [(), (3,), (0,), (0, 3), (0, 3, 4)])
def test_a_numpy_layer_equals_the_compiled_one(frozen):
    """In the middle of a network, trained and frozen, with weights before it and behind it."""

    def net(middle):
        return fc.Sequential(
            [
                L.Conv2D(4, 3, activation="relu", input_shape=(12, 12, 3)),
                L.MaxPooling2D(2),
                L.Flatten(),
                middle,
                L.Dense(5, activation="softmax"),
            ]
        )

    custom, compiled_one = net(NumpyDense(10)), net(L.Dense(10, activation="tanh"))
    compiled_one.set_weights(custom.get_weights())
    for model in (custom, compiled_one):
        for index in frozen:
            model.layers[index].trainable = False
        start = model.get_weights()
        compiled(model, "adam").fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        moved = [(a != b).any() for a, b in zip(start, model.get_weights(), strict=True)]
        assert moved == [index not in frozen for index in (0, 3, 4) for _ in range(2)]
    np.testing.assert_allclose(custom.predict(X), compiled_one.predict(X), rtol=1e-4)
    for a, b in zip(custom.get_weights(), compiled_one.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def test_a_frozen_layer_is_left_alone_until_it_is_freed():
    model = compiled(tiny_cnn(kernel_regularizer="l2"), optimizers.SGD(0.1, momentum=0.9))
    model.layers[0].trainable = False
    start = model.get_weights()
    model.fit(X, Y, verbose=0)
    after = model.get_weights()
    assert [(a == b).all() for a, b in zip(start, after, strict=True)] == [True] * 2 + [False] * 6
    model.layers[0].trainable = True
    model.fit(X, Y, verbose=0)
    assert not any((a == b).all() for a, b in zip(after, model.get_weights(), strict=True))


def test_nothing_is_trained_when_all_is_frozen():
    model = compiled(tiny_cnn(), metrics=["accuracy"])
    model.trainable = False
    before = bits(model)
    want = model.test_on_batch(X, Y)
    assert model.train_on_batch(X, Y) == want
    assert bits(model) == before


def test_a_frozen_penalty_does_not_count():
    model = compiled(tiny_cnn(kernel_regularizer=regularizers.L2(1.0)))
    with_penalties = model.test_on_batch(X, Y)
    model.layers[2].trainable = False
    weights = model.layers[2].kernel.value.astype(np.float64)
    assert with_penalties - model.test_on_batch(X, Y) == pytest.approx((weights**2).sum(), rel=1e-6)


def test_dropout_draws_anew_in_every_pass():
    model = fc.Sequential([L.Dropout(0.5, input_shape=(100,))])
    x = np.ones((4, 100), np.float32)
    passes = [model(x, training=True) for _ in range(3)] + [
        L.Dropout(0.5)(x, training=True) for _ in range(2)
    ]
    assert {value for y in passes for value in np.unique(y)} == {0.0, 2.0}
    assert len({y.tobytes() for y in passes}) == 5
    assert (model(x) == 1).all()
    fc.seed(0)
    again = fc.Sequential([L.Dropout(0.5, input_shape=(100,))])
    assert (again(x, training=True) == passes[0]).all()


def test_empty_batches():
    model = compiled(tiny_cnn())
    assert model(X[:0]).shape == model.predict(X[:0]).shape == (0, 5)
    history = model.fit([(X[:0], Y[:0]), (X, Y)], verbose=0).history
    assert history["loss"][0] > 0


# ------------------------------------------------------------------------------------------ custom rules


class FocalLoss(losses.SparseCategoricalCrossentropy):
    """A loss that changes a built-in one, whose kernel must not run in its place."""

    def per_sample(self, y_true, y_pred):
        p = np.take_along_axis(y_pred.astype(np.float64), y_true[:, None], 1)[:, 0]
        return -((1 - p) ** 2) * np.log(p)

    def gradient(self, y_true, y_pred):
        gradient, rows = np.zeros(y_pred.shape, np.float32), np.arange(len(y_pred))
        p = y_pred[rows, y_true].astype(np.float64)
        gradient[rows, y_true] = (2 * (1 - p) * np.log(p) - (1 - p) ** 2 / p) / len(p)
        return gradient


def test_a_loss_of_ones_own():
    model = fc.Sequential([L.Flatten(input_shape=(12, 12, 3)), L.Dense(5, activation="softmax")])
    p = compiled(model, loss=FocalLoss()).predict(X)[np.arange(23), Y].astype(np.float64)
    assert model.test_on_batch(X, Y) == pytest.approx((-((1 - p) ** 2) * np.log(p)).mean(), rel=1e-5)
    assert_gradient(model, X, Y, FocalLoss())


class SignSgd(optimizers.SGD):
    """An optimiser that changes a built-in one, whose kernel must not run in its place."""

    def step(self, w, g, slots, scalars):
        w -= scalars["learning_rate"] * np.sign(g)


def test_an_optimizer_of_ones_own():
    model = compiled(tiny_cnn(), SignSgd(0.25))
    before = model.get_weights()
    model.train_on_batch(X, Y)
    steps = {
        float(value)
        for a, b in zip(before, model.get_weights(), strict=True)
        for value in np.unique((a - b).round(3))
    }
    assert steps == {-0.25, 0.0, 0.25}


# ------------------------------------------------------------------------------------------ callbacks


def test_early_stopping_ends_with_the_best_weights():
    """Trained with a rate that soon makes things worse on shuffled labels held back."""
    model = compiled(tiny_cnn(), optimizers.Adam(0.02))
    stop = callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = model.fit(X, Y, epochs=60, validation_data=(X[::-1], Y), callbacks=[stop], verbose=0).history
    losses_seen = history["val_loss"]
    assert 3 <= len(losses_seen) < 60
    assert len(losses_seen) == int(np.argmin(losses_seen)) + 3
    assert model.evaluate(X[::-1], Y, verbose=0) == pytest.approx(min(losses_seen), rel=1e-6)


def test_model_checkpoint_keeps_the_best_model(tmp_path):
    model = compiled(tiny_cnn(), optimizers.Adam(0.02), metrics=["accuracy"])
    best = callbacks.ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    every = callbacks.ModelCheckpoint(tmp_path / "{epoch}.safetensors", save_weights_only=True)
    history = model.fit(
        X, Y, epochs=6, validation_data=(X[::-1], Y), callbacks=[best, every], verbose=0
    ).history
    loaded = fc.load_model(tmp_path / "best.safetensors")
    assert loaded.evaluate(X[::-1], Y, verbose=0)[0] == pytest.approx(min(history["val_loss"]), rel=1e-6)
    for epoch, loss in enumerate(history["val_loss"], 1):
        loaded.load_weights(tmp_path / f"{epoch}.safetensors")
        assert loaded.evaluate(X[::-1], Y, verbose=0)[0] == pytest.approx(loss, rel=1e-6)


def test_hooks_are_called_in_keras_order():
    seen = []
    names = [
        f"on_{phase}_{edge}"
        for phase in ("train", "epoch", "train_batch", "test", "test_batch")
        for edge in ("begin", "end")
    ]
    record = callbacks.LambdaCallback(**{name: lambda *_, n=name: seen.append(n[3:]) for name in names})
    compiled(tiny_cnn()).fit(
        X, Y, batch_size=16, validation_data=(X[:5], Y[:5]), callbacks=[record], verbose=0
    )
    batch, test = ["train_batch_begin", "train_batch_end"], ["test_batch_begin", "test_batch_end"]
    assert seen == [
        "train_begin",
        "epoch_begin",
        *batch,
        *batch,
        "test_begin",
        *test,
        "test_end",
        "epoch_end",
        "train_end",
    ]


def test_a_callback_can_stop_training_and_change_the_rate():
    model = compiled(tiny_cnn(), optimizers.SGD(0.1))

    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    history = model.fit(X, Y, batch_size=4, epochs=5, callbacks=[Stop()], verbose=0)
    assert (model.optimizer.iterations, history.epoch) == (2, [0])
    before = bits(model)
    model.fit(X, Y, epochs=2, callbacks=[callbacks.LearningRateScheduler(lambda epoch: 0.0)], verbose=0)
    assert bits(model) == before


def test_initial_epoch_and_the_history():
    model = compiled(tiny_cnn(), metrics=["accuracy"])
    history = model.fit(X, Y, epochs=5, initial_epoch=3, verbose=0)
    assert history is model.history
    assert history.epoch == [3, 4]
    assert {name: len(values) for name, values in history.history.items()} == {"loss": 2, "accuracy": 2}


# ------------------------------------------------------------------------------------------ whole programs


def write_cifar(folder) -> None:
    """Six small files in CIFAR-10's binary format: a label, then the red, green and blue planes."""
    rng = np.random.default_rng(0)
    for name, count in [*((f"data_batch_{i}.bin", 12) for i in range(1, 6)), ("test_batch.bin", 15)]:
        labels = np.arange(count) % 10
        pixels = rng.integers(0, 60, (count, 3072))
        pixels[np.arange(3072) // 307 == labels[:, None]] += 190
        (folder / name).write_bytes(np.column_stack([labels, pixels]).astype(np.uint8).tobytes())


def test_a_keras_program_with_other_imports(tmp_path, monkeypatch, capsys):
    write_cifar(tmp_path)
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path))
    program = """
from fastcnn import Sequential
from fastcnn.layers import Conv2D, MaxPooling2D, Flatten, Dense
from fastcnn.datasets import cifar10
from fastcnn.utils import to_categorical

model = Sequential()
model.add(Conv2D(32, (3, 3), activation='relu', input_shape=(32, 32, 3)))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(64, (3, 3), activation='relu'))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(128, (3, 3), activation='relu'))
model.add(MaxPooling2D((2, 2)))
model.add(Flatten())
model.add(Dense(512, activation='relu'))
model.add(Dense(10, activation='softmax'))

(x_train, y_train), (x_test, y_test) = cifar10.load_data()
x_train = x_train.astype('float32') / 255
x_test = x_test.astype('float32') / 255
y_train = to_categorical(y_train, 10)
y_test = to_categorical(y_test, 10)
model.compile(optimizer='adam', loss='categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=10, batch_size=64)
loss, accuracy = model.evaluate(x_test, y_test)
"""
    names: dict = {}
    exec(program, names)
    assert names["accuracy"] > 0.5, "chance is 0.1"
    assert names["loss"] < 2
    assert capsys.readouterr().out.count("Epoch ") == 10


def test_a_pytorch_style_subclass():
    class SimpleCNN(fc.Model):
        def __init__(self):
            super().__init__()
            self.conv1 = L.Conv2D(32, 3, padding="same", activation="relu")
            self.conv2 = L.Conv2D(64, 3, padding="same", activation="relu")
            self.pool = L.MaxPooling2D(2)
            self.fc1 = L.Dense(128, activation="relu")
            self.fc2 = L.Dense(10)

        def call(self, x):
            x = self.pool(self.conv1(x))
            x = self.pool(self.conv2(x))
            return self.fc2(self.fc1(L.Flatten()(x)))

    model = SimpleCNN()
    model.compile("adam", fc.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(X, Y, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert [layer.name.split("_")[0] for layer in model.layers] == [
        "conv2d",
        "max",
        "conv2d",
        "flatten",
        "dense",
        "dense",
    ]
    logits = model.predict(X).astype(np.float64)
    entropy = np.log(np.exp(logits).sum(1)) - logits[np.arange(23), Y]
    assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(entropy.mean(), rel=1e-5)
    with pytest.raises(ValueError, match="expects x of shape"):
        model.predict(X[:, :8])


def test_a_functional_graph():
    x = fc.Input((12, 12, 3))
    y = L.Conv2D(16, 3, padding="same", use_bias=False)(x)
    y = L.ReLU()(y)
    y = NumpyAdd()([y, L.Conv2D(16, 1)(x)])
    model = fc.Model(x, L.Dense(5)(L.GlobalAveragePooling2D()(y)))
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    history = compiled(model, optimizers.Adam(0.02), loss).fit(X, Y, epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] - 0.1
