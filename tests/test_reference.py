"""The float64 oracle against hand-made values, plain loops, numerical derivatives and adjoint identities."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from bench.shapes import NETWORKS, RISKS, SPEED, ConvCase, random_case
from fastcnn import reference as ref
from tests.check import assert_same, small_ints

RNG_SEED = 20240607


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(RNG_SEED)


def assert_near(got: Any, want: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def assert_gradient(
    function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, gradient: np.ndarray
) -> None:
    """Central differences of the scalar `function` along random directions."""
    rng = np.random.default_rng(RNG_SEED)
    assert gradient.shape == x.shape and gradient.dtype == np.float64
    for _ in range(3):
        direction, h = rng.normal(size=x.shape), 1e-5
        slope = (function(x + h * direction) - function(x - h * direction)) / (2 * h)
        assert_near((gradient * direction).sum(), slope, 1e-6)


# ------------------------------------------------------------------------------------- shared shapes


def test_case_names_are_unique() -> None:
    names = [case.name for case in RISKS + NETWORKS + SPEED]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", RISKS + NETWORKS + SPEED, ids=lambda case: case.name)
def test_case_output_shape_agrees_with_the_reference(case: ConvCase) -> None:
    size = ref.conv_output_size(
        (case.ih, case.iw), (case.kh, case.kw), case.strides, case.padding, case.dilation
    )
    assert case.output_shape == (case.n, *size, case.oc)
    assert case.ic % case.groups == 0 and case.oc % case.groups == 0


def test_case_counts_flops_and_changes_its_batch() -> None:
    case = ConvCase("c", 2, 8, 9, 6, 4, 3, 5, (2, 1), "same", groups=2)
    assert case.flops == 2 * (2 * 4 * 9 * 4) * (3 * 5 * 3)
    assert case.with_batch(7).output_shape == (7, 4, 9, 4)


def test_random_cases_are_valid_and_varied() -> None:
    rng = np.random.default_rng(RNG_SEED)
    cases = [random_case(rng) for _ in range(500)]
    for case in cases:
        size = ref.conv_output_size(
            (case.ih, case.iw), (case.kh, case.kw), case.strides, case.padding, case.dilation
        )
        assert case.output_shape == (case.n, *size, case.oc)
        assert max(case.ih, case.iw) <= 20 and max(case.ic, case.oc) <= 72
    assert {type(case.padding) for case in cases} == {str, int, tuple}
    assert {0, 1, 2} <= {case.n for case in cases}
    assert any(case.groups == case.ic > 1 for case in cases) and any(
        1 < case.groups < case.ic for case in cases
    )
    assert any(max(case.dilation) > 1 and max(case.strides) > 1 for case in cases)
    assert any(case.kh > case.ih for case in cases) and any(case.strides[0] > case.kh for case in cases)


# ----------------------------------------------------------------------------------------- arguments

CONTRACT = """
conv2d(x, w, b=None, strides=1, padding='valid', dilation=1, groups=1, algorithm='auto')
conv2d_input_grad(dy, w, input_shape, strides=1, padding='valid', dilation=1, groups=1, algorithm='auto')
conv2d_weight_grad(x, dy, kernel_size, strides=1, padding='valid', dilation=1, groups=1, algorithm='auto')
conv2d_transpose(x, w, b=None, strides=1, padding='valid', output_padding=0, dilation=1, groups=1)
max_pool2d(x, pool_size, strides=None, padding='valid', return_indices=False)
max_pool2d_grad(dy, x, pool_size, strides=None, padding='valid')
avg_pool2d(x, pool_size, strides=None, padding='valid', count_include_pad=False)
avg_pool2d_grad(dy, input_shape, pool_size, strides=None, padding='valid', count_include_pad=False)
dense(x, w, b=None)
"""


@pytest.mark.parametrize("line", CONTRACT.split("\n")[1:-1])
def test_signatures_are_the_public_ones(line: str) -> None:
    name, _, arguments = line.partition("(")
    signature = inspect.signature(getattr(ref, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(plain)) == f"({arguments}"


@pytest.mark.parametrize(
    ("padding", "size", "kernel", "strides", "dilation", "want"),
    [
        ("valid", (5, 5), 3, 1, 1, ((0, 0), (0, 0))),
        ("same", (5, 6), 3, 1, 1, ((1, 1), (1, 1))),
        ("same", (5, 6), (2, 4), 1, 1, ((0, 1), (1, 2))),
        ("same", (5, 6), 3, 2, 1, ((1, 1), (0, 1))),
        ("same", (7, 7), 3, (3, 4), 1, ((1, 1), (0, 0))),
        ("same", (5, 5), 3, 1, (2, 3), ((2, 2), (3, 3))),
        ("same", (9, 9), 1, 4, 1, ((0, 0), (0, 0))),
        (2, (5, 5), 3, 1, 1, ((2, 2), (2, 2))),
        ((1, 0), (5, 5), 3, 1, 1, ((1, 1), (0, 0))),
        ([[1, 2], [3, 4]], (5, 5), 3, 1, 1, ((1, 2), (3, 4))),
    ],
)
def test_resolve_padding(
    padding: Any, size: Any, kernel: Any, strides: Any, dilation: Any, want: tuple[Any, Any]
) -> None:
    assert ref.resolve_padding(padding, size, kernel, strides, dilation) == want


X = np.zeros((2, 5, 6, 4))
W = np.zeros((3, 3, 4, 8))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ref.conv2d(X[0], W), ValueError, "conv2d: x must have 4 axes, got shape"),
        (lambda: ref.conv2d(X + 1j, W), TypeError, "conv2d: x must hold real numbers"),
        (lambda: ref.conv2d(X, W[:, :, :3]), ValueError, r"conv2d: w must have shape \(3, 3, 4, 8\)"),
        (lambda: ref.conv2d(X, W, np.zeros(7)), ValueError, r"conv2d: b must have shape \(8,\)"),
        (lambda: ref.conv2d(X, W, groups=3), ValueError, "groups=3 must divide"),
        (lambda: ref.conv2d(X, W, groups=0), ValueError, "groups must be at least 1"),
        (lambda: ref.conv2d(X, W, strides=0), ValueError, "strides must be at least 1"),
        (lambda: ref.conv2d(X, W, strides=1.5), TypeError, "strides must be an integer"),
        (lambda: ref.conv2d(X, W, strides=(1, 2, 3)), ValueError, "an int or a pair"),
        (lambda: ref.conv2d(X, W, padding="full"), ValueError, "padding must be 'valid', 'same'"),
        (lambda: ref.conv2d(X, W, padding=-1), ValueError, "padding must be at least 0"),
        (
            lambda: ref.conv2d(X, W, dilation=3),
            ValueError,
            "kernel's height 7 .* exceeds the image's height 5",
        ),
        (lambda: ref.conv2d(X[:, :0], W, padding="same"), ValueError, "image size must be at least 1"),
        (lambda: ref.conv2d_input_grad(X, W, X.shape), ValueError, r"dy must have shape \(2, 3, 4, 8\)"),
        (lambda: ref.conv2d_weight_grad(X, X, 3), ValueError, r"dy must have shape \(2, 3, 4, 4\)"),
        (lambda: ref.conv2d_transpose(X, W), ValueError, "the last axis of w"),
        (lambda: ref.conv2d_transpose(X, W, padding=9), ValueError, "leaves no output pixel"),
        (lambda: ref.conv2d_transpose(X, W, output_padding=1), ValueError, "output_padding 1 is too large"),
        (lambda: ref.max_pool2d(X, 6), ValueError, "max_pool2d: the kernel's height 6"),
        (lambda: ref.avg_pool2d(X, 2, padding=2), ValueError, "must be below the pool size"),
        (lambda: ref.dense(X, np.zeros((3, 2))), ValueError, "dense: the last axis of x"),
        (
            lambda: ref.activation(X, "rleu"),
            ValueError,
            "unknown activation 'rleu'; the names are linear, relu",
        ),
        (lambda: ref.softmax_cross_entropy(np.zeros((2, 3)), [0, 3]), ValueError, r"lie in \[0, 3\)"),
        (lambda: ref.softmax_cross_entropy(np.zeros((2, 3)), [0.0, 1.0]), TypeError, "must be integers"),
        (lambda: ref.batch_norm(np.zeros((0, 3))), ValueError, "empty"),
        (lambda: ref.group_norm(X, groups=3), ValueError, "groups=3 must divide the 4 channels"),
        (lambda: ref.dropout(X, X, 1.0), ValueError, "rate must lie in"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_any_real_dtype_and_layout_is_read_and_left_alone(rng: np.random.Generator) -> None:
    x, w = small_ints(rng, (2, 5, 6, 4)), small_ints(rng, (3, 3, 4, 8))
    want = ref.conv2d(x, w)
    for variant in (
        x.astype(np.int8),
        np.asfortranarray(x),
        x.astype(np.float16),
        x[:, ::-1].copy()[:, ::-1],
    ):
        variant.flags.writeable = False
        got = ref.conv2d(variant, w)
        assert got.dtype == np.float64
        assert_same(got, want)


# --------------------------------------------------------------------------------------- convolution


def loop_conv2d(x: np.ndarray, w: np.ndarray, case: ConvCase) -> np.ndarray:
    """One multiplication at a time; the padding is never built."""
    (top, _), (left, _) = ref.resolve_padding(
        case.padding, (case.ih, case.iw), (case.kh, case.kw), case.strides, case.dilation
    )
    in_group, out_group = case.ic // case.groups, case.oc // case.groups
    y = np.zeros(case.output_shape)
    for n, p, q, o in np.ndindex(*y.shape):
        for i, j, c in np.ndindex(case.kh, case.kw, in_group):
            h = p * case.strides[0] + i * case.dilation[0] - top
            v = q * case.strides[1] + j * case.dilation[1] - left
            if 0 <= h < case.ih and 0 <= v < case.iw:
                y[n, p, q, o] += float(x[n, h, v, o // out_group * in_group + c]) * float(w[i, j, c, o])
    return y


TINY = [
    ConvCase("valid", 2, 4, 5, 2, 3, 2, 3),
    ConvCase("same_even", 1, 3, 4, 2, 2, 2, 4, padding="same"),
    ConvCase("same_s2", 1, 5, 6, 2, 2, 3, 3, (2, 2), "same"),
    ConvCase("s32", 1, 7, 6, 1, 2, 2, 2, (3, 2)),
    ConvCase("sides", 1, 3, 3, 2, 2, 3, 2, (2, 1), ((0, 3), (2, 1))),
    ConvCase("above_image", 1, 2, 1, 2, 2, 5, 3, padding="same"),
    ConvCase("dilation", 1, 6, 5, 2, 2, 3, 2, (1, 2), "same", (2, 3)),
    ConvCase("groups", 1, 4, 3, 4, 6, 3, 3, padding=1, groups=2),
    ConvCase("depthwise", 2, 4, 3, 3, 6, 2, 2, groups=3),
    ConvCase("batch0", 0, 4, 4, 2, 3, 3, 3),
]


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_conv2d_is_its_loops(case: ConvCase, rng: np.random.Generator) -> None:
    x, w = small_ints(rng, case.input_shape), small_ints(rng, case.weight_shape)
    assert_same(ref.conv2d(x, w, **case.keywords), loop_conv2d(x, w, case))


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_conv2d_gradients_are_the_transposed_loops(case: ConvCase, rng: np.random.Generator) -> None:
    """conv2d is linear in x and in w: its matrix, found column by column, transposed is the gradient."""
    x, w = small_ints(rng, case.input_shape), small_ints(rng, case.weight_shape)
    dy = small_ints(rng, case.output_shape)
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for index in np.ndindex(*x.shape):
        unit = np.zeros(x.shape)
        unit[index] = 1.0
        dx[index] = (loop_conv2d(unit, w, case) * dy).sum()
    for index in np.ndindex(*w.shape):
        unit = np.zeros(w.shape)
        unit[index] = 1.0
        dw[index] = (loop_conv2d(x, unit, case) * dy).sum()
    assert_same(ref.conv2d_input_grad(dy, w, x.shape, **case.keywords), dx)
    assert_same(ref.conv2d_weight_grad(x, dy, (case.kh, case.kw), **case.keywords), dw)


@pytest.mark.parametrize("case", RISKS, ids=lambda case: case.name)
def test_conv2d_passes_are_adjoint(case: ConvCase, rng: np.random.Generator) -> None:
    """<dy, conv(x, w)> = <input_grad(dy, w), x> = <weight_grad(x, dy), w>, exactly, on integers."""
    x, w = small_ints(rng, case.input_shape), small_ints(rng, case.weight_shape)
    dy = small_ints(rng, case.output_shape)
    product = (dy * ref.conv2d(x, w, **case.keywords)).sum()
    assert (x * ref.conv2d_input_grad(dy, w, x.shape, **case.keywords)).sum() == product
    assert (w * ref.conv2d_weight_grad(x, dy, (case.kh, case.kw), **case.keywords)).sum() == product


def test_conv2d_by_hand() -> None:
    x = np.arange(1, 10).reshape(1, 3, 3, 1)
    w = np.array([[1, 10], [100, 1000]]).reshape(2, 2, 1, 1)
    assert_same(ref.conv2d(x, w)[0, :, :, 0], np.array([[5421.0, 6532.0], [8754.0, 9865.0]]))
    assert_same(ref.conv2d(x, w, b=[0.5])[0, 0, 0], np.array([5421.5]))
    assert_same(
        ref.conv2d(x, w, strides=2, padding="same")[0, :, :, 0], np.array([[5421.0, 603.0], [87.0, 9.0]])
    )
    assert_same(ref.convolve2d(x, w)[0, 0, 0], np.array([1245.0]))


def test_convolve2d_multiplies_polynomials(rng: np.random.Generator) -> None:
    a, b = small_ints(rng, (4, 5)), small_ints(rng, (3, 2))
    want = np.zeros((6, 6))
    for (i, j), (k, m) in product(np.ndindex(4, 5), np.ndindex(3, 2)):
        want[i + k, j + m] += a[i, j] * b[k, m]
    got = ref.convolve2d(a.reshape(1, 4, 5, 1), b.reshape(3, 2, 1, 1), padding=((2, 2), (1, 1)))
    assert_same(got[0, :, :, 0], want)


@pytest.mark.parametrize(
    ("padding", "kernel", "strides", "output_padding", "want"),
    [
        ("valid", 3, 2, 0, 9),
        ("valid", 3, 2, 1, 10),
        ("valid", 2, 3, 0, 11),
        ("valid", 2, 3, None, 12),
        ("same", 3, 2, 0, 8),
        ("same", 3, 2, None, 8),
        ("same", 3, 2, 1, 8),
        ("same", 4, 2, 1, 7),
        ("same", 5, 3, 1, 11),
        (1, 3, 2, 0, 7),
        (1, 3, 2, 1, 8),
        ((0, 2), 3, 1, 0, 6),
    ],
)
def test_conv2d_transpose_output_size(
    padding: Any, kernel: int, strides: int, output_padding: int | None, want: int
) -> None:
    (height, _), _ = ref.resolve_transpose_padding(padding, (4, 4), kernel, strides, output_padding)
    assert height == want


def test_conv2d_transpose_by_hand() -> None:
    x = np.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    w = np.array([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)

    def row(**keywords: Any) -> list[float]:
        return ref.conv2d_transpose(x, w, **keywords)[0, 0, :, 0].tolist()

    assert row() == [1, 12, 120, 200]
    assert row(strides=(1, 2)) == [1, 10, 102, 20, 200]
    assert row(strides=(1, 4)) == [1, 10, 100, 0, 2, 20, 200]
    assert row(strides=(1, 4), output_padding=None) == [1, 10, 100, 0, 2, 20, 200, 0]
    assert row(strides=(1, 2), padding="same") == [1, 10, 102, 20]
    assert row(strides=(1, 2), padding=(0, 1)) == [10, 102, 20]
    assert row(strides=(1, 2), padding=(0, 1), output_padding=(0, 1)) == [10, 102, 20, 200]
    assert row(dilation=(1, 2), b=[0.5]) == [1.5, 2.5, 10.5, 20.5, 100.5, 200.5]


@pytest.mark.parametrize("padding", ["valid", "same", 1, ((0, 1), (1, 0))])
@pytest.mark.parametrize(("strides", "output_padding", "dilation"), [(1, 0, 1), (2, 1, 1), ((3, 2), None, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_transpose_passes_are_adjoint(
    padding: Any, strides: Any, output_padding: Any, dilation: int, groups: int, rng: np.random.Generator
) -> None:
    x, w = small_ints(rng, (2, 4, 5, 6)), small_ints(rng, (3, 3, 4 // groups, 6))
    options = (strides, padding, output_padding, dilation, groups)
    y = ref.conv2d_transpose(x, w, None, *options)
    dy = small_ints(rng, y.shape)
    product = (dy * y).sum()
    assert product != 0
    assert (x * ref.conv2d_transpose_input_grad(dy, w, x.shape, *options)).sum() == product
    assert (w * ref.conv2d_transpose_weight_grad(x, dy, 3, *options)).sum() == product


# ------------------------------------------------------------------------------------------- pooling

POOLS = [
    (2, None, "valid"),
    (3, 2, "valid"),
    (3, 2, "same"),
    ((2, 3), (1, 2), "same"),
    (2, 3, "valid"),
    (3, 1, ((2, 0), (1, 2))),
    ((7, 8), 1, "same"),
]


def windows_by_loop(x: np.ndarray, pool: Any, strides: Any, padding: Any) -> dict[tuple[int, ...], list[Any]]:
    """(n, p, q, c) -> the pixels of the window in row order, as (value, flat position)."""
    n, ih, iw, channels = x.shape
    kh, kw = (pool, pool) if isinstance(pool, int) else pool
    strides = pool if strides is None else strides
    sh, sw = (strides, strides) if isinstance(strides, int) else strides
    (top, _), (left, _) = ref.resolve_padding(padding, (ih, iw), (kh, kw), (sh, sw))
    oh, ow = ref.conv_output_size((ih, iw), (kh, kw), (sh, sw), padding)
    found = {}
    for index in np.ndindex(n, oh, ow, channels):
        rows = range(max(index[1] * sh - top, 0), min(index[1] * sh - top + kh, ih))
        cols = range(max(index[2] * sw - left, 0), min(index[2] * sw - left + kw, iw))
        found[index] = [(x[index[0], h, v, index[3]], h * iw + v) for h, v in product(rows, cols)]
    return found


@pytest.mark.parametrize(("pool", "strides", "padding"), POOLS)
def test_max_and_min_pool2d_are_their_loops(
    pool: Any, strides: Any, padding: Any, rng: np.random.Generator
) -> None:
    x = small_ints(rng, (2, 6, 7, 3), bits=1) - 5.0  # many ties, and every value below that of padding
    for function, best in ((ref.max_pool2d, max), (ref.min_pool2d, min)):
        y, index = function(x, pool, strides, padding, return_indices=True)
        assert index.dtype == np.int64
        for at, window in windows_by_loop(x, pool, strides, padding).items():
            assert (y[at], index[at]) == best(window, key=lambda pixel: pixel[0])  # both keep the first
        assert_same(function(x, pool, strides, padding), y)


@pytest.mark.parametrize(("pool", "strides", "padding"), POOLS)
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_avg_pool2d_is_its_loops(
    pool: Any, strides: Any, padding: Any, count_include_pad: bool, rng: np.random.Generator
) -> None:
    x = small_ints(rng, (2, 6, 7, 3))
    y = ref.avg_pool2d(x, pool, strides, padding, count_include_pad)
    for at, window in windows_by_loop(x, pool, strides, padding).items():
        count = np.prod(np.broadcast_to(pool, 2)) if count_include_pad else len(window)
        assert_near(y[at], sum(float(value) for value, _ in window) / count)


@pytest.mark.parametrize(("pool", "strides", "padding"), POOLS)
def test_pool_gradients(pool: Any, strides: Any, padding: Any, rng: np.random.Generator) -> None:
    x = rng.permutation(2 * 6 * 7 * 3).reshape(2, 6, 7, 3).astype(np.float64)
    dy = rng.normal(size=ref.max_pool2d(x, pool, strides, padding).shape)
    for function, gradient in ((ref.max_pool2d, ref.max_pool2d_grad), (ref.min_pool2d, ref.min_pool2d_grad)):

        def loss(x: np.ndarray, function: Any = function) -> np.ndarray:
            return (function(x, pool, strides, padding) * dy).sum()

        assert_gradient(loss, x, gradient(dy, x, pool, strides, padding))
    for include in (False, True):
        dx = ref.avg_pool2d_grad(dy, x.shape, pool, strides, padding, include)
        product = (dy * ref.avg_pool2d(x, pool, strides, padding, include)).sum()
        assert_near((dx * x).sum(), product)


def test_max_pool2d_lets_nan_win_and_names_the_first() -> None:
    x = np.array([[1.0, np.nan, 9.0], [np.nan, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 3, 3, 1)
    y, index = ref.max_pool2d(x, 2, 1, return_indices=True)
    assert_same(y[0, :, :, 0], np.array([[np.nan, np.nan], [np.nan, 6.0]]))
    assert index[0, :, :, 0].tolist() == [[1, 1], [3, 8]]
    y, index = ref.min_pool2d(x, 2, 1, return_indices=True)
    assert_same(y[0, :, :, 0], np.array([[np.nan, np.nan], [np.nan, 2.0]]))
    assert index[0, :, :, 0].tolist() == [[1, 1], [3, 4]]
    dx = ref.max_pool2d_grad(np.ones((1, 2, 2, 1)), x, 2, 1)
    assert dx[0, :, :, 0].tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 1]]


def test_max_pool2d_keeps_minus_infinity_apart_from_padding() -> None:
    x = np.full((1, 2, 2, 1), -np.inf)
    y, index = ref.max_pool2d(x, 3, 1, "same", return_indices=True)
    assert (y == -np.inf).all() and (index == 0).all()


def test_global_pools(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4, 5))
    dy = rng.normal(size=(2, 5))
    assert_near(ref.global_avg_pool2d(x), x.reshape(2, 12, 5).mean(1))
    assert_same(ref.global_max_pool2d(x), x.reshape(2, 12, 5).max(1))
    assert (
        ref.global_avg_pool2d(x, keepdims=True).shape == ref.global_max_pool2d(x, True).shape == (2, 1, 1, 5)
    )
    assert_gradient(
        lambda x: (ref.global_avg_pool2d(x) * dy).sum(), x, ref.global_avg_pool2d_grad(dy, x.shape)
    )
    assert_gradient(lambda x: (ref.global_max_pool2d(x) * dy).sum(), x, ref.global_max_pool2d_grad(dy, x))


@pytest.mark.parametrize("function", [ref.max_pool2d, ref.min_pool2d, ref.avg_pool2d])
def test_pools_of_an_empty_batch(function: Callable[..., np.ndarray]) -> None:
    x = np.zeros((0, 5, 4, 3))
    y = function(x, 2)
    assert y.shape == (0, 2, 2, 3)
    assert ref.max_pool2d_grad(y, x, 2).shape == ref.avg_pool2d_grad(y, x.shape, 2).shape == x.shape


# --------------------------------------------------------------------------------------------- dense


@pytest.mark.parametrize("leading", [(4,), (2, 3), (0,), ()])
def test_dense_is_its_loops_and_adjoint(leading: tuple[int, ...], rng: np.random.Generator) -> None:
    x, w, b = small_ints(rng, (*leading, 5)), small_ints(rng, (5, 3)), small_ints(rng, (3,))
    want = np.zeros((*leading, 3))
    for index in np.ndindex(*want.shape):
        want[index] = b[index[-1]] + sum(float(x[index[:-1] + (k,)] * w[k, index[-1]]) for k in range(5))
    assert_same(ref.dense(x, w, b), want)
    dy = small_ints(rng, want.shape)
    product = (dy * ref.dense(x, w)).sum()
    assert (x * ref.dense_input_grad(dy, w)).sum() == product
    assert (w * ref.dense_weight_grad(x, dy)).sum() == product


# --------------------------------------------------------------------------------------- activations

E = math.e
SCALAR_FORMULAS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "relu": lambda x: x if x > 0 else 0.0,
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0 else x / 5,
    "elu": lambda x: x if x > 0 else E**x - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (E**x - 1)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "sigmoid": lambda x: 1 / (1 + E**-x),
    "tanh": lambda x: (E**x - E**-x) / (E**x + E**-x),
    "softplus": lambda x: math.log(1 + E**x),
    "softsign": lambda x: x / (1 + abs(x)),
    "silu": lambda x: x / (1 + E**-x),
    "swish": lambda x: x / (1 + E**-x),
    "hard_sigmoid": lambda x: 0.0 if x <= -3 else 1.0 if x >= 3 else x / 6 + 0.5,
    "hard_swish": lambda x: 0.0 if x <= -3 else x if x >= 3 else x * (x + 3) / 6,
    "mish": lambda x: x * math.tanh(math.log(1 + E**x)),
}


@pytest.mark.parametrize("name", SCALAR_FORMULAS)
def test_elementwise_activations(name: str) -> None:
    x = np.array([-7.0, -3.0, -2.3, -1.0, -0.1, 0.0, 0.1, 1.0, 2.9, 3.0, 5.5, 6.0, 8.0])
    assert_near(ref.activation(x, name), [SCALAR_FORMULAS[name](float(v)) for v in x])


def test_every_activation_of_the_contract_exists() -> None:
    assert set(ref.ACTIVATIONS) == {*SCALAR_FORMULAS, "softmax", "log_softmax"}


@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_activation_gradients(name: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 8)) * 3.0
    dy = rng.normal(size=x.shape)
    assert_gradient(lambda x: (ref.activation(x, name) * dy).sum(), x, ref.activation_grad(dy, x, name))


@pytest.mark.parametrize(
    ("name", "x", "slope"),
    [
        ("relu", 0, 0),
        ("relu6", 0, 0),
        ("relu6", 6, 0),
        ("leaky_relu", 0, 0.2),
        ("elu", 0, 1),
        ("hard_sigmoid", 3, 0),
    ],
)
def test_slopes_at_kinks(name: str, x: float, slope: float) -> None:
    assert ref.activation_grad([2.0], [x], name).tolist() == [2.0 * slope]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_activations_do_not_overflow(name: str) -> None:
    x = np.array([-1e4, -750.0, 750.0, 1e4])
    with np.errstate(under="ignore"):
        assert np.isfinite(ref.activation(x, name)).all()
        assert np.isfinite(ref.activation_grad(np.ones(4), x, name)).all()


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_activations_pass_nan_on(name: str) -> None:
    assert np.isnan(ref.activation([np.nan], name)).all()


def test_softmax(rng: np.random.Generator) -> None:
    assert_near(ref.softmax(np.log([[1.0, 2.0, 5.0]])), [[0.125, 0.25, 0.625]])
    assert_near(ref.log_softmax(np.log([[1.0, 2.0, 5.0]])), np.log([[0.125, 0.25, 0.625]]))
    x = rng.normal(size=(3, 4, 5))
    assert_near(ref.softmax(x, axis=1).sum(1), np.ones((3, 5)))
    assert_near(ref.softmax(x + 1000.0), ref.softmax(x), 1e-10)


# -------------------------------------------------------------------------------------------- losses


def test_softmax_cross_entropy_by_hand() -> None:
    logits = np.log([[1.0, 2.0, 5.0], [4.0, 2.0, 2.0]])
    loss, gradient = ref.softmax_cross_entropy(logits, [2, 0])
    assert_near(loss, [-math.log(0.625), -math.log(0.5)])
    assert_near(gradient, np.array([[0.125, 0.25, -0.375], [-0.5, 0.25, 0.25]]) / 2)
    smoothed, _ = ref.softmax_cross_entropy(logits, [2, 0], label_smoothing=0.3)
    assert_near(smoothed[1], -0.8 * math.log(0.5) - 0.2 * math.log(0.25))


def test_softmax_cross_entropy_takes_every_kind_of_label(rng: np.random.Generator) -> None:
    logits, labels = rng.normal(size=(2, 3, 4)), rng.integers(0, 4, (2, 3))
    want, gradient = ref.softmax_cross_entropy(logits, labels)
    assert want.shape == (2, 3)
    for variant in (labels[..., None], np.eye(4)[labels], np.eye(4, dtype=np.uint8)[labels]):
        got, same = ref.softmax_cross_entropy(logits, variant)
        assert_same(got, want)
        assert_same(same, gradient)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_gradients_of_cross_entropies(label_smoothing: float, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(4, 5)), rng.random((4, 5))
    for loss in (ref.softmax_cross_entropy, ref.sigmoid_binary_cross_entropy):
        gradient = loss(logits, target, label_smoothing)[1]
        assert_gradient(lambda z, loss=loss: loss(z, target, label_smoothing)[0].mean(), logits, gradient)


def test_binary_cross_entropy_by_hand() -> None:
    loss, gradient = ref.sigmoid_binary_cross_entropy([[0.0, math.log(3.0)]], [[1, 0]])
    assert_near(loss, [(math.log(2) + math.log(4)) / 2])
    assert_near(gradient, [[-0.25, 0.375]])
    smoothed, _ = ref.sigmoid_binary_cross_entropy([[math.log(3.0)]], [[1]], label_smoothing=0.2)
    assert_near(smoothed, [-0.9 * math.log(0.75) - 0.1 * math.log(0.25)])
    assert_near(ref.sigmoid_binary_cross_entropy([[1000.0, -1000.0]], [[0, 0]])[0], [500.0])


def test_error_losses() -> None:
    prediction, target = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 5.0], [2.0, 0.0]])
    loss, gradient = ref.mean_squared_error(prediction, target)
    assert_same(loss, np.array([4.5, 8.5]))
    assert_same(gradient, np.array([[0.0, -1.5], [0.5, 2.0]]))
    loss, gradient = ref.mean_absolute_error(prediction, target)
    assert_same(loss, np.array([1.5, 2.5]))
    assert_same(gradient, np.array([[0.0, -0.25], [0.25, 0.25]]))


# ------------------------------------------------------------------------------------- normalisation


def test_batch_norm_by_hand() -> None:
    x = np.array([[1.0, 10.0], [3.0, 10.0]])
    y = ref.batch_norm(x, gamma=[2.0, 3.0], beta=[0.5, -1.0], epsilon=3.0)
    assert_near(y, [[0.5 - 1.0, -1.0], [0.5 + 1.0, -1.0]])  # variances 1 and 0
    y = ref.batch_norm(x, [2.0, 3.0], [0.5, -1.0], mean=[0.0, 8.0], variance=[1.0, 6.0], epsilon=3.0)
    assert_near(y, [[1.5, 1.0], [3.5, 1.0]])
    assert_near(ref.moving_average([1.0], [2.0], 0.9), [1.1])


def test_layer_and_group_norm_by_hand() -> None:
    x = np.array([[[[1.0, 3.0, 10.0, 10.0]]]])
    assert_near(ref.layer_norm(x[..., :2], [2.0, 4.0], 1.0, epsilon=3.0), [[[[0.0, 3.0]]]])
    assert_near(
        ref.group_norm(x, [2.0, 2.0, 5.0, 5.0], 1.0, groups=2, epsilon=3.0), [[[[0.0, 2.0, 1.0, 1.0]]]]
    )


def test_norms_standardise_over_their_axes(rng: np.random.Generator) -> None:
    x = rng.normal(3.0, 5.0, (4, 5, 6, 8))
    groups = ref.group_norm(x, groups=4, epsilon=0.0).reshape(4, 5, 6, 4, 2)
    for y, axes in (
        (ref.batch_norm(x, epsilon=0.0), (0, 1, 2)),
        (ref.layer_norm(x, epsilon=0.0), (3,)),
        (ref.layer_norm(x, axis=(1, -1), epsilon=0.0), (1, 3)),
        (groups, (1, 2, 4)),
    ):
        assert_near(y.mean(axes), 0.0)
        assert_near(y.var(axes), 1.0)


STATISTICS = {"mean": np.linspace(-1, 1, 6), "variance": np.linspace(0.5, 2, 6)}
NORMS = [
    (ref.batch_norm, ref.batch_norm_grad, (6,), {}),
    (ref.batch_norm, ref.batch_norm_grad, (6,), STATISTICS),
    (ref.layer_norm, ref.layer_norm_grad, (6,), {}),
    (ref.layer_norm, ref.layer_norm_grad, (5, 6), {"axis": (2, 3)}),
    (ref.group_norm, ref.group_norm_grad, (6,), {"groups": 2}),
]


@pytest.mark.parametrize(("norm", "grad", "shape", "options"), NORMS)
def test_gradients_of_norms(norm: Any, grad: Any, shape: Any, options: Any, rng: np.random.Generator) -> None:
    x, gamma, beta = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=shape), rng.normal(size=shape)
    dy = rng.normal(size=x.shape)
    dx, dgamma, dbeta = grad(dy, x, gamma, **options)
    assert_gradient(lambda x: (norm(x, gamma, beta, **options) * dy).sum(), x, dx)
    assert_gradient(lambda gamma: (norm(x, gamma, beta, **options) * dy).sum(), gamma, dgamma)
    assert_gradient(lambda beta: (norm(x, gamma, beta, **options) * dy).sum(), beta, dbeta)


def test_dropout() -> None:
    assert_same(ref.dropout([1.0, 2.0, 3.0], [1, 0, 1], 0.75), np.array([4.0, 0.0, 12.0]))


# ----------------------------------------------------------------------------------------- optimisers

GRADIENTS = (0.5, -2.0, 3.0)


def test_sgd_by_hand() -> None:
    assert_near(ref.sgd_step(1.0, 2.0, learning_rate=0.1)[0], 0.8)
    assert_near(ref.sgd_step(1.0, 2.0, 0.5, 0.1, 0.9), [1.25, 0.25])
    assert_near(ref.sgd_step(1.0, 2.0, 0.5, 0.1, 0.9, nesterov=True), [1.0 + 0.9 * 0.25 - 0.2, 0.25])
    assert_near(ref.sgd_step(10.0, 2.0, learning_rate=0.1, weight_decay=0.01)[0], 10 * 0.999 - 0.2)


def test_adam_is_the_average_with_its_bias_removed() -> None:
    """The textbook form: weighted means of all gradients so far, epsilon over sqrt(1 - b2^t) as in Keras."""
    w, m, v, want = 1.0, 0.0, 0.0, 1.0
    for t, g in enumerate(GRADIENTS, 1):
        w, m, v = ref.adam_step(w, g, m, v, t, learning_rate=0.1, epsilon=0.01)
        weights_1, weights_2 = ([rate ** (t - i) for i in range(1, t + 1)] for rate in (0.9, 0.999))
        mean = sum(a * g for a, g in zip(weights_1, GRADIENTS, strict=False)) / sum(weights_1)
        square = sum(a * g * g for a, g in zip(weights_2, GRADIENTS, strict=False)) / sum(weights_2)
        want -= 0.1 * mean / (math.sqrt(square) + 0.01 / math.sqrt(1 - 0.999**t))
        assert_near(w, want)


def test_adamw_shrinks_the_weights_first() -> None:
    plain, decayed = ref.adam_step(0.9996, 2.0, 0.1, 0.2, 3, 0.1), ref.adamw_step(1.0, 2.0, 0.1, 0.2, 3, 0.1)
    assert_near(decayed, plain)


def test_nadam_by_hand() -> None:
    """With b1 = 0.5: u1 = 0.26, u2 = 0.2696, u3 = 0.278816."""
    w, m, v = ref.nadam_step(1.0, 2.0, 0.0, 0.0, 1, 0.1, 0.5, 0.75, epsilon=0.5)
    u1, u2, u3 = 0.26, 0.2696, 0.278816
    first = 1.0 - 0.1 * (u2 * 1.0 / (1 - u1 * u2) + 2.0) / (2.0 + 0.5)  # m = 1, v = 1, v / (1 - 0.75) = 4
    assert_near([w, m, v], [first, 1.0, 1.0])
    w, m, v = ref.nadam_step(w, 3.0, m, v, 2, 0.1, 0.5, 0.75, epsilon=0.5)
    m_hat = u3 * 2.0 / (1 - u1 * u2 * u3) + (1 - u2) * 3.0 / (1 - u1 * u2)
    assert_near([w, m, v], [first - 0.1 * m_hat / (math.sqrt(3.0 / 0.4375) + 0.5), 2.0, 3.0])


def test_rmsprop_by_hand() -> None:
    w, v, velocity, average = ref.rmsprop_step(10.0, 10.0, 0.0, learning_rate=0.1, epsilon=0.0)
    assert_near([w, v, velocity, average], [10 - math.sqrt(0.1), 10.0, math.sqrt(0.1), 0.0])
    assert_near(ref.rmsprop_step(1.0, 2.0, 4.0, learning_rate=0.1, rho=0.5, epsilon=5.0)[0], 1.0 - 0.2 / 3.0)
    assert_near(ref.rmsprop_step(1.0, 2.0, 4.0, 0.5, 0.0, 0.1, 0.5, 0.8, 5.0)[0], 1.0 - (0.4 + 0.2 / 3.0))
    centered = ref.rmsprop_step(1.0, 2.0, 4.0, 0.0, 4.0, 0.1, 0.5, epsilon=14.0, centered=True)
    assert_near(centered, [1.0 - 0.2 / 3.0, 4.0, 0.2 / 3.0, 3.0])


def test_adagrad_by_hand() -> None:
    assert_near(ref.adagrad_step(1.0, 2.0, 3.0, learning_rate=0.3, epsilon=2.0), [0.8, 7.0])
    assert_near(ref.adagrad_step(1.0, 2.0, epsilon=0.0)[1], 4.1)


def test_adadelta_by_hand() -> None:
    w, v, d = ref.adadelta_step(1.0, 2.0, 6.0, 3.0, learning_rate=0.5, rho=0.5, epsilon=4.0)
    delta = -math.sqrt(7.0) / 3.0 * 2.0
    assert_near([w, v, d], [1.0 + 0.5 * delta, 5.0, 1.5 + delta**2 / 2])


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (ref.adam_step, (0.0, 0.0, 1)),
        (ref.nadam_step, (0.0, 0.0, 1)),
        (ref.rmsprop_step, (0.0,)),
        (ref.adagrad_step, (0.1,)),
        (ref.adadelta_step, (0.0, 0.0)),
    ],
)
def test_weight_decay_is_apart_from_the_gradient(step: Callable[..., Any], state: tuple[float, ...]) -> None:
    decayed = step(2.0, 0.3, *state, learning_rate=0.1, weight_decay=0.5)
    plain = step(2.0 * (1 - 0.1 * 0.5), 0.3, *state, learning_rate=0.1)
    assert_near(decayed, plain)


def test_optimiser_steps_leave_their_arguments_alone(rng: np.random.Generator) -> None:
    arrays = [rng.random(5) for _ in range(4)]
    copies = [a.copy() for a in arrays]
    ref.adamw_step(*arrays, 1)
    ref.rmsprop_step(*arrays, momentum=0.9)
    for a, copy in zip(arrays, copies, strict=True):
        assert_same(a, copy)
