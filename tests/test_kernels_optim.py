"""Optimiser kernels against the reference, on every instruction set and several thread counts."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.kernels import _optim
from fastcnn.kernels._executor import Program, Stage, run_op
from tests.check import EPS32, assert_close, assert_same, guarded, small_ints

SIZES = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 8191, 8192, 8193)
RATE, DECAY = 0.01, 0.004
MOMENTUM, RHO, BETAS, EPSILON = 0.9, 0.8, (0.9, 0.999), 1e-7


# ---- the rules, one step in float64: slots are in the order of rules() ----


def rmsprop(w, g, slots, centered=False, momentum=False, **words):
    v, velocity = slots[0], slots[-1] if momentum else 0.0
    average = slots[1] if centered else 0.0
    w, v, velocity, average = reference.rmsprop_step(
        w, g, v, velocity, average, RATE, RHO, MOMENTUM if momentum else 0.0, EPSILON, centered, **words)
    return w, [v] + [average] * centered + [velocity] * momentum


def sgd(w, g, slots, momentum=0.0, nesterov=False, **words):
    w, velocity = reference.sgd_step(w, g, slots[0] if momentum else 0.0, RATE, momentum, nesterov, **words)
    return w, [velocity] if momentum else []


def adam(w, g, slots, step, **words):
    w, m, v = reference.adam_step(w, g, *slots, step, RATE, *BETAS, EPSILON, **words)
    return w, [m, v]


def nadam(w, g, slots, step, **words):
    w, m, v = reference.nadam_step(w, g, *slots, step, RATE, *BETAS, EPSILON, **words)
    return w, [m, v]


def adadelta(w, g, slots, **words):
    w, a, u = reference.adadelta_step(w, g, *slots, RATE, RHO, EPSILON, **words)
    return w, [a, u]


def adagrad(w, g, slots, **words):
    w, a = reference.adagrad_step(w, g, slots[0], RATE, EPSILON, **words)
    return w, [a]


def step_of(rule, step, w, g, slots, weight_decay=None):
    words = {"weight_decay": weight_decay}
    if rule in ("adam", "nadam"):
        return {"adam": adam, "nadam": nadam}[rule](w, g, slots, step, **words)
    if rule in ("adagrad", "adadelta"):
        return {"adagrad": adagrad, "adadelta": adadelta}[rule](w, g, slots, **words)
    if rule.startswith("rmsprop"):
        return rmsprop(w, g, slots, "centered" in rule, "momentum" in rule, **words)
    return sgd(w, g, slots, 0.0 if rule == "sgd" else MOMENTUM, rule == "sgd_nesterov", **words)


def scalars_of(rule, step, scalars, weight_decay=0.0, clip=np.inf):
    """Fill the array that the op reads."""
    alpha = RATE * np.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step)
    values = {"decay": RATE * weight_decay, "clip": clip, "rate": RATE, "momentum": MOMENTUM, "rho": RHO,
              "epsilon": EPSILON, "alpha": alpha, "beta_1": BETAS[0], "beta_2": BETAS[1]}
    mu = [BETAS[0] * (1 - 0.5 * 0.96**t) for t in range(1, step + 2)]
    values.update(momentum_factor=RATE * mu[step] / (1 - np.prod(mu)), velocity_factor=1 / (1 - BETAS[1] ** step),
                  gradient_factor=RATE * (1 - mu[step - 1]) / (1 - np.prod(mu[:step])))
    for i, name in enumerate(_optim.rules()[rule][1]):
        scalars[i] = values[name]
    return scalars


RULES = list(_optim.rules())
every_rule = pytest.mark.parametrize("rule", RULES)


def random_slots(rule, rng, size):
    """Slots in the middle of a training: second moments at least the squares of the first."""
    names = _optim.rules()[rule][0]
    first = rng.standard_normal(size)
    values = {"velocity": first**2 + rng.uniform(0.1, 1, size), "average_gradient": first, "momentum": first,
              "accumulator": first**2, "accumulated_grad": first**2 + 0.1, "accumulated_delta_var": first**2 + 0.2}
    return [values[name].astype(np.float32) for name in names]


def update(rule, w, g, slots, scalars, segments, scale=None, group=1, chunk=None):
    """The new weights and slots, from arrays inside guard bands."""
    arrays, checks = zip(*(guarded(a.shape) for a in (w, *slots)), strict=True)
    for array, values in zip(arrays, (w, *slots), strict=True):
        array[...] = values
    op = _optim.Update(rule, arrays[0], g, arrays[1:], scalars, segments, scale)
    Program([Stage([op], op.items, group, chunk)]).run()
    for check in checks:
        check()
    return arrays[0], list(arrays[1:])


def cancellation(rule):
    """Units in the last place that a step may lose: a centered second moment is a difference."""
    return 400 if "centered" in rule else 4


def test_rules_are_the_ones_tested_here():
    assert sorted(RULES) == sorted(["sgd", "sgd_momentum", "sgd_nesterov", "adam", "nadam", "adagrad", "adadelta",
                                    "rmsprop", "rmsprop_momentum", "rmsprop_centered", "rmsprop_centered_momentum"])


@every_rule
def test_update_of_every_size(machine, rule, rng):
    for size in SIZES:
        w, g = (rng.standard_normal(size).astype(np.float32) for _ in range(2))
        slots = random_slots(rule, rng, size)
        scalars = scalars_of(rule, 3, np.zeros(_optim.SCALARS), DECAY)
        want, want_slots = step_of(rule, 3, w, g, slots, DECAY)
        got, got_slots = update(rule, w, g, slots, scalars, [(0, size, 0, True)])
        assert (np.abs(got - want) <= EPS32 * (4 * np.abs(w) + cancellation(rule) * np.abs(want - w))).all()
        for slot, want_slot, before in zip(got_slots, want_slots, slots, strict=True):
            assert (np.abs(slot - want_slot) <= 4 * EPS32 * (np.abs(before) + np.abs(g) + g * g)).all()


@every_rule
def test_ten_steps(machine, rule, rng):
    """Slots from zero, scalars refreshed in place at each step."""
    size = 100
    w = rng.standard_normal(size).astype(np.float32)
    slots = [np.zeros(size, np.float32) for _ in _optim.rules()[rule][0]]
    want, want_slots = w.astype(np.float64), [slot.astype(np.float64) for slot in slots]
    g, scalars = np.empty(size, np.float32), np.zeros(_optim.SCALARS)
    op = _optim.Update(rule, w, g, slots, scalars, [(0, size, 0, True)])
    for step in range(1, 11):
        g[...] = rng.uniform(0.5, 2, size) * rng.choice([-1, 1], size)
        scalars_of(rule, step, scalars, DECAY)
        run_op(op)
        want, want_slots = step_of(rule, step, want, g, want_slots, DECAY)
    assert_close(w, want, 10, ulps=cancellation(rule))


def test_gradient_descent_is_exact(machine, rng):
    w, g = small_ints(rng, (1000,)), small_ints(rng, (1000,))
    got, _ = update("sgd", w, g, [], np.array([0, np.inf, 0.25] + [0] * (_optim.SCALARS - 3)), [(0, 1000, 0, True)])
    assert_same(got, w - g / 4)


@every_rule
def test_bits_do_not_depend_on_segments_or_cut(machine, rule, rng):
    size = 20000
    w, g = (rng.standard_normal(size).astype(np.float32) for _ in range(2))
    slots, scalars = random_slots(rule, rng, size), scalars_of(rule, 3, np.zeros(_optim.SCALARS), DECAY)
    want, want_slots = update(rule, w, g, slots, scalars, [(0, size, 0, True)])
    ends = [0, 1, 6, 30, 47, 8000, 17003, size]
    segments = [(a, b - a, i, True) for i, (a, b) in enumerate(zip(ends[:-1], ends[1:], strict=True))]
    got, got_slots = update(rule, w, g, slots, scalars, segments[::-1], group=3, chunk=2)
    for array, expected in zip((got, *got_slots), (want, *want_slots), strict=True):
        assert (array == expected).all()


def test_frozen_weights_and_gaps_stay(machine, rng):
    size = 60
    w, g = (rng.standard_normal(size).astype(np.float32) for _ in range(2))
    slots = random_slots("adam", rng, size)
    segments = [(0, 16, 0, True), (32, 20, 2, True)]
    got, got_slots = update("adam", w, g, slots, scalars_of("adam", 1, np.zeros(_optim.SCALARS)), segments)
    still = np.ones(size, bool)
    still[0:16] = still[32:52] = False
    for array, before in zip((got, *got_slots), (w, *slots), strict=True):
        assert (array[still] == before[still]).all()
        assert (array[~still] != before[~still]).all()


def test_decay_scale_and_clip(machine, rng):
    w, g = small_ints(rng, (48,)), 4 * small_ints(rng, (48,))
    scale = np.array([1, 0.5, np.nan, 2], np.float32)  # variable 2 is not among the segments
    segments = [(0, 16, 0, True), (16, 16, 1, False), (32, 16, 3, True)]
    got, _ = update("sgd", w, g, [], np.array([0.25, 6, 0.5] + [0] * (_optim.SCALARS - 3)), segments, scale)
    clipped = np.clip(g * np.repeat([1, 0.5, 2], 16), -6, 6)
    assert_same(got, w * np.repeat([0.75, 1, 0.75], 16) - clipped / 2)


def test_nan_gradient_reaches_the_weight(machine):
    g = np.zeros(20, np.float32)
    g[3] = np.nan
    got, _ = update("sgd", g * 0 + 1, g, [], np.array([0, 1, 1.0] + [0] * (_optim.SCALARS - 3)), [(0, 20, 0, True)])
    assert_same(np.isnan(got), np.isnan(g))


def test_squared_norm_per_variable(machine, rng):
    g = rng.standard_normal(30000).astype(np.float32)
    segments = [(0, 5, 0, True), (5, 20000, 2, True), (20016, 9984, 1, False)]
    op = _optim.SquaredNorm(g, segments)
    run_op(op)
    squares = g.astype(np.float64) ** 2
    want = [squares[:5].sum(), squares[20016:].sum(), squares[5:20005].sum(), 0]
    np.testing.assert_allclose(op.per_variable(4), want, rtol=1e-13)
    g[...] = 3e38  # the squares overflow in float32
    run_op(op)
    np.testing.assert_allclose(op.per_variable(1), 5 * np.float64(g[0]) ** 2, rtol=1e-13)


def test_nothing_to_update(machine):
    w = np.ones(3, np.float32)
    got, _ = update("sgd", w, w, [], np.ones(_optim.SCALARS), [])
    assert_same(got, w)
    norm = _optim.SquaredNorm(w, [])
    run_op(norm)
    assert norm.per_variable(2).tolist() == [0, 0]


# ---- errors ----


def make(rule="adam", w=None, g=None, slots=None, scalars=None, segments=((0, 8, 0, True),), scale=None):
    flat = [np.zeros(8, np.float32) for _ in range(4)]
    return lambda: _optim.Update(rule, flat[0] if w is None else w, flat[1] if g is None else g,
                                 flat[2:] if slots is None else slots,
                                 np.zeros(_optim.SCALARS) if scalars is None else scalars, segments, scale)


@pytest.mark.parametrize("build, message", [
    (make(rule="adamant"), "unknown update rule 'adamant'.*adam"),
    (make(slots=[]), "expected the slots"),
    (make(slots=[np.zeros(8, np.float32), np.zeros(7, np.float32)]), "velocity"),
    (make(w=np.zeros(8)), "float32"),
    (make(g=np.zeros(7, np.float32)), "g: expected 8 elements"),
    (make(g=np.zeros(16, np.float32)[::2]), "contiguous"),
    (make(scalars=np.zeros(_optim.SCALARS, np.float32)), "9 elements of float64"),
    (make(segments=[(0, 9, 0, True)]), "leaves the 8 weights"),
    (make(segments=[(-1, 2, 0, True)]), "overlaps"),
    (make(segments=[(0, -2, 0, True)]), "overlaps"),
    (make(segments=[(0, 5, 0, True), (4, 2, 1, True)]), "overlaps"),
    (make(segments=[(0, 5, -1, True)]), "overlaps"),
    (make(segments=[(0, 5, 3, True)], scale=np.ones(3, np.float32)), "scale for 4 variables"),
    (make(scale=np.ones(3)), "float32"),
    (lambda: _optim.SquaredNorm(np.zeros(8), [(0, 8, 0, True)]), "float32"),
    (lambda: _optim.SquaredNorm(np.zeros(8, np.float32), [(0, 9, 0, True)]), "leaves"),
])
def test_wrong_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()
