"""Ops and layers that merge branches, and PReLU: against the reference, by numerical gradients, and on mistakes."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import reference
from fastcnn.kernels import _merge
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.ops._engine import tensor
from tests.check import Framed, assert_same, guarded, poison, small_ints
from tests.float64_graph import assert_numerical_gradients

CHANNELS = (1, 3, 8, 15, 16, 17, 33)
HALO = ((1, 0), (2, 1))
KINDS = ("add", "multiply", "average", "maximum", "minimum")
# Shapes (h, w, c) that broadcast to images of 4x5 pixels, by what they broadcast along.
NARROW = {"none": (4, 5, None), "image": (1, 1, None), "channels": (4, 5, 1), "rows": (1, 5, None),
          "columns": (4, 1, None), "all": (1, 1, 1), "rows and channels": (1, 5, 1)}


def draws(rng, count, c, shapes=((4, 5, None),)):
    return [small_ints(rng, (3, *(c if s is None else s for s in shapes[i % len(shapes)]))) for i in range(count)]


# ------------------------------------------------------------------------------------------ ops


@pytest.mark.parametrize("kind", KINDS)
def test_merge_and_gradients(isa, threads, kind, rng):
    for c in CHANNELS:
        inputs = draws(rng, 3 if c % 2 else 4, c)
        dy = small_ints(rng, (3, 4, 5, c))
        if kind == "average":  # exact results: the count divides the sums, and its inverse is a float
            inputs = [x * 4 for x in (*inputs, inputs[0])[:4]]
            dy *= 4
        y, check = guarded((3, 4, 5, c))
        run_op(_merge.Merge(kind, [tensor(x) for x in inputs], tensor(y)))
        check()
        assert_same(y, reference.merge(kind, inputs))
        for index, want in enumerate(reference.merge_grad(kind, dy, inputs)):
            dx, check = guarded(dy.shape)
            run_op(_merge.MergeGrad(kind, tensor(dy), [tensor(x) for x in inputs], tensor(y), index, tensor(dx)))
            check()
            assert_same(dx, want)


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("kind", ["add", "multiply", "maximum", "subtract"])
def test_broadcasting_between_halos(isa, kind, narrow, rng):
    """All tensors lie in frames of NaN: nothing outside them is read or written."""
    for c in (1, 5, 16, 33):
        inputs = draws(rng, 2, c, [(4, 5, None), NARROW[narrow]])
        if kind == "maximum":
            inputs[1] += 0.5  # no ties
        dy = small_ints(rng, (3, 4, 5, c))
        tensors, fy, fdy = [Framed(x.shape, x).tensor for x in inputs], Framed(dy.shape), Framed(dy.shape, dy)
        run_op(_merge.Merge(kind, tensors, fy.tensor))
        assert_same(fy.result(), reference.merge(kind, inputs))
        for index, want in enumerate(reference.merge_grad(kind, dy, inputs)):
            dx = Framed(inputs[index].shape)
            run_op(_merge.MergeGrad(kind, fdy.tensor, tensors, fy.tensor, index, dx.tensor))
            assert_same(dx.result(), want)


def test_a_sum_is_clamped_at_the_end(isa, rng):
    inputs, y = draws(rng, 3, 17), np.empty((3, 4, 5, 17), np.float32)
    run_op(_merge.Merge("add", [tensor(x) for x in inputs], tensor(y), clamp=(0.0, 6.0)))
    assert_same(y, reference.merge("add", inputs).clip(0, 6))


@pytest.mark.parametrize("kind", [*KINDS, "subtract"])
def test_nan_stays_nan(isa, kind):
    a = np.zeros((2, 1, 1, 37), np.float32)
    b = a.copy()
    a[0, 0, 0, 20], b[1, 0, 0, 36] = np.nan, np.nan
    for x, z in ((a, b), (b, a)):
        y = np.zeros_like(a)
        run_op(_merge.Merge(kind, [tensor(x), tensor(z)], tensor(y)))
        assert_same(np.isnan(y), np.isnan(a) | np.isnan(b))


@pytest.mark.parametrize("c", CHANNELS)
def test_paste_and_cut(isa, c, rng):
    part = small_ints(rng, (3, 2, 3, c))
    for at in ((0, 0, 0), (2, 1, 0), (1, 2, 4)):
        shape = (3, 4, 5, c + at[2])
        whole = small_ints(rng, shape)
        target, back = Framed(shape, whole), Framed(part.shape)
        run_op(_merge.Paste(Framed(part.shape, part).tensor, target.tensor, at))
        want, box = whole.copy(), np.s_[:, at[0] : at[0] + 2, at[1] : at[1] + 3, at[2] : at[2] + c]
        want[box] = part
        assert_same(target.result(), want)
        run_op(_merge.Cut(target.tensor, back.tensor, at))
        assert_same(back.result(), part)


@pytest.mark.parametrize("slope", [*NARROW])
@pytest.mark.parametrize("halo", [((0, 0), (0, 0)), HALO])
def test_prelu(isa, slope, halo, rng):
    for c in (1, 5, 16, 33):
        x, dy = draws(rng, 2, c)
        alpha = small_ints(rng, [c if s is None else s for s in NARROW[slope]])
        ta = tensor(alpha[None])
        tx, tdy = Framed(x.shape, x, halo).tensor, Framed(x.shape, dy, halo).tensor
        fy, fdx = Framed(x.shape, halo=halo), Framed(x.shape, halo=halo)
        parts = poison(np.empty((2, alpha.size), np.float32))
        run_op(_merge.PRelu(tx, ta, fy.tensor))
        run_op(_merge.PReluGrad(tdy, tx, ta, fdx.tensor))
        Program([Stage([_merge.PReluSlopeGrad(tdy, tx, ta, parts)], 3, 2, 1)]).run()
        want_dx, _ = reference.prelu_grad(dy, x, alpha)
        assert_same(fy.result(), reference.prelu(x, alpha))
        assert_same(fdx.result(), want_dx)
        for part, rows in zip(parts, (slice(0, 2), slice(2, 3)), strict=True):
            assert_same(part.reshape(alpha.shape), reference.prelu_grad(dy[rows], x[rows], alpha)[1])


def test_ops_refuse():
    a, b = tensor(np.zeros((2, 3, 4, 5), np.float32)), tensor(np.zeros((2, 3, 2, 5), np.float32))
    refused = [
        (lambda: _merge.Merge("add", [a, b], a), "does not broadcast"),
        (lambda: _merge.Merge("add", [a], a), "two or more"),
        (lambda: _merge.Merge("subtract", [a, a, a], a), "takes two"),
        (lambda: _merge.Merge("divide", [a, a], a), "choose from add"),
        (lambda: _merge.Merge("multiply", [a, a], a, clamp=(0, 1)), "only a sum"),
        (lambda: _merge.MergeGrad("add", a, [a, a], a, 2, a), "not the shape of input 2"),
        (lambda: _merge.Paste(b, a, (0, 3, 0)), "does not lie within"),
        (lambda: _merge.Cut(a, b, (-1, 0, 0)), "does not lie within"),
        (lambda: _merge.PRelu(a, b, a), "does not broadcast"),
        (lambda: _merge.PReluSlopeGrad(a, a, tensor(np.zeros((1, 1, 1, 5), np.float32)), np.zeros((2, 4))), "10"),
    ]
    for attempt, words in refused:
        with pytest.raises(ValueError, match=words):
            attempt()


# ------------------------------------------------------------------------------------------ layers


def branches(shapes):
    """Inputs behind a trainable layer each, so that gradients must pass the layer under test."""
    inputs = [fc.Input(shape) for shape in shapes]
    return inputs, [L.Dense(shape[-1], activation="tanh")(x) for x, shape in zip(inputs, shapes, strict=True)]


MERGES = {
    "add": (L.Add, [(4, 5, 3)] * 3),
    "add channels": (L.Add, [(4, 5, 3), (1, 1, 3)]),
    "add fewer axes": (L.Add, [(4, 5, 3), (3,)]),
    "add vectors": (L.Add, [(7,)] * 2),
    "subtract": (L.Subtract, [(4, 5, 3)] * 2),
    "subtract both ways": (L.Subtract, [(1, 5, 3), (4, 1, 1)]),
    "multiply": (L.Multiply, [(4, 5, 3)] * 3),
    "multiply channels": (L.Multiply, [(4, 5, 3), (1, 1, 3)]),
    "multiply pixels": (L.Multiply, [(4, 5, 3), (4, 5, 1)]),
    "average": (L.Average, [(4, 3)] * 3),
    "maximum": (L.Maximum, [(4, 5, 3)] * 3),
    "maximum channels": (L.Maximum, [(4, 5, 3), (1, 1, 3)]),
    "minimum": (L.Minimum, [(6,)] * 2),
    "concatenate": (L.Concatenate, [(4, 5, 3), (4, 5, 1), (4, 5, 4)]),
    "concatenate rows": (lambda: L.Concatenate(axis=1), [(4, 5, 3), (1, 5, 3)]),
    "concatenate columns": (lambda: L.Concatenate(axis=-2), [(4, 5, 3), (4, 2, 3)]),
    "concatenate vectors": (L.Concatenate, [(5,), (2,)]),
    "concatenate rows of four axes": (lambda: L.Concatenate(axis=1), [(2, 3, 2, 3), (1, 3, 2, 3)]),
}


@pytest.mark.parametrize("case", MERGES)
def test_layers_forward_and_numerical_gradient(case, rng):
    make, shapes = MERGES[case]
    inputs, values = branches(shapes)
    model = fc.Model(inputs, L.Dense(2)(L.Flatten()(make()(values))))
    assert_numerical_gradients(model, [rng.standard_normal((3, *shape)) for shape in shapes], rng)


def test_the_same_branch_twice(rng):
    for make in (L.Add, L.Multiply, L.Subtract, L.Maximum, L.Concatenate):
        inputs, (value,) = branches([(3, 4, 2)])
        model = fc.Model(inputs, L.Dense(2)(L.Flatten()(make()([value, value]))))
        assert_numerical_gradients(model, [rng.standard_normal((3, 3, 4, 2))], rng)


def test_layers_on_arrays(rng):
    x, s = rng.standard_normal((2, 3, 4, 5)).astype("f"), rng.standard_normal((2, 1, 1, 5)).astype("f")
    assert_same(L.Add()([x, s]), x + s)
    assert_same(L.Multiply()([s, x]), s * x)
    assert_same(L.Concatenate()([x, x]), np.concatenate([x, x], -1))


def test_operators(rng):
    x, y = fc.Input((3, 4, 2), name="x"), fc.Input((1, 1, 2), name="y")
    model = fc.Model([x, y], 2 * (x + y) * y - x + 1 - (3 - y) - 0.5 + -x)
    a, b = rng.standard_normal((2, 3, 4, 2)).astype("f"), rng.standard_normal((2, 1, 1, 2)).astype("f")
    np.testing.assert_allclose(model.predict([a, b]), 2 * (a + b) * b - a + 1 - (3 - b) - 0.5 - a, atol=1e-5)
    for wrong in (lambda: x + np.ones((2, 3, 4, 2)), lambda: np.ones(2) * x, lambda: x - "y", lambda: x + [y]):
        with pytest.raises(TypeError, match="symbolic tensor or a number"):
            wrong()


@pytest.mark.parametrize("shared", [None, (1, 2), [1], (1, 2, 3), 3])
def test_prelu_layer(shared, rng):
    x = fc.Input((4, 5, 3))
    prelu = L.PReLU("random_normal", shared_axes=shared)
    model = fc.Model(x, L.Dense(2)(L.Flatten()(prelu(L.Conv2D(3, 1)(x)))))
    axes = () if shared is None else (shared,) if isinstance(shared, int) else shared
    assert prelu.alpha.shape == tuple(1 if i + 1 in axes else n for i, n in enumerate((4, 5, 3)))
    assert_numerical_gradients(model, [rng.standard_normal((3, 4, 5, 3))], rng)
    prelu.trainable = False
    before = prelu.alpha.numpy()
    model.compile("sgd", "mse")
    model.train_on_batch(rng.standard_normal((3, 4, 5, 3)), np.zeros((3, 2)))
    assert_same(prelu.alpha.value, before)


def test_prelu_of_keras_by_hand():
    prelu = L.PReLU("ones", shared_axes=(1,))
    prelu(np.zeros((1, 3), np.float32))
    prelu.set_weights([np.array([0.25], np.float32)])
    assert_same(prelu(np.array([[-4, 0, 8]], np.float32)), np.array([[-1, 0, 8]], np.float32))


def test_configurations_survive_json():
    for make in (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, lambda: L.Concatenate(2)):
        layer = make()
        again = L.deserialize(json.loads(json.dumps(L.serialize(layer))))
        assert type(again) is type(layer) and L.serialize(again) == L.serialize(layer)
        with pytest.raises(TypeError, match=f"{layer.name}: expected a list of two or more"):
            layer(fc.Input((3, 3, 2)))
        with pytest.raises(ValueError, match=f"{layer.name}: expected two"):
            layer([fc.Input((3, 3, 2))])


IMAGE, HALF = (8, 8, 3), (4, 4, 3)
MISTAKES = {
    "shapes": (
        lambda: L.Add(name="sum")([fc.Input(IMAGE, name="skip"), L.Conv2D(3, 3, name="c")(fc.Input(IMAGE))]),
        ["sum: cannot add skip of shape (None, 8, 8, 3) and c of shape (None, 6, 6, 3)", "Conv2D(filters, 1"],
    ),
    "third": (
        lambda: L.Multiply(name="m")([fc.Input(IMAGE), fc.Input((1, 1, 3)), fc.Input(HALF, name="late")]),
        ["m: cannot multiply", "late of shape (None, 4, 4, 3)"],
    ),
    "three": (lambda: L.Subtract(name="s")([fc.Input(IMAGE)] * 3), ["s: expected two inputs, got 3"]),
    "join": (
        lambda: L.Concatenate(name="j")([fc.Input(IMAGE, name="a"), fc.Input(HALF, name="b")]),
        ["j: cannot join a of shape (None, 8, 8, 3) and b of shape (None, 4, 4, 3) along axis -1", "crop"],
    ),
    "join ranks": (lambda: L.Concatenate(name="j")([fc.Input((8, 8)), fc.Input((8,))]), ["j: cannot join"]),
    "batch axis": (
        lambda: L.Concatenate(axis=0, name="j")([fc.Input(IMAGE)] * 2),
        ["j: expected axis to be one of 1 to 3", "got 0"],
    ),
    "axis": (lambda: L.Concatenate(axis=4, name="j")([fc.Input(IMAGE)] * 2), ["j: expected axis", "got 4"]),
    "volumes": (
        lambda: L.Concatenate(axis=2, name="j")([fc.Input((2, 3, 4, 5, 6))] * 2),
        ["j: inputs of shape", "axis=2", "Reshape"],
    ),
    "four axes": (
        lambda: L.Add(name="a")([fc.Input((2, 3, 4, 5)), fc.Input((2, 1, 4, 5))]),
        ["a: with four axes", "(2, 1, 4, 5)", "Reshape"],
    ),
    "shared axes": (
        lambda: L.PReLU(shared_axes=(1, 4), name="p")(fc.Input(IMAGE)),
        ["p: expected an input", "shared_axes (1, 4)", "(None, 8, 8, 3)"],
    ),
    "shared zero": (lambda: L.PReLU(shared_axes=[0], name="p"), ["p: every axis in shared_axes", "0"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    attempt, fragments = MISTAKES[mistake]
    with pytest.raises(ValueError) as caught:
        attempt()
    missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


def test_other_mistakes():
    with pytest.raises(TypeError, match="j: axis must be a whole number"):
        L.Concatenate(axis="channels", name="j")
    prelu = L.PReLU(name="p")
    prelu(fc.Input(IMAGE))
    with pytest.raises(ValueError, match=r"p: its slopes have shape \(8, 8, 3\)"):
        prelu(fc.Input(HALF))
