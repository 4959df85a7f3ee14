"""Training steps that keep few activations: the same bits as those that keep all, in less memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn.plan import recompute
from fastcnn.plan.builder import Builder
from fastcnn.plan.operations import Operation, Value
from fastcnn.plan.plan import Plan
from tests.test_plan_memory import finish_and_count, run_poisoned

CROSSENTROPY = "sparse_categorical_crossentropy"


# ------------------------------------------------------------------------------------------ networks


def conv(x, filters, **words):
    return L.Conv2D(filters, 3, padding="same", **words)(x)


def plain():
    """Winograd's algorithm, pooling in the convolution and beside it, dropout, weights beyond a megabyte."""
    x = fc.Input((16, 16, 3))
    y = conv(x, 16, activation="relu")
    for filters in (32, 32, 48):
        y = conv(y, filters, activation="relu")
        y = L.Dropout(0.3)(y)
    y = L.MaxPooling2D(2)(conv(y, 32, activation="relu"))
    y = L.MaxPooling2D(3, strides=2)(conv(y, 16, activation="gelu"))
    y = L.Dense(300, activation="relu")(L.Dropout(0.2)(L.Flatten()(y)))
    y = L.Dense(1000, activation="tanh")(y)
    return fc.Model(x, L.Dense(5, activation="softmax")(y))


def normed(x, filters, strides=1):
    y = L.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
    return L.BatchNormalization(momentum=0.9)(y)


def residual():
    """Batch normalisation, sums with a ReLU, strides, a shared layer, and an early output."""
    x = fc.Input((12, 12, 3))
    y = L.ReLU()(normed(x, 8))
    shared = L.Conv2D(8, 3, padding="same")
    for _ in range(3):
        y = L.ReLU()(L.Add()([y, normed(L.ReLU()(normed(y, 8)), 8)]))
    early = L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(y))
    z = shared(L.ReLU()(shared(y)))
    y = L.Add()([L.Conv2D(16, 1, 2)(y), normed(L.ReLU()(normed(z, 16, 2)), 16)])
    y = L.Concatenate()([y, L.AveragePooling2D(1)(y)])
    late = L.Dense(5)(L.Flatten()(L.Reshape((18, 64))(L.SpatialDropout2D(0.1)(y))))
    return fc.Model(x, [early, L.Softmax()(late)])


def mixed():
    """One of most other kinds of layers, random images, a U, and a model within the model."""
    x = fc.Input((16, 16, 2))
    y = L.RandomFlip()(L.Rescaling(0.5)(x))
    a = L.LayerNormalization()(conv(y, 6))
    b = L.PReLU(shared_axes=[1, 2])(L.DepthwiseConv2D(3, padding="same")(L.MaxPooling2D(2)(a)))
    block = fc.Sequential([L.SeparableConv2D(12, 3, padding="same"), L.GroupNormalization(3), L.LeakyReLU()],
                          name="block")
    c = L.UpSampling2D(2, interpolation="bilinear")(block(b))
    d = L.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(b)
    y = L.Maximum()([L.Multiply()([d, a]), L.Cropping2D(1)(L.ZeroPadding2D(1)(a))])
    y = L.Concatenate()([L.Permute((2, 1, 3))(y), c, L.ELU()(a)])
    y = L.GlobalMaxPooling2D()(conv(y, 9, activation="swish", groups=3))
    return fc.Model(x, L.Dense(5, activation="softmax")(y))


def volumes():
    """Volumes, whose border of zeros is folded in; then a sequence."""
    x = fc.Input((6, 8, 8, 2))
    y = L.Conv3D(8, 3, padding="same", activation="relu")(x)
    y = L.Conv3D(8, 3, padding="same", activation="relu")(y)
    y = L.MaxPooling3D(2)(y)
    y = L.Conv3D(130, 3, padding="same")(L.Conv3D(80, 2)(y))
    y = L.Conv1D(12, 3, padding="same", activation="relu")(L.Reshape((-1, 20))(y))
    return fc.Model(x, L.Dense(5, activation="softmax")(L.GlobalAveragePooling1D()(y)))


class Counting(L.Layer):
    """x times a weight, in NumPy; it remembers its input, and how often it has run."""

    def build(self, input_shape):
        self.calls = 0
        self.factor = self.add_weight((1,), "ones", "factor")

    def compute_output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training):
        self.calls += 1
        self.x = x
        return x * (self.factor.value + self.calls)

    def backward(self, dy):
        self.gradients["factor"] = (dy * self.x).sum(keepdims=True).reshape(1)
        return dy * (self.factor.value + self.calls)


def numpy_layer():
    x = fc.Input((8, 8, 3))
    y = conv(conv(x, 8, activation="relu"), 8, activation="relu")
    y = Counting(name="counting")(y)
    y = conv(conv(conv(y, 8), 8, activation="relu"), 8)
    return fc.Model(x, L.Dense(5, activation="softmax")(L.Flatten()(y)))


NETS = [plain, residual, mixed, volumes, numpy_layer]


# ------------------------------------------------------------------------------------------ the same bits


def train(make, choice, n=13, steps=3):
    """Losses, metrics and weights after some steps, and the model."""
    fc.seed(3)
    model = make()
    model.compile("adam", CROSSENTROPY, metrics=[["accuracy"]] * len(model.outputs), recompute=choice)
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((n, *model.inputs[0].sample_shape)), rng.integers(0, 5, n)
    ys = [y] * len(model.outputs) if len(model.outputs) > 1 else y
    losses = [model.train_on_batch(x, ys) for _ in range(steps)]
    return losses, [w.tobytes() for w in model.get_weights()], model


def positions(make, rng):
    """Three lists of positions of layers: all, every third, and some at random."""
    count = len(make().layers)
    return [range(count), range(1, count, 3), sorted(rng.choice(count, count // 2, replace=False))]


def train_kept(make, kept):
    """`train` with `recompute` the names of the layers at the positions `kept`."""
    def named():
        model = make()
        compile_ = model.compile
        model.compile = lambda *args, recompute, **words: compile_(
            *args, recompute=[model.layers[i].name for i in kept], **words)
        return model

    return train(named, None)


def step_bytes(model):
    return next(reversed(model._plans.values())).bytes


def recomputed_steps(model):
    """(name, layer) of the steps that recompute something."""
    plan = next(reversed(model._plans.values()))
    return [(step.name, step.layer) for step in plan.builder.needed_steps() if step.recomputes]


@pytest.mark.parametrize("make", NETS)
def test_the_same_bits(make, rng):
    losses, weights, model = train(make, False)
    assert len(set(map(str, losses))) == 3 and np.isfinite(losses).all()
    for kept in positions(make, rng):
        assert train_kept(make, kept)[:2] == (losses, weights)
    *results, chosen = train(make, True)
    assert tuple(results) == (losses, weights)
    assert sum(step_bytes(chosen).values()) <= sum(step_bytes(model).values())


@pytest.mark.parametrize("make", [plain, residual])
def test_the_same_bits_on_any_number_of_threads(make, threads):
    assert train(make, True)[:2] == train(make, False)[:2]


@pytest.mark.parametrize("make", [plain, residual, mixed, volumes])
def test_nothing_depends_on_memory_that_was_given_up(make, rng, monkeypatch):
    """Memory is filled with NaN before its first and after its last use."""
    usual = train(make, False)[:2]
    monkeypatch.setattr(Builder, "finish", finish_and_count)
    monkeypatch.setattr(Plan, "run", run_poisoned)
    for kept in positions(make, rng):
        assert train_kept(make, kept)[:2] == usual


def test_a_numpy_layer_runs_once_a_step():
    model = train(numpy_layer, True, steps=3)[2]
    assert model.get_layer("counting").calls == 3


def test_frozen_layers_are_not_recomputed():
    """Nothing before the first trained layer is needed again."""
    def frozen():
        model = deep(12)
        for layer in model.layers[:8]:
            layer.trainable = False
        return model

    *results, model = train_kept(frozen, [4, 6, 10])
    assert tuple(results) == train(frozen, False)[:2]
    assert {layer for _, layer in recomputed_steps(model)} == set(model.layers[7:10])


# ------------------------------------------------------------------------------------------ memory


def deep(layers):
    """Convolutions of one size."""
    model = fc.Sequential([fc.Input((16, 16, 8))])
    for _ in range(layers):
        model.add(L.Conv2D(8, 3, padding="same", activation="relu", kernel_initializer="he_normal"))
    model.add(L.Flatten())
    model.add(L.Dense(5, activation="softmax"))
    return model


def activations(layers, choice):
    """Memory of a step of `deep`, in images of its layers."""
    n, model = 512, deep(layers)
    model.compile("sgd", CROSSENTROPY, recompute=choice)
    return model.measure(n)[1]["activations"] / (4 * n * 16 * 16 * 8)


def test_memory_grows_with_the_root_of_the_depth():
    for layers in (16, 64):
        assert activations(layers, False) > layers
        assert activations(layers, True) < 3 * np.sqrt(layers)


@pytest.mark.parametrize("make", [lambda: deep(16), residual])
def test_the_predicted_memory_is_what_is_allocated(make):
    n, model = 400, train(make, True, n=2)[2]
    predicted = sum(model.measure(n)[1].values())
    x, y = np.zeros((n, *model.inputs[0].sample_shape), np.float32), np.zeros(n, int)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    model.train_on_batch(x, [y] * len(model.outputs) if len(model.outputs) > 1 else y)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert predicted == pytest.approx(used, rel=0.1)


def test_a_step_allocates_nothing():
    model = train(lambda: deep(24), True)[2]
    plan = next(reversed(model._plans.values()))
    tracemalloc.start()
    plan.run()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    plan.run()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 4096


# ------------------------------------------------------------------------------------------ where to cut


def operations(*reads):
    """One operation for each list of the numbers of those that it reads."""
    ops = []
    for numbers in reads:
        ops.append(Operation([ops[i].y for i in numbers] or [Value((10,))], (10,)))
    return ops


def test_inner_values():
    a, b, c, d = ops = operations([], [0], [0, 1], [2])
    assert recompute.inner_values(ops) == {op.y for op in ops}
    assert recompute.inner_values([a, b]) == set()
    assert recompute.inner_values([a, b, c]) == {a.y, b.y}
    assert recompute.inner_values([b, c]) == {b.y} and recompute.inner_values([d]) == {d.y}


def test_cuts():
    a, b, c, d = ops = operations([], [0], [1], [2])
    assert recompute.cut_after(ops, {b, None}) == [[a, b], [c, d]]
    assert recompute.cut_after(ops, {a, d}) == [[a], [b, c, d]]
    assert recompute.cut_after(ops, {}) == [ops]


def test_cuts_keep_as_little_as_they_can():
    """Of two residual blocks, the sums."""
    ops = operations([], [0], [0, 1], [2], [2, 3], [4])
    assert recompute.cut_at(ops, recompute.fewest_kept(ops, 30)) == [ops[:3], ops[3:]]
    assert recompute.cut_at(ops, recompute.fewest_kept(ops, 1)) == [[op] for op in ops]
    assert recompute.cut_at(ops, recompute.fewest_kept(ops, 60)) == [ops]


def test_the_smallest_is_chosen():
    ops = operations([], *([i] for i in range(20)))
    assert list(map(len, recompute.smallest(ops, lambda segments: abs(len(segments) - 5)))) == [1, 5, 5, 5, 5]
    assert recompute.smallest(ops, lambda segments: 1) == [ops]


# ------------------------------------------------------------------------------------------ what users say


def test_layers_and_models_by_name():
    """A model's name stands for its output, wherever it is called."""
    model = mixed()
    model.compile("sgd", CROSSENTROPY, recompute=["block"])
    x, y = np.zeros((4, 16, 16, 2)), np.zeros(4, int)
    model.train_on_batch(x, y)
    again = {name.removesuffix(" forward") for name, _ in recomputed_steps(model)}
    assert model.get_layer("block").layers[0].name in again
    assert not any(isinstance(layer, L.UpSampling2D) for _, layer in recomputed_steps(model))


def test_a_profile_shows_what_is_recomputed():
    model = train(lambda: deep(12), True)[2]
    x = np.zeros((13, 16, 16, 8), np.float32)
    rows = model.profile(x, np.zeros(13, int), repeats=2).rows
    assert any(row.pass_ == "recompute" for row in rows)


@pytest.mark.parametrize("choice", [True, ["a", "b"]])
def test_a_file_holds_the_choice(tmp_path, choice):
    model = fc.Sequential([L.Conv2D(8, 3, activation="relu", input_shape=(9, 9, 3), name=name) if name == "a" else
                           L.Conv2D(8, 3, name=name) for name in "abc"])
    model.add(L.Flatten())
    model.add(L.Dense(5, activation="softmax"))
    model.compile("adam", CROSSENTROPY, recompute=choice)
    x, y = np.random.default_rng(0).standard_normal((6, 9, 9, 3)), np.arange(6) % 5
    model.train_on_batch(x, y)
    model.save(tmp_path / "m.safetensors")
    loaded = fc.load_model(tmp_path / "m.safetensors")
    assert loaded._compiled[3] == choice
    assert loaded.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert step_bytes(loaded) == step_bytes(model)


@pytest.mark.parametrize(("choice", "error", "fragments"), [
    ("conv", TypeError, ["recompute", "True, False, or a list", "'conv'"]),
    (1, TypeError, ["recompute", "got 1"]),
    ([3], TypeError, ["got [3]"]),
    ([], ValueError, ["empty list", "give True"]),
    (["conf"], ValueError, ["unknown layer 'conf'", "Did you mean 'conv'", "recompute"]),
])
def test_mistakes(choice, error, fragments):
    model = fc.Sequential([L.Conv2D(4, 3, input_shape=(8, 8, 1), name="conv"), L.Flatten(), L.Dense(2)])
    with pytest.raises(error) as caught:
        model.compile("sgd", "mse", recompute=choice)
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value
