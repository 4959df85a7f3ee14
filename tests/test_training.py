"""Steps of training: losses, gradients and updates against float64, with every kind of layer and rule."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import initializers, losses, optimizers, regularizers
from fastcnn import layers as L  # noqa: N812
from tests import float64_training as float64
from tests.check import assert_same, bits
from tests.philox import dropout_mask as mask
from tests.small_nets import SPARSE, NumpyAdd, X, Y, compiled, odd_cnn, smooth_cnn, tiny_cnn

pytestmark = pytest.mark.usefixtures("usual_threads")


# ------------------------------------------------------------------------------------------ against float64


def assert_same_course(model, optimizer, update, loss=SPARSE, steps=10, clip=None, tolerance=5e-6):
    """Train engine and float64 side by side: the losses and the final weights must agree."""
    y = Y if loss == SPARSE else np.random.default_rng(0).standard_normal((len(X), 5))
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
def test_sample_and_class_weights_follow_float64(y, rng):
    weights, classes = rng.random(23), {0: 2.0, 3: 0.25}
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


def assert_gradient(model, x, y, rng, loss="mse", tolerance=2e-2):
    """<gradient, d> must be the slope of the loss along a random direction d, for each weight on its own."""
    model.compile(optimizers.SGD(1.0), loss)
    before = model.get_weights()
    model.train_on_batch(x, y)
    gradients = [a.astype(np.float64) - b for a, b in zip(before, model.get_weights(), strict=True)]
    for i, (w, g) in enumerate(zip(before, gradients, strict=True)):
        direction = g / np.linalg.norm(g) + 0.5 * rng.standard_normal(w.shape) / np.sqrt(w.size)
        step = 1e-2 * max(1.0, np.linalg.norm(w)) / np.linalg.norm(direction)
        sides = []
        for sign in (1, -1):
            model.set_weights([*before[:i], w + sign * step * direction, *before[i + 1 :]])
            value = model.test_on_batch(x, y)
            sides.append(value[0] if isinstance(value, list) else value)
        slope = (sides[0] - sides[1]) / (2 * step)
        assert slope == pytest.approx((g * direction).sum(), rel=tolerance), model.weights[i].path


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
def test_gradients_of_graphs(make, rng):
    model = make()
    x = rng.standard_normal((7, 6, 6, 2))
    y = rng.standard_normal((7, 3))
    assert_gradient(model, x, [y, -y] if make is output_inside else y, rng)


def test_several_outputs_add_their_weighted_losses(rng):
    x = fc.Input((4,))
    model = fc.Model(x, [L.Dense(2, name="a")(x), L.Dense(1, name="b")(x)])
    data, targets = rng.standard_normal((9, 4)), [rng.standard_normal((9, 2)), rng.standard_normal((9, 1))]
    model.compile("sgd", ["mse", "mae"], metrics=[["mae"], []], loss_weights=[2.0, 0.5])
    a, b = model.predict(data)
    logs = model.evaluate(data, targets, return_dict=True, verbose=0)
    assert list(logs) == ["loss", "a_loss", "b_loss", "a_mae"]
    assert logs["a_loss"] == pytest.approx(((a - targets[0]) ** 2).mean(), rel=1e-6)
    assert logs["b_loss"] == pytest.approx(np.abs(b - targets[1]).mean(), rel=1e-6)
    assert logs["a_mae"] == pytest.approx(np.abs(a - targets[0]).mean(), rel=1e-6)
    assert logs["loss"] == pytest.approx(2 * logs["a_loss"] + 0.5 * logs["b_loss"])


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


def trained_with_dropout(global_seed, steps, **seed):
    """Weights after some steps from the same start, with noise that `fastcnn.seed` changes or not."""
    fc.seed(global_seed)
    model = fc.Sequential([L.Flatten(input_shape=(12, 12, 3)), L.Dropout(0.5, **seed),
                           L.Dense(5, "softmax", kernel_initializer="ones")])
    compiled(model)
    for _ in range(steps):
        model.train_on_batch(X, Y)
    return model


def test_dropout_with_a_seed_of_its_own(tmp_path):
    """Its masks are those of that seed, one for each step, also in batches of another size and after loading."""
    first, again, other = (trained_with_dropout(*words, seed=seed).get_weights()[0]
                           for *words, seed in ((1, 3, 42), (2, 3, 42), (2, 3, 43)))
    assert_same(again, first)
    assert (other != first).any()
    assert (trained_with_dropout(1, 3).get_weights()[0] != trained_with_dropout(2, 3).get_weights()[0]).any()
    model = trained_with_dropout(3, 2, seed=42)
    model.save(tmp_path / "m.safetensors")
    model = fc.load_model(tmp_path / "m.safetensors")
    model.train_on_batch(X, Y)
    assert_same(model.get_weights()[0], first)
    counted = fc.Sequential([L.Dropout(0.5, seed=42, input_shape=(200,))])
    masks = [counted(np.ones((n, 200)), training=True) for n in (3, 2, 3)]
    for step, y in enumerate(masks):
        assert_same(y, 2.0 * mask(y.shape, 0.5, (42, step), 0))


def test_dropout_with_a_seed_is_the_same_in_the_backward_pass():
    """Where values were dropped, rows of the weights' gradient are zero, also if they are computed twice."""
    for recompute in (False, True):
        model = fc.Sequential([L.Dropout(0.5, seed=5, input_shape=(64,)), L.Dense(2, use_bias=False)])
        model.compile(optimizers.SGD(1.0), "mse", recompute=recompute)
        before = model.get_weights()[0]
        model.train_on_batch(np.ones((1, 64)), np.full((1, 2), 100.0))
        assert ((model.get_weights()[0] != before).all(1) == mask((1, 64), 0.5, (5, 0), 0)[0]).all()


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


def test_a_loss_of_ones_own(rng):
    model = fc.Sequential([L.Flatten(input_shape=(12, 12, 3)), L.Dense(5, activation="softmax")])
    p = compiled(model, loss=FocalLoss()).predict(X)[np.arange(23), Y].astype(np.float64)
    assert model.test_on_batch(X, Y) == pytest.approx((-((1 - p) ** 2) * np.log(p)).mean(), rel=1e-5)
    assert_gradient(model, X, Y, rng, FocalLoss())


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
