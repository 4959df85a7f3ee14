"""Convolution and pooling of volumes: ops against the reference, layers against Keras and float64."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers, ops, optimizers, reference
from fastcnn.kernels import _cpu
from fastcnn.kernels import conv3d as passes
from fastcnn.kernels._eltwise import BiasGrad, Copy
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._op import Tensor
from fastcnn.kernels._series import Series
from fastcnn.plan import builder, volumes
from tests.check import assert_close, assert_same, small_ints
from tests.sandwich import assert_same_after_saving, assert_step_follows_float64, bits_of_training, numbers

# (n, depth, height, width, ic, oc, kernel, other arguments)
CONVS = [
    (2, 3, 4, 5, 3, 5, (2, 3, 2), {}),
    (3, 5, 6, 7, 4, 17, 3, {"padding": "same"}),
    (2, 6, 5, 8, 2, 33, (3, 2, 4), {"padding": "same", "strides": 2}),
    (1, 7, 4, 4, 1, 6, (3, 1, 2), {"strides": (3, 1, 2), "padding": ((2, 0), (0, 1), (1, 1))}),
    (2, 7, 6, 6, 3, 4, 3, {"dilation": (3, 2, 1), "padding": (1, 2, 1)}),
    (2, 4, 4, 3, 6, 4, 2, {"groups": 2, "strides": (2, 3, 3)}),
    (2, 3, 3, 3, 4, 4, 3, {"groups": 4, "padding": 1}),
    (1, 4, 3, 5, 20, 8, (2, 3, 3), {"padding": "same", "algorithm": "im2col"}),
    (2, 1, 5, 5, 3, 5, (1, 3, 3), {"padding": "same"}),
    (0, 3, 3, 3, 2, 3, 2, {}),
    # Volumes flatter than the kernel: offsets of the taps go back from one slice to the next.
    (1, 2, 1, 2, 1, 1, 3, {"padding": "same"}),
    (2, 5, 1, 6, 1, 3, (3, 5, 3), {"padding": "same", "strides": (1, 1, 3)}),
    (1, 2, 1, 2, 5, 40, (3, 5, 3), {"padding": "same"}),
]


@pytest.mark.parametrize(("n", "d", "h", "w", "ic", "oc", "kernel", "words"), CONVS)
def test_passes_are_exact_and_adjoint(n, d, h, w, ic, oc, kernel, words, isa, threads, rng):
    size = (kernel,) * 3 if isinstance(kernel, int) else kernel
    x, f = small_ints(rng, (n, d, h, w, ic)), small_ints(rng, (*size, ic // words.get("groups", 1), oc))
    b, y = small_ints(rng, (oc,)), ops.conv3d(x, f, **words)
    assert_same(ops.conv3d(x, f, b, **words), reference.conv3d(x, f, b, **words))
    dy = small_ints(rng, y.shape)
    dx, df = ops.conv3d_input_grad(dy, f, x.shape, **words), ops.conv3d_weight_grad(x, dy, kernel, **words)
    assert_same(dx, reference.conv3d_input_grad(dy, f, x.shape, **words))
    assert_same(df, reference.conv3d_weight_grad(x, dy, kernel, **words))
    products = [np.sum(p.astype(np.float64) * q) for p, q in ((dy, y), (dx, x), (df, f))]
    assert products[0] == products[1] == products[2]


def test_weights_that_outgrow_the_cache(monkeypatch, threads, rng):
    """Then work is cut by blocks of channels, in all slices alike."""
    monkeypatch.setattr(passes, "HUGE_WEIGHTS", 100)
    x, w = small_ints(rng, (3, 4, 5, 6, 20)), small_ints(rng, (3, 3, 3, 20, 40))
    dy = small_ints(rng, (3, 2, 3, 3, 40))
    words = {"strides": 2, "padding": "same"}
    assert_same(ops.conv3d(x, w, **words), reference.conv3d(x, w, **words))
    assert_same(ops.conv3d_input_grad(dy, w, x.shape, **words), reference.conv3d_input_grad(dy, w, x.shape, **words))


def loop_conv3d(x, w, strides, pads, dilation):
    """From the formula, one number at a time."""
    padded = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    kernel, oc = w.shape[:3], w.shape[4]
    output = [
        (size - (k - 1) * gap - 1) // step + 1
        for size, k, step, gap in zip(padded.shape[1:4], kernel, strides, dilation, strict=True)
    ]
    y = np.zeros((len(x), *output, oc))
    for n, p, q, r, o in np.ndindex(y.shape):
        for i, j, k in np.ndindex(kernel):
            at = [a * step + t * gap for a, step, t, gap in zip((p, q, r), strides, (i, j, k), dilation, strict=True)]
            y[n, p, q, r, o] += padded[(n, *at)] @ w[i, j, k, :, o]
    return y


def test_the_reference_is_its_loop(rng):
    x, w = small_ints(rng, (2, 5, 4, 6, 2)), small_ints(rng, (2, 3, 2, 2, 3))
    pads = ((1, 0), (0, 2), (1, 1))
    got = reference.conv3d(x, w, None, (2, 1, 2), pads, (1, 1, 3))
    assert_same(got, loop_conv3d(x, w, (2, 1, 2), pads, (1, 1, 3)))
    assert_same(reference.conv3d(x, w, padding="same"), loop_conv3d(x, w, (1,) * 3, ((0, 1), (1, 1), (0, 1)), (1,) * 3))


def test_nan_reaches_only_its_windows(rng):
    """The zeros between slices are never multiplied by a neighbour's NaN."""
    x, w = small_ints(rng, (2, 4, 5, 4, 2)), np.ones((3, 3, 3, 2, 9), np.float32)
    x[0, 1, 4, 3, 0], x[1, 3, 0, 0, 1] = np.nan, np.inf
    dy = small_ints(rng, (2, 4, 5, 4, 9))
    with np.errstate(invalid="ignore"):
        assert_same(ops.conv3d(x, w, padding="same"), reference.conv3d(x, w, padding="same"))
    dy[1, 2, 4, 1, 3] = np.nan
    assert_same(
        ops.conv3d_input_grad(dy, w, x.shape, padding="same"),
        reference.conv3d_input_grad(dy, w, x.shape, padding="same"),
    )


POOLS = [
    (2, {}),
    ((2, 3, 1), {"strides": 1, "padding": "same"}),
    ((3, 2, 2), {"strides": (1, 2, 3), "padding": ((2, 1), (0, 1), (1, 0))}),
    ((1, 1, 2), {"strides": 2}),
]


@pytest.mark.parametrize(("pool", "words"), POOLS)
def test_pools(pool, words, isa, rng):
    x = small_ints(rng, (2, 5, 4, 7, 19), bits=2)  # many ties
    x[1, 2, 3, 4] = np.nan
    y = reference.max_pool3d(x, pool, **words)
    dy = small_ints(rng, y.shape)
    assert_same(ops.max_pool3d(x, pool, **words), y)
    assert_same(ops.max_pool3d_grad(dy, x, pool, **words), reference.max_pool3d_grad(dy, x, pool, **words))
    assert_close(ops.avg_pool3d(x, pool, **words), reference.avg_pool3d(x, pool, **words), 12)
    want = reference.avg_pool3d_grad(dy, x.shape, pool, **words)
    assert_close(ops.avg_pool3d_grad(dy, x.shape, pool, **words), want, 50)


def test_the_first_maximum_is_slice_by_slice():
    x = np.zeros((1, 2, 2, 2, 1))
    x[0, 0, 1, 1], x[0, 1, 0, 0] = 3, 3
    want = np.zeros_like(x)
    want[0, 0, 1, 1] = 1
    assert_same(ops.max_pool3d_grad(np.ones((1, 1, 1, 1, 1)), x, 2), want)


# ---- layers: values of Keras 3.15

KERAS_VALUES = [
    (
        "Conv3D",
        {"filters": 2, "kernel_size": 2, "padding": "same"},
        (2, 3, 2, 1),
        [-2, -5, -6, 4, 2, -5, -2, 0, -2, 3, -3, -3, 1, 1, 1, -4, -9, 4, 1, -1, 0, -6, -5, 2],
    ),
    (
        "Conv3D",
        {"filters": 2, "kernel_size": (2, 3, 2), "strides": (1, 2, 2), "padding": "same"},
        (2, 3, 4, 1),
        [-6, -3, -7, -3, -1, 0, -7, 6, -2, -2, -6, -2, 0, -2, -3, 1],
    ),
    (
        "MaxPooling3D",
        {"pool_size": 2, "strides": 1, "padding": "same"},
        (2, 3, 2, 1),
        [2, 2, 3, 3, 3, 3, 2, 0, 3, 3, 3, 3],
    ),
    (
        "AveragePooling3D",
        {"pool_size": 2, "strides": (1, 2, 1), "padding": "same"},
        (2, 3, 2, 1),
        [-0.625, -0.75, 1.25, 2, -0.5, -1.5, 0.5, 3],
    ),
]


@pytest.mark.parametrize(("name", "words", "sample", "want"), KERAS_VALUES)
def test_values_are_keras(name, words, sample, want):
    layer, x = getattr(layers, name)(**words), numbers((1, *sample), 7)
    layer(layers.Input(sample))
    layer.set_weights([numbers(w.shape, (3, 4)[i]) for i, w in enumerate(layer.get_weights())])
    np.testing.assert_allclose(layer(x).ravel(), want, rtol=0, atol=1e-6)


# ---- layers: training against float64

STEPS = [
    ({"kernel_size": 3, "padding": "same", "activation": "relu"}, (3, 4, 4)),
    ({"kernel_size": 2, "activation": "relu"}, (3, 4, 3)),
    ({"kernel_size": (1, 3, 2), "padding": "same", "use_bias": False}, (2, 4, 4)),
    ({"kernel_size": (3, 1, 2), "padding": "same", "activation": "relu6"}, (4, 3, 4)),
    ({"kernel_size": (2, 3, 3), "strides": 2, "padding": "same", "activation": "tanh"}, (5, 4, 5)),
    ({"kernel_size": 2, "strides": 3, "dilation_rate": (1, 2, 1)}, (5, 6, 5)),
    ({"kernel_size": 3, "padding": ((1, 0), (0, 1), (2, 0)), "groups": 3, "activation": "softmax"}, (3, 3, 3)),
    ({"kernel_size": 3, "padding": "same", "algorithm": "im2col", "activation": "gelu"}, (3, 3, 3)),
]


def conv3d_passes(layer):
    """The two functions that `assert_step_follows_float64` wants."""
    words = {
        "strides": layer.strides,
        "padding": layer.padding,
        "dilation": layer.dilation_rate,
        "groups": layer.groups,
    }

    def forward(x, *weights):
        return reference.conv3d(x, *weights, **words)

    def gradients(dz, x, w, b=None):
        dw = reference.conv3d_weight_grad(x, dz, layer.kernel_size, **words)
        return reference.conv3d_input_grad(dz, w, x.shape, **words), [dw, *[dz.sum((0, 1, 2, 3))] * (b is not None)]

    return forward, gradients


@pytest.mark.parametrize(("words", "size"), STEPS)
def test_a_step_follows_float64(words, size, rng):
    layer = layers.Conv3D(6, bias_initializer="random_normal", **words)
    assert_step_follows_float64(layer, (*size, 2), rng, *conv3d_passes(layer))


def test_a_step_in_many_groups_and_stages(rng, monkeypatch):
    """Chunks of one sample, weights that count as too large for the cache, and partial sums of a few samples."""
    for name, size in (("CHUNK_BYTES", 1), ("LARGE_WEIGHTS", 100), ("PARTIAL_BYTES", 4 * 27 * 3 * 6 * 4)):
        monkeypatch.setattr(builder, name, size)
    monkeypatch.setattr(volumes, "LARGE_WEIGHTS", 100)
    monkeypatch.setattr(passes, "HUGE_WEIGHTS", 100)
    layer = layers.Conv3D(6, 3, padding="same", activation="relu")
    assert_step_follows_float64(layer, (3, 4, 3, 2), rng, *conv3d_passes(layer), n=11)


@pytest.mark.parametrize(
    ("pool", "words"), [(2, {}), ((1, 2, 3), {"padding": "same"}), (2, {"strides": 1, "padding": 1})]
)
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_follows_float64(kind, pool, words, rng):
    make = {"max": layers.MaxPooling3D, "avg": layers.AveragePooling3D}[kind]
    forward, gradient = (getattr(reference, f"{kind}_pool3d{end}") for end in ("", "_grad"))

    def gradients(dz, x):
        return gradient(dz, x if kind == "max" else x.shape, pool, **words), []

    assert_step_follows_float64(make(pool, **words), (3, 4, 5, 2), rng, lambda x: forward(x, pool, **words), gradients)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_global_pooling_follows_float64(kind, keepdims, rng):
    make = {"max": layers.GlobalMaxPooling3D, "avg": layers.GlobalAveragePooling3D}[kind]
    forward, gradient = (getattr(reference, f"{kind}_pool3d{end}") for end in ("", "_grad"))
    size = (3, 2, 4)

    def gradients(dz, x):
        dz = dz.reshape(len(x), 1, 1, 1, -1)
        return gradient(dz, x if kind == "max" else x.shape, size), []

    def pooled(x):
        y = forward(x, size)
        return y if keepdims else y.reshape(len(x), -1)

    assert_step_follows_float64(make(keepdims), (*size, 2), rng, pooled, gradients)


def test_borders_that_no_memory_has(rng):
    """What a reshape hands on has no zeros around it: the convolution adds them itself, and reads them in training."""
    x, w = small_ints(rng, (3, 4, 4, 6, 5)), small_ints(rng, (3, 1, 3, 5, 6))
    model = fc.Sequential([layers.MaxPooling3D(2), layers.Conv3D(6, (3, 1, 3), padding="same", use_bias=False)])
    model.build((None, *x.shape[1:]))
    model.set_weights([w])
    pooled = reference.max_pool3d(x, 2)
    y = reference.conv3d(pooled, w, padding="same")
    assert_same(model.predict(x), y)
    model.compile(optimizers.SGD(y.size / 2), "mse")
    model.train_on_batch(x, np.zeros(y.shape))
    assert_close(model.get_weights()[0], w - reference.conv3d_weight_grad(pooled, y, (3, 1, 3), padding="same"), 36)


# ---- networks


def network() -> fc.Sequential:
    return fc.Sequential(
        [
            fc.Input((6, 6, 6, 1)),
            layers.Conv3D(6, 3, padding="same", activation="relu"),
            layers.MaxPooling3D(2),
            layers.Conv3D(8, 2, activation="relu"),
            layers.AveragePooling3D(2, strides=1, padding="same"),
            layers.GlobalAveragePooling3D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Conv3D(9, 3, padding="same", activation="relu"),
        lambda: layers.MaxPooling3D(2),
        lambda: layers.AveragePooling3D((2, 1, 2), padding="same"),
    ],
)
def test_threads_do_not_change_a_bit(make):
    usual, results = _cpu.get_num_threads(), set()
    for threads in (1, 2, 3):
        _cpu.set_num_threads(threads)
        results.add(bits_of_training(make, (4, 5, 4, 2)))
    _cpu.set_num_threads(usual)
    assert len(results) == 1


def test_it_learns_and_can_be_saved(tmp_path, rng):
    """Rods along the depth axis against rods along the rows: no single slice tells all of them apart."""
    fc.seed(0)
    y = rng.integers(0, 2, 96)
    x = 0.2 * rng.standard_normal((96, 6, 6, 6, 1))
    for i, along_depth in enumerate(y):
        a, b = rng.integers(0, 6, 2)
        x[(i, slice(None), a, b) if along_depth else (i, a, slice(None), b)] += 1
    model = network()
    model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=40, batch_size=16, verbose=0)
    assert model.evaluate(x, y, return_dict=True, verbose=0)["accuracy"] > 0.95
    assert_same_after_saving(model, x, tmp_path / "model.safetensors")


# ---- the driver


def test_a_series_adds_to_one_partial_sum(rng):
    x = [small_ints(rng, (5, 2, 3, 4)) for _ in range(3)]
    parts = np.full((3, 4), np.nan, np.float32)
    op = Series([BiasGrad(Tensor(a.shape, a), parts) for a in x])
    Program([Stage([op], 5, 2, 1)]).run()
    assert op.algorithm == "eltwise"
    total = sum(a.sum((1, 2)) for a in x)
    assert_same(parts, [total[:2].sum(0), total[2:4].sum(0), total[4]])


def test_a_series_wants_equal_items():
    one, two = (Tensor((n, 1, 1, 4), np.zeros((n, 1, 1, 4), np.float32)) for n in (1, 2))
    with pytest.raises(ValueError, match=r"copies: expected ops over the same items, got \[1, 2\]"):
        Series([Copy(one, one), Copy(two, two)], "copies")
    with pytest.raises(ValueError, match="over the same items"):
        Series([])


# ---- mistakes

X, W = np.zeros((2, 4, 5, 6, 4)), np.zeros((3, 3, 3, 4, 8))
MISTAKES = [
    (lambda: ops.conv3d(X[0], W), ValueError, r"conv3d: x must have 5 axes \(batch, depth, height, width, channels\)"),
    (lambda: ops.conv3d(X, W[..., :3, :]), ValueError, "expect 3 input channels .* has 4"),
    (lambda: ops.conv3d(X, np.zeros((5, 1, 1, 4, 8))), ValueError, "5x1x1 voxels is larger than the volume of 4x5x6"),
    (lambda: ops.conv3d(X, W, strides=(1, 1)), TypeError, "conv3d: strides must be an int or three ints, got"),
    (lambda: ops.conv3d(X, W, padding="causal"), ValueError, "conv3d: padding must be 'valid', 'same', an int, three"),
    (lambda: ops.conv3d_weight_grad(X, X, 3), ValueError, "dy must have the shape of conv3d's result"),
    (lambda: ops.conv3d_input_grad(X, W, (2, 6, 1, 4)), ValueError, r"input_shape must be \(batch, depth"),
    (lambda: ops.max_pool3d(X, 2, padding=(0, 2, 0)), ValueError, "max_pool3d: padding .* must be below the pool_size"),
    (lambda: layers.Conv3D(3, (2, 2), name="c"), TypeError, "c: kernel_size must be an int or three ints"),
    (lambda: layers.Conv3D(4, 2, groups=3, name="c"), ValueError, "c: groups=3 must divide the filters"),
    (lambda: layers.Conv3D(3, 9, name="c")(layers.Input((5, 9, 9, 2))), ValueError, "c: the window of 9x9x9 voxels"),
    (lambda: layers.Conv3D(3, 2, name="c")(layers.Input((5, 5, 1))), ValueError, r"c: .*\(batch, depth.*None\]"),
    (lambda: layers.MaxPooling3D(2, padding=2, name="p"), ValueError, "p: padding must be less than pool_size"),
    (lambda: layers.AveragePooling3D(4, name="p")(layers.Input((3, 4, 4, 1))), ValueError, "p: the window of 4x4x4"),
    (lambda: layers.GlobalMaxPooling3D(name="g")(layers.Input((3, 4, 1))), ValueError, "g: expected an input of shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()
