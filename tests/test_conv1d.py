"""Convolution and pooling of sequences: ops against the reference, layers against Keras and float64."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers, ops, reference
from fastcnn.kernels import _cpu
from fastcnn.plan.lowering import Lowering, fuse
from fastcnn.plan.operations import Value
from tests.check import assert_close, assert_same, small_ints
from tests.sandwich import assert_same_after_saving, assert_step_follows_float64, bits_of_training, numbers

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

# (n, steps, ic, oc, k, other arguments)
CONVS = [
    (2, 9, 3, 5, 3, {}),
    (3, 17, 4, 33, 5, {"strides": 2, "padding": "same"}),
    (2, 8, 16, 17, 4, {"padding": "causal", "dilation": 2}),
    (1, 31, 1, 6, 7, {"strides": 3, "padding": "causal"}),
    (5, 6, 6, 4, 2, {"groups": 2, "padding": (0, 3)}),
    (2, 7, 5, 10, 3, {"groups": 5, "padding": 1}),
    (2, 3, 40, 8, 3, {"padding": ((2, 1),), "algorithm": "im2col"}),
    (0, 4, 2, 3, 2, {}),
]


@pytest.mark.parametrize(("n", "steps", "ic", "oc", "k", "words"), CONVS)
def test_passes_are_exact_and_adjoint(n, steps, ic, oc, k, words, isa, threads, rng):
    x, w = small_ints(rng, (n, steps, ic)), small_ints(rng, (k, ic // words.get("groups", 1), oc))
    b, y = small_ints(rng, (oc,)), ops.conv1d(x, w, **words)
    assert_same(ops.conv1d(x, w, b, **words), reference.conv1d(x, w, b, **words))
    dy = small_ints(rng, y.shape)
    dx, dw = ops.conv1d_input_grad(dy, w, x.shape, **words), ops.conv1d_weight_grad(x, dy, k, **words)
    assert_same(dx, reference.conv1d_input_grad(dy, w, x.shape, **words))
    assert_same(dw, reference.conv1d_weight_grad(x, dy, k, **words))
    products = [np.sum(p.astype(np.float64) * q) for p, q in ((dy, y), (dx, x), (dw, w))]
    assert products[0] == products[1] == products[2]


def loop_conv1d(x, w, stride, before, after, dilation):
    """From the formula, one number at a time."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (before, after), (0, 0)))
    k, _, oc = w.shape
    outputs = (padded.shape[1] - (k - 1) * dilation - 1) // stride + 1
    y = np.zeros((len(x), outputs, oc))
    for n, p, o in np.ndindex(y.shape):
        y[n, p, o] = sum(padded[n, p * stride + i * dilation] @ w[i, :, o] for i in range(k))
    return y


def test_the_reference_is_its_loop(rng):
    x, w = small_ints(rng, (2, 11, 3)), small_ints(rng, (3, 3, 2))
    assert_same(reference.conv1d(x, w, None, 2, (1, 2), 2), loop_conv1d(x, w, 2, 1, 2, 2))
    assert_same(reference.conv1d(x, w, None, 1, "causal", 3), loop_conv1d(x, w, 1, 6, 0, 3))
    assert_same(reference.conv1d(x, w, None, 2, "same"), loop_conv1d(x, w, 2, 1, 1, 1))


def test_causal_never_looks_ahead(rng):
    x, w = small_ints(rng, (1, 10, 2)), small_ints(rng, (3, 2, 4))
    changed = x.copy()
    changed[:, 6:] += 1
    y, other = (ops.conv1d(a, w, padding="causal", dilation=2) for a in (x, changed))
    assert_same(y[:, :6], other[:, :6])
    assert y.shape == (1, 10, 4) and (y[:, 6:] != other[:, 6:]).any()


POOLS = [(2, {}), (3, {"strides": 2, "padding": "same"}), (3, {"strides": 1, "padding": (2, 1)}), (2, {"strides": 3})]


@pytest.mark.parametrize(("pool", "words"), POOLS)
def test_pools(pool, words, isa, rng):
    x = small_ints(rng, (3, 13, 19), bits=2)  # many ties
    x[1, 4, 3] = np.nan
    y = reference.max_pool1d(x, pool, **words)
    dy = small_ints(rng, y.shape)
    assert_same(ops.max_pool1d(x, pool, **words), y)
    assert_same(ops.max_pool1d_grad(dy, x, pool, **words), reference.max_pool1d_grad(dy, x, pool, **words))
    assert_close(ops.avg_pool1d(x, pool, **words), reference.avg_pool1d(x, pool, **words), pool)
    want = reference.avg_pool1d_grad(dy, x.shape, pool, **words)
    assert_close(ops.avg_pool1d_grad(dy, x.shape, pool, **words), want, pool)


def test_pools_by_hand():
    x = np.array([[[1.0], [5], [5], [2], [4]]])
    assert_same(reference.max_pool1d(x, 2), [[[5.0], [5]]])
    assert_same(reference.max_pool1d(x, 3, 2, "same"), [[[5.0], [5], [4]]])
    assert_same(reference.max_pool1d_grad(np.ones((1, 2, 1)), x, 3, 2), [[[0.0], [1], [1], [0], [0]]])
    assert_same(reference.avg_pool1d(x, 3, 2, "same"), [[[3.0], [4], [3]]])
    assert_same(reference.avg_pool1d_grad([[[6.0], [12], [2]]], x.shape, 3, 2, "same"), [[[3.0], [7], [4], [5], [1]]])


# ---- layers: values of Keras 3.15

KERAS_VALUES = [
    (
        "Conv1D",
        {"filters": 2, "kernel_size": 3, "padding": "causal", "dilation_rate": 2},
        (5, 2),
        [0, 2, -4, -1, -6, -2, -3, -2, 3, -7],
    ),
    (
        "Conv1D",
        {"filters": 2, "kernel_size": 3, "padding": "same", "strides": 2},
        (6, 2),
        [4, -11, -3, -4, -9, 4],
    ),
    (
        "Conv1D",
        {"filters": 4, "kernel_size": 2, "groups": 2, "strides": 2},
        (5, 2),
        [1, -4, 2, -3, -6, 2, 3, -3],
    ),
    (
        "DepthwiseConv1D",
        {"kernel_size": 2, "depth_multiplier": 2, "padding": "same"},
        (4, 2),
        [1, -4, 2, -3, 1, -1, -1, 4, -6, 2, 3, -3, -1, -2, 0, 4],
    ),
    (
        "SeparableConv1D",
        {"filters": 2, "kernel_size": 2, "padding": "same"},
        (4, 2),
        [-9, 3, -3, -1, 3, 9, -5, -2],
    ),
    (
        "MaxPooling1D",
        {"pool_size": 3, "strides": 2, "padding": "same"},
        (6, 2),
        [3, 2, 3, 1, 2, 3],
    ),
    (
        "AveragePooling1D",
        {"pool_size": 3, "strides": 2, "padding": "same"},
        (6, 2),
        [0, 0.333333, 1.333333, -0.666667, 0, 1.5],
    ),
]


@pytest.mark.parametrize(("name", "words", "sample", "want"), KERAS_VALUES)
def test_values_are_keras(name, words, sample, want):
    layer, x = getattr(layers, name)(**words), numbers((1, *sample), 7)
    layer(layers.Input(sample))
    layer.set_weights([numbers(w.shape, (3, 4, 6)[i]) for i, w in enumerate(layer.get_weights())])
    np.testing.assert_allclose(layer(x).ravel(), want, rtol=0, atol=1e-6)


# ---- layers: training against float64

STEPS = [
    ({"kernel_size": 3, "padding": "causal", "dilation_rate": 2, "activation": "relu"}, 9),
    ({"kernel_size": 4, "strides": 2, "padding": "same", "activation": "gelu", "use_bias": False}, 11),
    ({"kernel_size": (2,), "groups": 3, "activation": "softmax"}, 7),
    ({"kernel_size": 3, "padding": (2, 0), "algorithm": "im2col"}, 5),
]


@pytest.mark.parametrize(("words", "steps"), STEPS)
def test_a_step_follows_float64(words, steps, rng):
    layer = layers.Conv1D(6, bias_initializer="random_normal", **words)
    options = {
        "strides": layer.strides,
        "padding": layer.padding,
        "dilation": layer.dilation_rate,
        "groups": layer.groups,
    }

    def gradients(dz, x, w, b=None):
        dw = reference.conv1d_weight_grad(x, dz, layer.kernel_size, **options)
        dx = reference.conv1d_input_grad(dz, w, x.shape, **options)
        return dx, [dw, *[dz.sum((0, 1))] * (b is not None)]

    assert_step_follows_float64(
        layer, (steps, 2), rng, lambda x, *w: reference.conv1d(x, *w, **options), gradients
    )


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
def test_depthwise_follows_float64(padding, rng):
    layer = layers.DepthwiseConv1D(3, padding=padding, depth_multiplier=2, activation="relu")
    options = {"padding": padding, "groups": 3}

    def gradients(dz, x, w, b):
        dw = reference.conv1d_weight_grad(x, dz, 3, **options).reshape(w.shape)
        dx = reference.conv1d_input_grad(dz, w.reshape(3, 1, 6), x.shape, **options)
        return dx, [dw, dz.sum((0, 1))]

    assert_step_follows_float64(
        layer, (8, 2), rng, lambda x, w, b: reference.conv1d(x, w.reshape(3, 1, 6), b, **options), gradients
    )


@pytest.mark.parametrize(("pool", "words"), [(2, {}), (3, {"strides": 2, "padding": "same"}), (2, {"padding": (1, 0)})])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_follows_float64(kind, pool, words, rng):
    make = {"max": layers.MaxPooling1D, "avg": layers.AveragePooling1D}[kind]
    forward, gradient = (getattr(reference, f"{kind}_pool1d{end}") for end in ("", "_grad"))

    def gradients(dz, x):
        return gradient(dz, x if kind == "max" else x.shape, pool, **words), []

    assert_step_follows_float64(make(pool, **words), (9, 2), rng, lambda x: forward(x, pool, **words), gradients)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_global_pooling_follows_float64(kind, keepdims, rng):
    make = {"max": layers.GlobalMaxPooling1D, "avg": layers.GlobalAveragePooling1D}[kind]
    forward, gradient = (getattr(reference, f"global_{kind}_pool2d{end}") for end in ("", "_grad"))

    def row(x):
        return x[:, None]

    def gradients(dz, x):
        dz = dz.reshape(len(x), -1)
        return gradient(dz, row(x) if kind == "max" else row(x).shape)[:, 0], []

    assert_step_follows_float64(
        make(keepdims), (9, 2), rng, lambda x: forward(row(x), keepdims).reshape(len(x), *[1] * keepdims, -1),
        gradients,
    )


def test_zero_padding_follows_float64(rng):
    assert_step_follows_float64(
        layers.ZeroPadding1D((1, 3)), (4, 2), rng, lambda x: np.pad(x, ((0, 0), (1, 3), (0, 0))),
        lambda dz, x: (dz[:, 1:-3], []),
    )


# ---- networks


def network() -> fc.Sequential:
    return fc.Sequential(
        [
            fc.Input((12, 3)),
            layers.Conv1D(8, 3, padding="causal", activation="relu"),
            layers.MaxPooling1D(2),
            layers.SeparableConv1D(8, 3, padding="same", activation="relu"),
            layers.ZeroPadding1D(1),
            layers.AveragePooling1D(2),
            layers.DepthwiseConv1D(2, activation="tanh"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def fused_operations(chain) -> list[str]:
    plan, value = Lowering(training=True), Value((13, 3))
    for layer in chain:
        value = layer.lower(plan, value)
    return [op.name for op in fuse(plan.ops, [value])]


def test_pooling_and_relu_run_inside_the_convolution():
    """The fused pass is the same function, forward and backward, as the layers one by one."""
    fc.seed(3)
    fused, apart = (
        fc.Sequential([fc.Input((13, 3)), layers.Conv1D(5, 3), *between, layers.MaxPooling1D(2), layers.Flatten()])
        for between in ([layers.ReLU()], [layers.ELU(0.0)])
    )
    apart.set_weights(fused.get_weights())
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 13, 3))
    y = rng.standard_normal((6, 25))
    for model in (fused, apart):
        model.compile("sgd", "mse")
        model.train_on_batch(x, y)
    assert fused_operations(fused.layers) == ["conv", "reshape"]
    for got, want in zip(fused.get_weights(), apart.get_weights(), strict=True):
        assert_close(got, want, 100)


def test_threads_do_not_change_a_bit():
    usual, results = _cpu.get_num_threads(), set()
    for threads in (1, 2, 3):
        _cpu.set_num_threads(threads)
        results.add(bits_of_training(lambda: layers.Conv1D(9, 3, padding="causal", activation="relu"), (11, 2)))
    _cpu.set_num_threads(usual)
    assert len(results) == 1


def test_it_learns_and_can_be_saved(tmp_path, rng):
    """Whether a rising or a falling edge comes first."""
    fc.seed(0)
    model = network()
    y = rng.integers(0, 2, 128)
    x = 0.1 * rng.standard_normal((128, 12, 3))
    for i, label in enumerate(y):
        at = rng.integers(2, 8)
        x[i, at : at + 2, 0] += (1, -1) if label else (-1, 1)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=40, batch_size=16, verbose=0)
    assert model.evaluate(x, y, return_dict=True, verbose=0)["accuracy"] > 0.95
    assert_same_after_saving(model, x, tmp_path / "model.safetensors")


def test_the_example_learns():
    main = runpy.run_path(str(EXAMPLES / "sequence_classification.py"))["main"]
    assert main(epochs=3, samples=1500) > 0.7


# ---- mistakes

X, W = np.zeros((2, 6, 4)), np.zeros((3, 4, 8))
MISTAKES = [
    (lambda: ops.conv1d(X[0], W), ValueError, r"conv1d: x must have 3 axes \(batch, steps, channels\)"),
    (lambda: ops.conv1d(X, W[:, :3]), ValueError, "expect 3 input channels .* has 4"),
    (lambda: ops.conv1d(X, np.zeros((7, 4, 8))), ValueError, "window of 7 steps is larger than the sequence of 6"),
    (lambda: ops.conv1d(X, W, strides=(1, 1)), TypeError, "conv1d: strides must be an int, got"),
    (lambda: ops.conv1d(X, W, padding="full"), ValueError, "must be 'valid', 'same', 'causal', an int, a pair"),
    (lambda: ops.conv1d(X, W, padding=(1, 2, 3)), TypeError, "a pair \\(before, after\\)"),
    (lambda: ops.conv1d_weight_grad(X, X, 3), ValueError, "dy must have the shape of conv1d's result"),
    (lambda: ops.conv1d_input_grad(X, W, (2, 6, 1, 4)), ValueError, r"input_shape must be \(batch, steps, channels\)"),
    (lambda: ops.max_pool1d(X, 2, padding=2), ValueError, "max_pool1d: padding .* must be below the pool_size 2"),
    (lambda: layers.Conv1D(3, (2, 2), name="c"), TypeError, "c: kernel_size must be an int"),
    (lambda: layers.Conv1D(3, 2, padding="full", name="c"), ValueError, "c: padding must be 'valid', 'same', 'causal'"),
    (lambda: layers.Conv1D(3, 9, name="c")(layers.Input((5, 2))), ValueError, "c: the window of 9 steps"),
    (lambda: layers.Conv1D(3, 2, name="c")(layers.Input((5,))), ValueError, r"c: .*\(batch, steps, channels\).*None\]"),
    (lambda: layers.Conv1D(3, 2, name="c")(layers.Input((5, 5, 1))), ValueError, "c: .*reshape it first"),
    (lambda: layers.MaxPooling1D(2, padding="causal", name="p"), ValueError, "p: padding 'causal' is for convolutions"),
    (lambda: layers.MaxPooling1D(2, padding=(2, 0), name="p"), ValueError, "p: padding must be less than pool_size"),
    (lambda: layers.AveragePooling1D(4, name="p")(layers.Input((3, 1))), ValueError, "p: the window of 4 steps"),
    (lambda: layers.ZeroPadding1D("same", name="z"), TypeError, "z: padding must be an int, a pair"),
    (lambda: layers.ZeroPadding1D((1, -1), name="z"), ValueError, "z: padding must be at least 0"),
    (lambda: layers.SeparableConv1D(0, 2, name="s"), ValueError, "s: filters must be"),
    (lambda: layers.DepthwiseConv1D(2, depth_multiplier=0, name="d"), ValueError, "d: depth_multiplier must be"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()
