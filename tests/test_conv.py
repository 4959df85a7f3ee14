"""Convolution and its gradients against the float64 reference, over the list of shapes by risk."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bench.shapes import RISKS, ConvCase
from fastcnn import ops, reference
from fastcnn.kernels import _panels
from fastcnn.kernels import conv as conv_passes
from tests.check import assert_close, assert_same, small_ints
from tests.fuzz import convolution

ALGORITHMS = ("direct", "im2col")
each_risk = pytest.mark.parametrize("case", RISKS, ids=lambda case: case.name)
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def passes(case: ConvCase, x, w, b, dy, module, **options):
    """(name, result) of the three passes; `module` is fastcnn.ops or fastcnn.reference."""
    return convolution.passes(module, "conv2d", x, w, b, dy, **case.keywords, **options)


@cache
def exact_problem(case: ConvCase):
    """Arrays of small integers, and the reference's three results, which float32 must reach to the bit."""
    rng = np.random.default_rng(len(case.name))
    shapes = case.input_shape, case.weight_shape, (case.oc,), case.output_shape
    arrays = [small_ints(rng, shape) for shape in shapes]
    return arrays, dict(passes(case, *arrays, reference))


@cache
def real_problem(case: ConvCase):
    """Normal random arrays, the reference's results, and those of the magnitudes: the scale of errors."""
    rng = np.random.default_rng(len(case.name))
    shapes = case.input_shape, case.weight_shape, (case.oc,), case.output_shape
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    magnitudes = [np.abs(a) for a in arrays]
    return arrays, dict(passes(case, *arrays, reference)), dict(passes(case, *magnitudes, reference))


@each_risk
@each_algorithm
def test_small_integers_are_exact(case, algorithm, isa, threads):
    arrays, want = exact_problem(case)
    for name, got in passes(case, *arrays, ops, algorithm=algorithm):
        assert got.dtype == np.float32 and got.flags.c_contiguous and got.flags.writeable, name
        assert_same(got, want[name])


@each_risk
def test_panels_of_few_rows_are_exact(case, monkeypatch):
    """A cache so small that images are cut into bands of a row or two, or share a panel by twos."""
    arrays, want = exact_problem(case)
    for size, pixels in ((0, 10**6), (3000, 16), (3000, 10**6), (10**6, 1)):
        monkeypatch.setattr(_panels, "PANEL_BYTES", size)
        monkeypatch.setattr(conv_passes, "GRAD_PIXELS", pixels)
        for algorithm in ALGORITHMS:
            for name, got in passes(case, *arrays, ops, algorithm=algorithm):
                assert_same(got, want[name])


@each_risk
@each_algorithm
def test_adjoint_identities(case, algorithm):
    """<dy, conv(x, w)> = <input_grad(dy, w), x> = <weight_grad(x, dy), w>, in exact arithmetic."""
    (x, w, _, dy), _ = exact_problem(case)
    y, dx, dw = (a for _, a in passes(case, x, w, None, dy, ops, algorithm=algorithm))
    products = [np.sum(a.astype(np.int64) * b.astype(np.int64)) for a, b in ((dy, y), (dx, x), (dw, w))]
    assert products[0] == products[1] == products[2]


@each_risk
@each_algorithm
def test_real_data_is_close(case, algorithm, isa):
    arrays, want, scale = real_problem(case)
    terms = convolution.terms("conv2d", *arrays, **case.keywords)
    for name, got in passes(case, *arrays, ops, algorithm=algorithm):
        assert_close(got, want[name], terms[name], scale=scale[name])


# ---- what may be handed in

CASE = ConvCase("inputs", 2, 6, 7, 4, 9, 3, 2, (2, 1), ((1, 0), (2, 1)), (1, 2))


def strided(a):
    wide = np.zeros([2 * size for size in a.shape], a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    return wide[tuple(slice(None, None, 2) for _ in a.shape)]


def reversed_(a):
    every = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[every])[every]


def unaligned(a):
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "fortran order": np.asfortranarray,
    "strided": strided,
    "negative strides": reversed_,
    "unaligned": unaligned,
    "read-only": read_only,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "lists": lambda a: a.tolist(),
    **{
        dtype: lambda a, dtype=dtype: a.astype(dtype)
        for dtype in ("float64", "float16", "longdouble", "int8", "int64")
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_real_dtype_and_layout(layout):
    arrays, want = exact_problem(CASE)
    given = [LAYOUTS[layout](a) for a in arrays]
    copies = [np.array(a) for a in given]
    for algorithm in ALGORITHMS:
        for name, got in passes(CASE, *given, ops, algorithm=algorithm):
            assert_same(got, want[name])
    for a, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(a, copy)


def test_unsigned_bytes_and_truth_values(rng):
    x = rng.integers(0, 256, (2, 5, 6, 3)).astype(np.uint8)
    w = rng.integers(0, 2, (3, 3, 3, 4)).astype(bool)
    assert_same(ops.conv2d(x, w), reference.conv2d(x, w))


def test_repeated_memory(rng):
    """Strides of zero: one image and one filter seen many times."""
    x = np.broadcast_to(small_ints(rng, (1, 5, 5, 3)), (4, 5, 5, 3))
    w = np.broadcast_to(small_ints(rng, (3, 3, 3, 1)), (3, 3, 3, 20))
    assert_same(ops.conv2d(x, w), reference.conv2d(x, w))


@pytest.mark.parametrize("algorithm", ("auto", *ALGORITHMS))
def test_results_are_new_arrays(algorithm):
    arrays, _ = exact_problem(ConvCase("k1", 1, 4, 4, 3, 3, 1, 1))
    for name, got in passes(ConvCase("k1", 1, 4, 4, 3, 3, 1, 1), *arrays, ops, algorithm=algorithm):
        assert not any(np.shares_memory(got, a) for a in arrays), name


@pytest.mark.parametrize("ic, oc", [(0, 4), (4, 0), (0, 0)])
def test_no_channels(ic, oc):
    case = ConvCase("empty", 2, 4, 5, ic, oc, 3, 3, padding="same")
    arrays, want = exact_problem(case)
    for algorithm in ALGORITHMS:
        for name, got in passes(case, *arrays, ops, algorithm=algorithm):
            assert_same(got, want[name])


def test_weights_too_large_for_partial_sums(rng, threads):
    """Above a megabyte the weight gradient is cut by input channels."""
    case = ConvCase("large", 3, 4, 5, 150, 200, 3, 3, padding="same")
    x, dy = small_ints(rng, case.input_shape), small_ints(rng, case.output_shape)
    want = reference.conv2d_weight_grad(x, dy, 3, padding="same")
    for algorithm in ALGORITHMS:
        assert_same(ops.conv2d_weight_grad(x, dy, 3, padding="same", algorithm=algorithm), want)


def test_taps_far_apart_need_no_border():
    """A dilation that would pad a small image to gigabytes computes its few patches instead."""
    x, w = np.arange(1.0, 5).reshape(1, 2, 2, 1), np.arange(1.0, 10).reshape(3, 3, 1, 1)
    words = {"padding": "same", "dilation": 10**6}
    assert_same(ops.conv2d(x, w, **words), x * 5)
    assert_same(ops.conv2d_input_grad(x, w, x.shape, **words), x * 5)
    want = np.zeros((3, 3, 1, 1))
    want[1, 1] = np.sum(x * x)
    assert_same(ops.conv2d_weight_grad(x, x, 3, **words), want)


# ---- numbers that are not finite


@each_algorithm
@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("groups", (1, 4))
def test_nan_and_infinity_reach_what_they_should(value, groups, algorithm, isa, rng):
    case = ConvCase("nan", 2, 6, 7, 4, 8, 3, 3, (2, 1), "same", groups=groups)
    x, w, dy = (small_ints(rng, s) for s in (case.input_shape, case.weight_shape, case.output_shape))
    w[w == 0] = 1  # 0 * inf would be NaN
    x[0, 2, 3, 1], dy[1, 1, 2, 3] = value, value
    with np.errstate(invalid="ignore"):
        want = dict(passes(case, x, w, None, dy, reference))
    for name, got in passes(case, x, w, None, dy, ops, algorithm=algorithm):
        assert not np.isfinite(want[name]).all()
        assert_same(got, want[name])


# ---- errors

X, W = np.zeros((2, 6, 7, 4)), np.zeros((3, 3, 4, 8))
Y = np.zeros((2, 4, 5, 8))
MISTAKES = [
    (ops.conv2d, (X[0], W), {}, ValueError, r"conv2d: x must have 4 axes \(batch, height, width, channels\)"),
    (ops.conv2d, (X, W[0]), {}, ValueError, "conv2d: w must have 4 axes"),
    (ops.conv2d, (X * 1j, W), {}, TypeError, "conv2d: x must hold real numbers, got dtype complex128"),
    (ops.conv2d, (X.astype(str), W), {}, TypeError, "conv2d: x must hold real numbers"),
    (ops.conv2d, ([X, X[:1]], W), {}, ValueError, "conv2d: x must be an array"),
    (ops.conv2d, (X, np.zeros((3, 3, 5, 8))), {}, ValueError, "expect 5 input channels.*has 4"),
    (ops.conv2d, (X, W, np.zeros(7)), {}, ValueError, r"conv2d: b must have shape \(8,\), got \(7,\)"),
    (ops.conv2d, (X, np.zeros((9, 3, 4, 8))), {}, ValueError, "conv2d: the window of 9x3 pixels is larger"),
    (
        ops.conv2d,
        (np.zeros((2, 0, 7, 4)), W),
        {"padding": 3},
        ValueError,
        "conv2d: images must have at least one",
    ),
    (ops.conv2d, (X, W), {"strides": 0}, ValueError, "conv2d: strides must be at least 1"),
    (
        ops.conv2d,
        (X, W),
        {"strides": 1.5},
        TypeError,
        "conv2d: strides must be an int or a pair of ints, got 1.5",
    ),
    (ops.conv2d, (X, W), {"strides": (1, 2, 3)}, TypeError, "conv2d: strides must be an int or a pair"),
    (ops.conv2d, (X, W), {"strides": True}, TypeError, "conv2d: strides must be an int or a pair"),
    (ops.conv2d, (X, W), {"strides": 2**70}, ValueError, "conv2d: strides must be at least 1 and below"),
    (ops.conv2d, (X, W), {"dilation": 2**40}, ValueError, "conv2d: dilation must be at least 1 and below"),
    (
        ops.conv2d,
        (X, W),
        {"dilation": 2**31 - 1, "padding": "same"},
        ValueError,
        r"conv2d: the padded image .*2\*\*31",
    ),
    (ops.conv2d, (X, W), {"padding": -1}, ValueError, "conv2d: padding must be at least 0"),
    (ops.conv2d, (X, W), {"padding": "full"}, ValueError, "conv2d: padding must be 'valid', 'same'"),
    (ops.conv2d, (X, W), {"padding": None}, TypeError, "conv2d: padding must be"),
    (ops.conv2d, (X, W), {"groups": 3}, ValueError, "conv2d: groups=3 must divide"),
    (
        ops.conv2d,
        (X, W),
        {"groups": 2},
        ValueError,
        "conv2d: weights of shape .* expect 8 input channels",
    ),
    (ops.conv2d, (X, W), {"groups": 0}, ValueError, "conv2d: groups must be a whole number of 1 or more"),
    (ops.conv2d, (X, W), {"groups": "two"}, TypeError, "conv2d: groups must be a whole number of 1 or more, got 'two'"),
    (ops.conv2d, (X, W), {"algorithm": "im2row"}, ValueError, "conv2d: unknown algorithm 'im2row'.*'im2col'"),
    (ops.convolve2d, (X, W[0]), {}, ValueError, "convolve2d: w must have 4 axes"),
    (ops.conv2d_input_grad, (Y, W, (2, 6, 7)), {}, ValueError, "conv2d_input_grad: input_shape must be"),
    (ops.conv2d_input_grad, (Y, W, 5), {}, ValueError, "conv2d_input_grad: input_shape must be"),
    (
        ops.conv2d_input_grad,
        (Y, W, (2, 6, 8, 4)),
        {},
        ValueError,
        r"dy must have .* \(2, 4, 6, 8\), got \(2, 4, 5, 8\)",
    ),
    (ops.conv2d_weight_grad, (X, Y, 2), {}, ValueError, "conv2d_weight_grad: dy must have the shape"),
    (ops.conv2d_weight_grad, (X, Y, "3"), {}, TypeError, "conv2d_weight_grad: kernel_size must be"),
    (
        ops.conv2d_weight_grad,
        (X, Y, 3),
        {"groups": "a"},
        TypeError,
        "conv2d_weight_grad: groups must be a whole number",
    ),
    (
        ops.conv2d_transpose,
        (X, np.zeros((3, 3, 8, 5))),
        {},
        ValueError,
        "conv2d_transpose: w .* expects 5 input",
    ),
    (ops.conv2d_transpose, (X, np.zeros((3, 3, 8, 4))), {"output_padding": 1}, ValueError, "output_padding"),
    (
        ops.conv2d_transpose,
        (X, np.zeros((3, 3, 8, 4))),
        {"padding": 5},
        ValueError,
        "conv2d_transpose: .* no output",
    ),
    (
        ops.conv2d_transpose_input_grad,
        (X, np.zeros((3, 3, 4, 8)), (2, 6, 7, 8)),
        {},
        ValueError,
        "dy must have",
    ),
    (
        ops.conv2d_transpose_weight_grad,
        (X, X, 3),
        {},
        ValueError,
        "conv2d_transpose_weight_grad: dy must have",
    ),
]


@pytest.mark.parametrize("call, arguments, words, error, message", MISTAKES)
def test_messages(call, arguments, words, error, message):
    with pytest.raises(error, match=message):
        call(*arguments, **words)


# ---- the other definitions made of the same passes


def test_convolve2d_turns_the_kernel(rng):
    x, w, b = small_ints(rng, (2, 6, 7, 4)), small_ints(rng, (3, 2, 2, 6)), small_ints(rng, (6,))
    words = {"strides": (1, 2), "padding": ((1, 0), (0, 2)), "groups": 2}
    assert_same(ops.convolve2d(x, w, b, **words), reference.convolve2d(x, w, b, **words))
    row, kernel = np.arange(1.0, 9), np.array([1.0, -2, 3])
    got = ops.convolve2d(row.reshape(1, 1, -1, 1), kernel.reshape(1, -1, 1, 1)).ravel()
    assert_same(got, np.convolve(row, kernel, "valid"))


TRANSPOSED = [
    # x, kernel, filters, words
    ((2, 4, 5, 3), (3, 3), 8, {}),
    ((2, 4, 5, 3), (3, 3), 8, {"strides": 2, "padding": "same"}),
    ((2, 4, 5, 3), (2, 2), 8, {"strides": 2}),
    ((2, 4, 5, 3), (4, 4), 5, {"strides": 2, "padding": 1}),
    ((2, 4, 5, 3), (3, 3), 5, {"strides": (2, 3), "padding": "same", "output_padding": (1, 2)}),
    ((2, 4, 5, 3), (3, 2), 5, {"strides": 2, "output_padding": None}),
    ((2, 4, 5, 3), (2, 2), 5, {"strides": (3, 4), "output_padding": None}),
    ((2, 4, 5, 3), (1, 1), 5, {"strides": 2, "padding": "same"}),
    ((2, 4, 5, 3), (3, 2), 5, {"dilation": (2, 3), "padding": ((1, 0), (2, 1))}),
    ((2, 4, 5, 6), (3, 3), 9, {"strides": 2, "padding": "same", "groups": 3}),
    ((2, 4, 5, 6), (3, 3), 6, {"strides": 2, "padding": "same", "groups": 6}),
    ((2, 4, 5, 6), (3, 3), 3, {"padding": "same", "groups": 3}),
    ((0, 4, 5, 3), (3, 3), 8, {"strides": 2}),
    ((1, 1, 1, 33), (5, 4), 17, {}),
]


@pytest.mark.parametrize("x_shape, kernel, filters, words", TRANSPOSED)
def test_transposed_convolution(x_shape, kernel, filters, words, isa, rng):
    x, b = small_ints(rng, x_shape), small_ints(rng, (filters,))
    w = small_ints(rng, (*kernel, filters // words.get("groups", 1), x_shape[3]))
    y = reference.conv2d_transpose(x, w, b, **words)
    assert_same(ops.conv2d_transpose(x, w, b, **words), y)
    assert_same(ops.conv2d_transpose(x, w, **words), reference.conv2d_transpose(x, w, **words))
    dy = small_ints(rng, y.shape)
    assert_same(
        ops.conv2d_transpose_input_grad(dy, w, x.shape, **words),
        reference.conv2d_transpose_input_grad(dy, w, x.shape, **words),
    )
    assert_same(
        ops.conv2d_transpose_weight_grad(x, dy, kernel, **words),
        reference.conv2d_transpose_weight_grad(x, dy, kernel, **words),
    )
