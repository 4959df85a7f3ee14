"""Element-wise kernels against the reference, on every instruction set and several thread counts."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.kernels import _eltwise
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._op import Tensor
from fastcnn.ops._engine import tensor
from tests.check import EPS32, TINY32, Framed, assert_close, assert_same, guarded, small_ints
from tests.philox import dropout_mask as mask
from tests.philox import philox4x32

CHANNELS = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33)
HALO = ((1, 2), (2, 1))
PADS = ((1, 0), (2, 3))
SQRT_2_OVER_PI = np.sqrt(2 / np.pi)


def empty_like(x):
    return Framed(x.shape)


def images(rng, c, n=3, h=4, w=5):
    return rng.standard_normal((n, h, w, c)).astype(np.float32)


# ---- activations ----


def gelu_tanh(x):
    return x * reference.sigmoid(2 * SQRT_2_OVER_PI * (x + 0.044715 * x**3))


def gelu_tanh_slope(x):
    s = reference.sigmoid(2 * SQRT_2_OVER_PI * (x + 0.044715 * x**3))
    return s + x * s * (1 - s) * 2 * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)


BEYOND_REFERENCE = {"exponential": (np.exp, np.exp), "gelu_tanh": (gelu_tanh, gelu_tanh_slope)}
KINDS = [name for name in reference.ACTIVATIONS if "softmax" not in name] + list(BEYOND_REFERENCE)
kinds = pytest.mark.parametrize("kind", KINDS)


def value(kind, x):
    x = x.astype(np.float64)
    return BEYOND_REFERENCE[kind][0](x) if kind in BEYOND_REFERENCE else reference.activation(x, kind)


def slope(kind, x):
    x = x.astype(np.float64)
    return BEYOND_REFERENCE[kind][1](x) if kind in BEYOND_REFERENCE else reference.activation_grad(
        np.ones_like(x), x, kind)


def activate(kind, x, param=None):
    y, check = guarded(x.shape)
    run_op(_eltwise.Activation(kind, tensor(x), tensor(y), param))
    check()
    return y


def activate_grad(kind, dy, x, y, param=None):
    dx, check = guarded(x.shape)
    run_op(_eltwise.ActivationGrad(kind, tensor(dy), tensor(x), tensor(y), tensor(dx), param))
    check()
    return dx


POWERS = 2.0 ** np.arange(-60, 6)
SPREAD = np.concatenate([np.linspace(-88, 88, 3001), np.linspace(-1, 1, 1001), [-3, 0, 3, 6], POWERS,
                         -POWERS]).astype(np.float32)


def test_every_activation_has_a_kernel():
    assert sorted(_eltwise.activations()) == sorted(KINDS)


@kinds
def test_activation_within_units_in_the_last_place(isa, kind):
    x = SPREAD[None]
    want = value(kind, x)
    ulps = 4 + (x.astype(np.float64) ** 2 if kind.startswith("gelu") else 0)  # e^(-x^2/2): x^2 is rounded
    assert (np.abs(activate(kind, x) - want) <= EPS32 * ulps * np.abs(want) + TINY32 * (1 + np.abs(x))).all()


@kinds
def test_activation_gradient(isa, kind, rng):
    x, dy = SPREAD[None], rng.uniform(0.5, 2, (1, SPREAD.size)).astype(np.float32)
    want = slope(kind, x)
    got = activate_grad(kind, dy, x, activate(kind, x)) / dy.astype(np.float64)
    assert (np.abs(got - want) <= 16 * EPS32 * (1 + np.abs(want))).all()


@pytest.mark.parametrize("kind", ["relu", "relu6", "leaky_relu", "linear"])
def test_piecewise_linear_activations_are_exact(isa, kind, rng):
    for size in CHANNELS:
        x, dy = small_ints(rng, (3, size)), small_ints(rng, (3, size))
        y = activate(kind, x, 0.25 if kind == "leaky_relu" else None)
        got = activate_grad(kind, dy, x, y, 0.25 if kind == "leaky_relu" else None)
        if kind == "leaky_relu":
            assert_same(y, np.where(x > 0, x, x / 4))
            assert_same(got, np.where(x > 0, dy, dy / 4))
        else:
            assert_same(y, reference.activation(x, kind))
            assert_same(got, reference.activation_grad(dy, x, kind))


@kinds
def test_activation_of_every_size_in_place_and_with_halo(isa, kind, rng):
    for c in CHANNELS:
        x, dy = images(rng, c), images(rng, c)
        y = activate(kind, x)
        dx = activate_grad(kind, dy, x, y)
        fx, fy, fdy = Framed(x.shape, x), Framed(y.shape, y), Framed(dy.shape, dy)
        run_op(_eltwise.ActivationGrad(kind, fdy.tensor, fx.tensor, fy.tensor, fdy.tensor))
        run_op(_eltwise.Activation(kind, fx.tensor, fx.tensor))
        assert_same(fx.result(), y)
        assert_same(fdy.result(), dx)
        assert_same(fy.result(), y)


@kinds
def test_activation_of_nan_is_nan(isa, kind):
    x = np.full((1, 33), 0.5, np.float32)
    x[0, [3, 32]] = np.nan
    assert_same(np.isnan(activate(kind, x)), np.isnan(x))


@pytest.mark.parametrize("kind, low, high", [
    ("linear", -np.inf, np.inf), ("relu", 0, np.inf), ("relu6", 0, 6), ("leaky_relu", -np.inf, np.inf),
    ("elu", -1, np.inf), ("selu", -reference.SELU_SCALE * reference.SELU_ALPHA, np.inf), ("sigmoid", 0, 1),
    ("tanh", -1, 1), ("exponential", 0, np.inf), ("softplus", 0, np.inf), ("hard_sigmoid", 0, 1)])
def test_activation_of_infinity(isa, kind, low, high):
    got = activate(kind, np.array([[-np.inf, np.inf]], np.float32))
    assert_same(got, np.array([[low, high]], np.float32))


def test_exponential_at_the_ends_of_the_range(isa):
    x = np.array([[88.73, 1e30, -87.4, -104, -1e30, 0, -0.0, 88.72, -87.33]], np.float32)
    got = activate("exponential", x)[0]
    assert np.isinf(got[:2]).all() and (got[2:5] == 0).all() and (got[5:7] == 1).all()
    want = np.exp(x[0, 7:].astype(np.float64))
    assert (np.abs(got[7:] - want) <= EPS32 * want).all()


@pytest.mark.parametrize("kind", ["leaky_relu", "elu"])
def test_activation_parameter(isa, kind):
    x = np.array([[-2, -0.5, 0, 0.5, 2]], np.float32)
    for param in (0.0, 0.5, 3.0):
        y = activate(kind, x, param)
        dx = activate_grad(kind, np.ones_like(x), x, y, param)
        negative = param * x if kind == "leaky_relu" else param * np.expm1(x)
        assert_close(y, np.where(x > 0, x, negative), 1)
        assert_close(dx, np.where(x > 0, 1, param if kind == "leaky_relu" else param * np.exp(x)), 1)
    assert _eltwise.default_param("leaky_relu") == np.float32(0.2)
    assert _eltwise.default_param("elu") == 1


def test_gradient_reads_only_what_it_needs(isa):
    x = np.ones((2, 9), np.float32)
    for kind in KINDS:
        saved = {"x": tensor(x), "y": None} if _eltwise.grad_needs(kind) == "x" else {"x": None, "y": tensor(x)}
        run_op(_eltwise.ActivationGrad(kind, tensor(x), dx=tensor(x.copy()), **saved))
    assert {kind for kind in KINDS if _eltwise.grad_needs(kind) == "x"} == {
        "gelu", "gelu_tanh", "silu", "swish", "mish", "softsign", "hard_swish"}


def test_relu_gradient_of_nan_is_zero(isa):
    one, nan = np.ones((1, 3), np.float32), np.full((1, 3), np.nan, np.float32)
    assert_same(activate_grad("relu", one, nan, nan), 0 * one)
    assert_same(activate_grad("relu", nan, one, -one), 0 * one)
    assert_same(activate_grad("relu", nan, one, one), nan)


def test_local_tensor_between_two_ops(machine, rng):
    """The chunk stays in the thread's own memory; only what enters and leaves is in an array."""
    x = small_ints(rng, (7, 3, 2, 5))
    y, check = guarded(x.shape)
    between = Tensor(x.shape, None, HALO, offset=64)
    stage = Stage([_eltwise.Activation("relu", tensor(x), between), _eltwise.Rescale(between, tensor(y), 2, 1)],
                  len(x), 4, 3)
    Program([stage], local=64 + 3 * 6 * 5 * 5 * 4).run()
    check()
    assert_same(y, 2 * np.maximum(x, 0) + 1)


# ---- softmax ----


@pytest.mark.parametrize("log", [False, True])
def test_softmax(machine, log, rng):
    name = "log_softmax" if log else "softmax"
    for c in (*CHANNELS, 100, 257):
        x, dy = (5 * images(rng, c)).astype(np.float32), images(rng, c)
        fx, fy, fdy, fdx = Framed(x.shape, x), empty_like(x), Framed(dy.shape, dy), empty_like(x)
        run_op(_eltwise.Softmax(fx.tensor, fy.tensor, log))
        run_op(_eltwise.SoftmaxGrad(fdy.tensor, fy.tensor, fdx.tensor, log))
        y, dx = fy.result(), fdx.result()
        assert_close(y, reference.activation(x, name), c, 8 if log else 4)
        assert_close(dx, reference.activation_grad(dy, x, name), c)
        run_op(_eltwise.Softmax(fx.tensor, fx.tensor, log))  # in place, as is the gradient
        fy = Framed(y.shape, y)
        run_op(_eltwise.SoftmaxGrad(fdy.tensor, fy.tensor, fdy.tensor, log))
        assert_same(fx.result(), y)
        assert_same(fdy.result(), dx)


@pytest.mark.parametrize("log", [False, True])
def test_softmax_of_huge_and_special_values(isa, log):
    for c in (5, 20):
        x = np.zeros((6, c), np.float32)
        x[0] += 1e4  # the exponential of it overflows
        x[1, 1] = 300
        x[2, 1:] = -np.inf
        x[3, 2] = np.nan
        x[4, -1] = np.inf
        x[5] = -np.inf
        y = np.full_like(x, np.nan)
        run_op(_eltwise.Softmax(tensor(x), tensor(y), log))
        with np.errstate(divide="ignore"):
            want = reference.log_softmax(x[:3]) if log else reference.softmax(x[:3])
            assert_close(y[:3], want, c)
        assert np.isnan(y[3:]).all()


# ---- arithmetic and copies ----


def test_sum_scale_and_copy_are_exact(machine, rng):
    for c in CHANNELS:
        a, b = small_ints(rng, (3, 4, 5, c)), small_ints(rng, (3, 4, 5, c))
        fa, fb, fy = Framed(a.shape, a), Framed(b.shape, b), empty_like(a)
        run_op(_eltwise.AddTensors(fy.tensor, fa.tensor, fb.tensor))
        assert_same(fy.result(), a + b)
        fy = empty_like(a)
        run_op(_eltwise.Rescale(fa.tensor, fy.tensor, 0.5, -3))
        assert_same(fy.result(), a / 2 - 3)
        run_op(_eltwise.AddTensors(fa.tensor, fa.tensor, fb.tensor))
        assert_same(fa.result(), a + b)
        y, check = guarded(b.shape)
        run_op(_eltwise.Copy(fb.tensor, tensor(y)))  # out of a halo, and back into one
        check()
        assert_same(y, b)
        fy = empty_like(a)
        run_op(_eltwise.Copy(tensor(y), fy.tensor))
        assert_same(fy.result(), b)


@pytest.mark.parametrize("pads", [PADS, ((0, 0), (0, 0)), ((3, 2), (0, 0))], ids=str)
def test_pad_and_crop_are_adjoint(machine, pads, rng):
    for c in CHANNELS:
        x = small_ints(rng, (3, 4, 5, c))
        padded = np.pad(x, ((0, 0), *pads, (0, 0)))
        dy = small_ints(rng, padded.shape)
        fx, fy, fdy, fdx = Framed(x.shape, x), empty_like(padded), Framed(dy.shape, dy), empty_like(x)
        run_op(_eltwise.ZeroPad(fx.tensor, fy.tensor, pads))
        run_op(_eltwise.Crop(fdy.tensor, fdx.tensor, pads))
        y, dx = fy.result(), fdx.result()
        assert_same(y, padded)
        assert (y * dy).sum() == (x * dx).sum()


# ---- sums ----


def bias_grad(dy, parts, group, chunk=None):
    framed = Framed(dy.shape, dy)
    op = _eltwise.BiasGrad(framed.tensor, parts)
    Program([Stage([op], op.items, group, chunk)]).run()
    assert_same(framed.result(), dy)
    return parts


def test_bias_gradient_is_exact(machine, rng):
    for c in CHANNELS:
        dy = small_ints(rng, (7, 4, 3, c))
        parts, check = guarded((3, c))
        bias_grad(dy, parts, 3)
        check()
        assert_same(parts, np.stack([part.sum((0, 1, 2)) for part in (dy[:3], dy[3:6], dy[6:])]))


def test_bias_gradient_of_dense_rows(machine, rng):
    dy = small_ints(rng, (9, 33))
    parts, check = guarded((1, 33))
    op = _eltwise.BiasGrad(tensor(dy), parts)
    Program([Stage([op], 9, 9, 2)]).run()
    check()
    assert_same(parts[0], dy.sum(0))


def test_bias_gradient_does_not_depend_on_chunks(machine, rng):
    dy = images(rng, 21, n=8)
    want = bias_grad(dy, np.empty((2, 21), np.float32), 4)
    for chunk in (1, 2, 3):
        assert (bias_grad(dy, np.empty((2, 21), np.float32), 4, chunk) == want).all()
    assert_close(want.sum(0), dy.astype(np.float64).sum((0, 1, 2)), 160)


def test_bias_gradient_stays_inside_its_parts(machine, rng):
    parts, check = guarded((2, 5))
    bias_grad(small_ints(rng, (6, 2, 2, 5)), parts, 1)  # six groups, two rows
    check()


def test_reduce_adds_in_order(machine, rng):
    for count, length in ((1, 5), (2, 4096), (3, 4097), (5, 9000), (2, 0)):
        parts = rng.standard_normal((count, length)).astype(np.float32)
        out, check = guarded((length,))
        run_op(_eltwise.Reduce(parts, out))
        check()
        want = parts[0].copy()
        for part in parts[1:]:
            want += part
        assert (out == want).all()


# ---- dropout ----


@pytest.mark.parametrize("counter, key, want", [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1])])
def test_philox_known_answers(counter, key, want):
    assert philox4x32(np.array(counter, np.uint64), key).tolist() == want


STATE = np.array([0x9E3779B97F4A7C15, 2**32 + 5], np.uint64)


@pytest.mark.parametrize("shape", [(3, 4, 5, c) for c in CHANNELS] + [(2, 9, 13, 33)], ids=str)
def test_dropout_is_the_counted_mask(machine, shape, rng):
    x = rng.integers(1, 9, shape).astype(np.float32)
    fx, fy, fdx = Framed(x.shape, x), empty_like(x), empty_like(x)
    run_op(_eltwise.Dropout(fx.tensor, fy.tensor, 0.75, STATE, 7))
    run_op(_eltwise.DropoutGrad(fx.tensor, fdx.tensor, 0.75, STATE, 7))
    y = fy.result()
    assert_same(y, x * mask(shape, 0.75, STATE, 7) * 4)
    assert_same(fdx.result(), y)


def dropped(x, rate, state, stream, spatial=False, group=1, chunk=None):
    y, check = guarded(x.shape)
    op = _eltwise.Dropout(tensor(x), tensor(y), rate, state, stream, spatial)
    Program([Stage([op], op.items, group, chunk)]).run()
    check()
    return y


def test_dropout_depends_on_its_counters_alone(machine):
    x = np.ones((7, 3000), np.float32)
    want = dropped(x, 0.5, STATE, 3)
    assert_same(dropped(x, 0.5, STATE, 3, group=7, chunk=2), want)
    assert_same(dropped(x[:4], 0.5, STATE, 3), want[:4])
    others = [dropped(x, 0.5, STATE, 4), dropped(x, 0.5, STATE + np.array([0, 1], np.uint64), 3),
              dropped(x, 0.5, STATE + np.array([1, 0], np.uint64), 3), np.roll(want, 1, 0)]
    for other in others:
        assert abs((other == want).mean() - 0.5) < 0.02


def test_dropout_reads_the_step_at_every_run(isa):
    x, y = np.ones((1, 500), np.float32), np.empty((1, 500), np.float32)
    state = STATE.copy()
    op = _eltwise.Dropout(tensor(x), tensor(y), 0.5, state, 0)
    for step in (1, 2, 1):
        state[1] = step
        run_op(op)
        assert_same(y, 2.0 * mask(x.shape, 0.5, [state[0], step], 0).astype(np.float32))


def test_dropout_rates(machine):
    x = np.ones((4, 50000), np.float32)
    for rate in (0.0, 0.1, 0.5, 0.9):
        y = dropped(x, rate, STATE, 1)
        kept = (y > 0).mean()
        assert abs(kept - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / x.size) + 1e-12
        assert_close(y[y > 0], np.full((y > 0).sum(), 1 / (1 - rate)), 1)


def test_spatial_dropout_drops_whole_channels(machine):
    x = np.ones((3, 4, 5, 37), np.float32)
    want = 2.0 * mask((3, 37), 0.5, STATE, 2)[:, None, None]
    assert_same(dropped(x, 0.5, STATE, 2, spatial=True), np.broadcast_to(want, x.shape))


# ---- errors ----


def t(*shape):
    return tensor(np.zeros(shape, np.float32))


@pytest.mark.parametrize("make, message", [
    (lambda: _eltwise.Activation("rellu", t(2, 3), t(2, 3)), "unknown activation 'rellu'.*relu"),
    (lambda: _eltwise.Activation("relu", t(2, 3), t(2, 4)), "one shape"),
    (lambda: _eltwise.Activation("elu", t(2, 3), t(2, 3), -1.0), "at least 0"),
    (lambda: _eltwise.Activation("elu", t(2, 3), t(2, 3), np.nan), "at least 0"),
    (lambda: _eltwise.ActivationGrad("relu", t(2, 3), t(2, 3), None, t(2, 3)), "needs y"),
    (lambda: _eltwise.ActivationGrad("silu", t(2, 3), None, t(2, 3), t(2, 3)), "needs x"),
    (lambda: _eltwise.ActivationGrad("relu", t(2, 3), None, t(3, 3), t(2, 3)), "one shape"),
    (lambda: _eltwise.Softmax(t(2, 3), t(2, 2)), "one shape"),
    (lambda: _eltwise.Softmax(t(2, 0), t(2, 0)), "one channel"),
    (lambda: _eltwise.SoftmaxGrad(t(2, 3), t(2, 3), t(2, 2)), "one shape"),
    (lambda: _eltwise.AddTensors(t(2, 3), t(2, 3), t(1, 3)), "one shape"),
    (lambda: _eltwise.Rescale(t(2, 3), t(1, 3)), "one shape"),
    (lambda: _eltwise.Copy(t(2, 3), t(1, 3)), "one shape"),
    (lambda: _eltwise.ZeroPad(t(2, 3, 3, 1), t(2, 4, 3, 1), PADS), "pads"),
    (lambda: _eltwise.ZeroPad(t(2, 3, 3, 1), t(2, 3, 2, 1), ((1, -1), (0, -1))), "pads"),
    (lambda: _eltwise.Crop(t(2, 3, 3, 1), t(2, 4, 3, 1), ((1, 0), (0, 0))), "pads"),
    (lambda: _eltwise.BiasGrad(t(2, 3), np.zeros((2, 4), np.float32)), "6 elements"),
    (lambda: _eltwise.BiasGrad(t(2, 3), np.zeros((2, 3))), "float32"),
    (lambda: _eltwise.BiasGrad(t(2, 3), np.zeros((3, 2), np.float32).T), "contiguous"),
    (lambda: _eltwise.Reduce(np.zeros((2, 3), np.float32), np.zeros(2, np.float32)), "4 elements"),
    (lambda: _eltwise.Reduce(np.zeros((0, 3), np.float32), np.zeros(3, np.float32)), "at least one part"),
    (lambda: _eltwise.Reduce(np.zeros((1, 3), np.float32), np.broadcast_to(np.float32(0), 3)), "contiguous"),
    (lambda: _eltwise.Dropout(t(2, 3), t(2, 3), 1.0, STATE, 0), "rate"),
    (lambda: _eltwise.Dropout(t(2, 3), t(2, 3), -0.1, STATE, 0), "rate"),
    (lambda: _eltwise.Dropout(t(2, 3), t(2, 3), np.nan, STATE, 0), "rate"),
    (lambda: _eltwise.Dropout(t(2, 3), t(2, 3), 0.1, STATE[:1], 0), "2 elements of uint64"),
    (lambda: _eltwise.Dropout(t(2, 3), t(2, 4), 0.1, STATE, 0), "one shape"),
])
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_read_only_output_is_refused():
    out = np.zeros(3, np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        _eltwise.Reduce(np.zeros((1, 3), np.float32), out)


def test_no_images(machine):
    x = np.zeros((0, 2, 2, 3), np.float32)
    for op in (_eltwise.Activation("relu", tensor(x), tensor(x)), _eltwise.Softmax(tensor(x), tensor(x)),
               _eltwise.Dropout(tensor(x), tensor(x), 0.5, STATE, 0)):
        run_op(op)
