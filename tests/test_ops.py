"""Pooling, dense layers and activations of fastcnn.ops against the reference; the signatures of all ops."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from fastcnn import ops, reference
from fastcnn.ops.activation import ELEMENTWISE, SOFTMAXES
from tests.check import assert_close, assert_same, small_ints

EVERY_OP = ops.__all__


@pytest.mark.parametrize("name", EVERY_OP)
def test_signature_is_the_references(name):
    got, want = (inspect.signature(getattr(module, name)).parameters.values() for module in (ops, reference))
    assert [(p.name, p.default, p.kind) for p in got] == [(p.name, p.default, p.kind) for p in want]


@pytest.mark.parametrize("name", EVERY_OP)
def test_every_op_says_what_it_computes(name):
    assert inspect.getdoc(getattr(ops, name))


def close(got, want, reduction=1, scale=None):
    assert np.asarray(got).dtype == np.float32
    scale = np.maximum(np.abs(np.nan_to_num(want, posinf=1, neginf=1)), 1) if scale is None else scale
    assert_close(got, want, reduction, scale=scale)


# ---- pooling

POOLS = [
    # x, pool_size, words
    ((2, 4, 6, 6), 2, {}),
    ((2, 5, 7, 16), (2, 2), {}),
    ((2, 5, 7, 17), 2, {"padding": "same"}),
    ((2, 7, 8, 5), 3, {"strides": 2, "padding": "same"}),
    ((2, 7, 8, 5), 3, {"strides": (1, 2), "padding": ((1, 2), (0, 1))}),
    ((1, 6, 5, 4), (3, 2), {"strides": 1, "padding": 1}),
    ((2, 9, 10, 3), 2, {"strides": (3, 4)}),
    ((2, 3, 2, 9), (5, 4), {"padding": "same"}),
    ((1, 20, 20, 3), (17, 16), {"strides": 2}),  # more taps than a byte can number
    ((3, 4, 4, 33), 1, {}),
    ((0, 4, 4, 3), 2, {}),
    ((2, 4, 4, 0), 2, {}),
]
each_pool = pytest.mark.parametrize("shape, pool_size, words", POOLS)


def pool_inputs(shape, rng):
    """Small integers: ties in every window. And the same with NaN and infinities."""
    x = small_ints(rng, shape, bits=2)
    odd = x.copy()
    odd[rng.random(shape) < 0.1] = np.nan
    odd[rng.random(shape) < 0.2] = -np.inf
    odd[rng.random(shape) < 0.1] = np.inf
    return x, np.full_like(x, -np.inf), odd


@each_pool
@pytest.mark.parametrize("name", ("max_pool2d", "min_pool2d"))
def test_extreme_pools(name, shape, pool_size, words, isa, rng):
    for x in pool_inputs(shape, rng):
        want, where = getattr(reference, name)(x, pool_size, **words, return_indices=True)
        assert_same(getattr(ops, name)(x, pool_size, **words), want)
        y, indices = getattr(ops, name)(x, pool_size, **words, return_indices=True)
        assert_same(y, want)
        assert_same(indices, where)
        dy = small_ints(rng, y.shape)
        assert_same(
            getattr(ops, f"{name}_grad")(dy, x, pool_size, **words),
            getattr(reference, f"{name}_grad")(dy, x, pool_size, **words),
        )


@each_pool
@pytest.mark.parametrize("count_include_pad", (False, True))
def test_average_pools(count_include_pad, shape, pool_size, words, isa, rng):
    words = {**words, "count_include_pad": count_include_pad}
    x = small_ints(rng, shape)
    want = reference.avg_pool2d(x, pool_size, **words)
    close(ops.avg_pool2d(x, pool_size, **words), want)
    dy = small_ints(rng, want.shape)
    close(
        ops.avg_pool2d_grad(dy, shape, pool_size, **words),
        reference.avg_pool2d_grad(dy, shape, pool_size, **words),
    )
    x = x.copy()
    x[rng.random(shape) < 0.2] = np.nan
    close(ops.avg_pool2d(x, pool_size, **words), reference.avg_pool2d(x, pool_size, **words))


@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (3, 1, 1, 33), (1, 40, 40, 1), (0, 3, 3, 4)])
@pytest.mark.parametrize("keepdims", (False, True))
def test_global_pools(shape, keepdims, isa, rng):
    x = small_ints(rng, shape, bits=2)
    close(ops.global_avg_pool2d(x, keepdims), reference.global_avg_pool2d(x, keepdims), scale=4.0)
    want = reference.global_max_pool2d(x, keepdims)
    assert_same(ops.global_max_pool2d(x, keepdims), want)
    dy = small_ints(rng, want.shape)
    close(ops.global_avg_pool2d_grad(dy, shape), reference.global_avg_pool2d_grad(dy, shape))
    assert_same(ops.global_max_pool2d_grad(dy, x), reference.global_max_pool2d_grad(dy, x))
    if x.size:
        x[0, 0, 0, 0] = np.nan
        assert_same(ops.global_max_pool2d(x, keepdims), reference.global_max_pool2d(x, keepdims))
        assert_same(ops.global_max_pool2d_grad(dy, x), reference.global_max_pool2d_grad(dy, x))


# ---- dense

DENSE = [
    ((7,), 5, 9),
    ((1,), 1, 1),
    ((64,), 30, 10),
    ((200,), 17, 33),
    ((3, 4), 16, 70),
    ((2, 3, 4), 5, 6),
    ((), 4, 3),
    ((0,), 4, 3),
    ((4,), 0, 3),
    ((4,), 3, 0),
    ((2, 0, 3), 4, 5),
    ((5,), 1300, 3),
    ((3,), 2, 1300),
]


@pytest.mark.parametrize("leading, inputs, outputs", DENSE)
def test_dense(leading, inputs, outputs, isa, rng):
    x, w, b = (small_ints(rng, s) for s in ((*leading, inputs), (inputs, outputs), (outputs,)))
    dy = small_ints(rng, (*leading, outputs))
    assert_same(ops.dense(x, w), reference.dense(x, w))
    assert_same(ops.dense(x, w, b), reference.dense(x, w, b))
    assert_same(ops.dense_input_grad(dy, w), reference.dense_input_grad(dy, w))
    assert_same(ops.dense_weight_grad(x, dy), reference.dense_weight_grad(x, dy))


def test_dense_of_real_data(isa, rng):
    x, w, b, dy = (rng.standard_normal(s).astype(np.float32) for s in ((50, 300), (300, 40), (40,), (50, 40)))
    close(ops.dense(x, w, b), reference.dense(x, w, b), 301, reference.dense(*map(np.abs, (x, w, b))))
    close(
        ops.dense_input_grad(dy, w),
        reference.dense_input_grad(dy, w),
        40,
        reference.dense_input_grad(np.abs(dy), np.abs(w)),
    )
    close(
        ops.dense_weight_grad(x, dy),
        reference.dense_weight_grad(x, dy),
        50,
        reference.dense_weight_grad(np.abs(x), np.abs(dy)),
    )


# ---- activations

VALUES = np.concatenate(
    [np.linspace(-100, 100, 301), np.linspace(-7, 7, 331), [0, -0.0, 1e-30, -1e-30, 3, -3, 6, 1e30, -1e30]]
)
ODD = np.array([np.nan, np.inf, -np.inf, 0, 1, -1])


@pytest.mark.parametrize("name", (*ELEMENTWISE, *SOFTMAXES))
def test_activations_and_their_gradients(name, isa, rng):
    x = VALUES.astype(np.float32)
    dy = rng.standard_normal(x.size).astype(np.float32)
    with np.errstate(all="ignore"):
        want, grad = reference.activation(x, name), reference.activation_grad(dy, x, name)
        odd = reference.activation(ODD, name)
    for shape in ((x.size,), (1, x.size), (1, 1, 1, x.size)):
        close(ops.activation(x.reshape(shape), name), want.reshape(shape))
        close(getattr(ops, name)(x.reshape(shape)), want.reshape(shape))
        close(
            ops.activation_grad(dy.reshape(shape), x.reshape(shape), name),
            grad.reshape(shape),
            x.size if name in SOFTMAXES else 1,
            scale=8.0,
        )
    close(ops.activation(ODD, name), odd)


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (4, 3, 3, 7), (2, 3, 4, 5, 6), (0,), (3, 0, 2)])
def test_activations_take_any_shape(name, shape, rng):
    x = rng.standard_normal(shape)
    got = getattr(ops, name)(x)
    assert isinstance(got, np.ndarray) and got.shape == shape
    close(got, getattr(reference, name)(x.astype(np.float32)))
    close(getattr(ops, name)(np.array(x, order="F")), getattr(reference, name)(x.astype(np.float32)))


def test_parameters_of_activations(rng):
    x = rng.standard_normal(50)
    close(ops.leaky_relu(x, 0.03), reference.leaky_relu(x, 0.03))
    close(ops.leaky_relu(x, negative_slope=0), reference.relu(x))
    close(ops.elu(x, alpha=2.5), reference.elu(x, 2.5))


@pytest.mark.parametrize("name", SOFTMAXES)
@pytest.mark.parametrize(
    "shape, axis",
    [
        ((5,), -1),
        ((4, 10), -1),
        ((4, 10), 0),
        ((2, 3, 4, 5), 1),
        ((2, 3, 4, 5), -2),
        ((3, 1), 1),
        ((0, 4), -1),
        ((2, 0, 4), 0),
        ((2, 1000), 1),
    ],
)
def test_softmaxes_along_any_axis(name, shape, axis, isa, rng):
    x, dy = (
        (10 * rng.standard_normal(shape)).astype(np.float32),
        rng.standard_normal(shape).astype(np.float32),
    )
    got = getattr(ops, name)(x, axis)
    assert got.flags.c_contiguous
    close(got, getattr(reference, name)(x, axis), 4)
    close(
        getattr(ops, f"{name}_grad")(dy, x, axis),
        getattr(reference, f"{name}_grad")(dy, x, axis),
        shape[axis],
        scale=8.0,
    )


@pytest.mark.parametrize("name", SOFTMAXES)
def test_softmaxes_of_infinities(name):
    inf = np.inf
    x = np.array(
        [[0, -inf, 1], [-inf, -inf, 2], [-inf, -inf, -inf], [inf, 0, 1], [np.nan, 0, 1], [1e30, 0, -1e30]]
    )
    with np.errstate(all="ignore"):
        want = getattr(reference, name)(x.astype(np.float32))
    close(getattr(ops, name)(x), want)


# ---- every op takes any real dtype and layout, returns new memory and leaves its inputs alone


def calls(rng):
    """(name, arrays, other arguments) of one small call of every op but the convolutions."""
    x, dy = small_ints(rng, (3, 6, 4, 5)), small_ints(rng, (3, 3, 2, 5))
    for name in ("max_pool2d", "min_pool2d", "avg_pool2d"):
        yield name, (x,), (2,)
    for name in ("max_pool2d_grad", "min_pool2d_grad"):
        yield name, (dy, x), (2,)
    yield "avg_pool2d_grad", (dy,), (x.shape, 2)
    yield "global_avg_pool2d", (x,), ()
    yield "global_max_pool2d", (x,), ()
    yield "global_avg_pool2d_grad", (small_ints(rng, (3, 5)),), (x.shape,)
    yield "global_max_pool2d_grad", (small_ints(rng, (3, 5)), x), ()
    sequence, pooled = small_ints(rng, (3, 6, 5)), small_ints(rng, (3, 3, 5))
    yield "max_pool1d", (sequence,), (2,)
    yield "avg_pool1d", (sequence,), (2,)
    yield "max_pool1d_grad", (pooled, sequence), (2,)
    yield "avg_pool1d_grad", (pooled,), (sequence.shape, 2)
    volume, pooled = small_ints(rng, (3, 4, 6, 4, 5)), small_ints(rng, (3, 2, 3, 2, 5))
    yield "max_pool3d", (volume,), (2,)
    yield "avg_pool3d", (volume,), (2,)
    yield "max_pool3d_grad", (pooled, volume), (2,)
    yield "avg_pool3d_grad", (pooled,), (volume.shape, 2)
    yield "dense", (x, small_ints(rng, (5, 7)), small_ints(rng, (7,))), ()
    yield "dense_input_grad", (small_ints(rng, (4, 7)), small_ints(rng, (5, 7))), ()
    yield "dense_weight_grad", (small_ints(rng, (4, 5)), small_ints(rng, (4, 7))), ()
    for name in (*ELEMENTWISE, *SOFTMAXES):
        yield name, (x,), ()
        yield "activation_grad", (x[::-1], x), (name,)
    for name in SOFTMAXES:
        yield f"{name}_grad", (x[::-1], x), (1,)
    yield "activation", (x,), ("relu",)
    for name, others in (("batch_norm", ()), ("layer_norm", ()), ("group_norm", (5,))):
        yield name, (x, x[0, 0, 0], x[1, 0, 0]), others
        yield f"{name}_grad", (x[::-1], x, x[0, 0, 0]), others


def test_calls_name_every_op(rng):
    named = {name for name, _, _ in calls(rng)}
    assert named | {name for name in EVERY_OP if name.startswith("conv")} == set(EVERY_OP)


def frozen(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    "given",
    (
        frozen,
        np.asfortranarray,
        lambda a: a.astype(np.int16),
        lambda a: a.astype(np.float64),
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.tolist(),
    ),
    ids=("read-only", "fortran", "int16", "float64", "strided", "negative stride", "lists"),
)
def test_inputs_in_any_form(given, rng):
    for name, arrays, others in calls(rng):
        want = getattr(ops, name)(*arrays, *others)
        inputs = [given(a) for a in arrays]
        before = [np.array(a) for a in inputs]
        got = getattr(ops, name)(*inputs, *others)
        got, want = (r if isinstance(r, tuple) else (r,) for r in (got, want))
        for result, wanted in zip(got, want, strict=True):
            assert_same(result, wanted)
            assert result.flags.writeable and result.flags.c_contiguous, name
            assert not any(np.shares_memory(result, np.asarray(a)) for a in inputs), name
        for a, copy in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(a, copy)


# ---- errors

X = np.zeros((2, 6, 8, 3))
MISTAKES = [
    (
        ops.max_pool2d,
        (X[0], 2),
        {},
        ValueError,
        r"max_pool2d: x must have 4 axes \(batch, height, width, channels\)",
    ),
    (ops.max_pool2d, (X, 7), {}, ValueError, "max_pool2d: the window of 7x7 pixels is larger"),
    (ops.max_pool2d, (X, 0), {}, ValueError, "max_pool2d: pool_size must be at least 1"),
    (ops.max_pool2d, (X, 2, 0), {}, ValueError, "max_pool2d: strides must be at least 1"),
    (ops.max_pool2d, (X, 2.0), {}, TypeError, "max_pool2d: pool_size must be an int or a pair"),
    (
        ops.max_pool2d,
        (X, 2),
        {"padding": 2},
        ValueError,
        "max_pool2d: padding .* must be below the pool_size",
    ),
    (ops.max_pool2d, (X, 2), {"padding": "smae"}, ValueError, "max_pool2d: padding must be 'valid', 'same'"),
    (ops.min_pool2d, (np.zeros((2, 0, 3, 1)), 1), {}, ValueError, "min_pool2d: .*at least one pixel"),
    (ops.max_pool2d_grad, (X, X, 2), {}, ValueError, r"max_pool2d_grad: dy must have shape \(2, 3, 4, 3\)"),
    (ops.avg_pool2d, (X.astype(complex), 2), {}, TypeError, "avg_pool2d: x must hold real numbers"),
    (ops.avg_pool2d_grad, (X, (2, 6, 8), 2), {}, ValueError, "avg_pool2d_grad: input_shape must be"),
    (ops.avg_pool2d_grad, (X, X.shape, 2), {}, ValueError, "avg_pool2d_grad: dy must have shape"),
    (ops.global_avg_pool2d, (X[:, :0],), {}, ValueError, "global_avg_pool2d: x.* at least one pixel"),
    (
        ops.global_avg_pool2d_grad,
        (np.zeros((2, 4)), X.shape),
        {},
        ValueError,
        r"dy must have shape \(2, 3\) or",
    ),
    (
        ops.global_max_pool2d_grad,
        (np.zeros((3, 3)), X),
        {},
        ValueError,
        "global_max_pool2d_grad: dy must have",
    ),
    (
        ops.dense,
        (X, np.zeros((4, 5))),
        {},
        ValueError,
        r"dense: x of shape .* must have 4 values in its last axis",
    ),
    (ops.dense, (3.0, np.zeros((4, 5))), {}, ValueError, "dense: x must have at least one axis"),
    (ops.dense, (X, np.zeros(4)), {}, ValueError, r"dense: w must have 2 axes \(in, out\)"),
    (ops.dense, (X, np.zeros((3, 5)), np.zeros(3)), {}, ValueError, r"dense: b must have shape \(5,\)"),
    (ops.dense_input_grad, (X, np.zeros((3, 4))), {}, ValueError, "dense_input_grad: dy of shape"),
    (ops.dense_weight_grad, (X, X[:1]), {}, ValueError, "dense_weight_grad: x and dy must agree"),
    (ops.relu, (["a"],), {}, TypeError, "relu: x must hold real numbers"),
    (ops.relu, (None,), {}, TypeError, "relu: x must hold real numbers, got dtype object"),
    (
        ops.leaky_relu,
        (X, -0.1),
        {},
        ValueError,
        "leaky_relu: negative_slope must be finite and at least 0, got -0.1",
    ),
    (ops.elu, (X, np.nan), {}, ValueError, "elu: alpha must be finite"),
    (ops.elu, (X, "one"), {}, TypeError, "elu: alpha must be a number"),
    (ops.softmax, (X, 4), {}, ValueError, "softmax: axis 4 does not exist"),
    (ops.softmax, (X, 1.5), {}, TypeError, "softmax: axis must be an int"),
    (ops.softmax, (3.0,), {}, ValueError, "softmax: axis -1 does not exist"),
    (ops.log_softmax, (X[:0], 0), {}, ValueError, "log_softmax: axis 0 must hold at least one value"),
    (ops.softmax_grad, (X, X[:1]), {}, ValueError, "softmax_grad: dy and x must have one shape"),
    (
        ops.activation,
        (X, "rellu"),
        {},
        ValueError,
        "activation: unknown activation 'rellu'. Did you mean 'relu'",
    ),
    (ops.activation_grad, (X, X, "step"), {}, ValueError, "activation_grad: unknown activation 'step'"),
    (ops.activation_grad, (X, X[:1], "relu"), {}, ValueError, "activation_grad: dy must have shape"),
]


@pytest.mark.parametrize("call, arguments, words, error, message", MISTAKES)
def test_messages(call, arguments, words, error, message):
    with pytest.raises(error, match=message):
        call(*arguments, **words)
