"""The float64 oracle of convolution, pooling and dense layers: by hand, by loops, by differences, by adjoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from bench.shapes import NETWORKS, RISKS, SPEED, ConvCase, random_case
from fastcnn import reference as ref
from tests.check import assert_gradient, assert_near, assert_same, small_ints

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
    rng = np.random.default_rng(20240607)
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
        (lambda: ref.merge("sum", [X, X]), ValueError, "kind must be one of add, subtract, .*'sum'"),
        (lambda: ref.merge_grad("sum", X, [X, X]), ValueError, "kind must be one of add"),
        (lambda: ref.upsample2d(X, 2, "cubic"), ValueError, "must be one of nearest, bilinear, got 'cubic'"),
        (lambda: ref.affine_transform(X, np.ones(6), (2, 2), "mirror"), ValueError, "fill_mode must be one of reflect"),
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


@pytest.mark.parametrize("padding", ["same", "valid", "causal"])
def test_padding_in_capitals(padding: str, rng: np.random.Generator) -> None:
    x, w = (rng.standard_normal(shape) for shape in ((2, 5, 6, 7, 2), (3, 2, 3, 2, 4)))
    calls = [lambda p: ref.conv1d(x[:, :, 0, 0], w[:, 0, 0], padding=p)]
    if padding != "causal":
        calls += [lambda p: ref.conv2d(x[:, 0], w[0], padding=p), lambda p: ref.conv3d(x, w, padding=p),
                  lambda p: ref.conv2d_transpose(x[:, 0], np.swapaxes(w[0], 2, 3), strides=2, padding=p),
                  lambda p: ref.max_pool1d(x[:, :, 0, 0], 2, padding=p),
                  lambda p: ref.avg_pool2d(x[:, 0], 2, padding=p), lambda p: ref.max_pool3d(x, 2, padding=p)]
    for call in calls:
        np.testing.assert_array_equal(call(padding.upper()), call(padding))
