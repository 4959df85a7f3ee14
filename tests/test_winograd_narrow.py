"""Narrow tiles of Winograd's convolution: at the edge of a map, tiles of four have no more points than they need.

That all passes are right with them, for maps of every size, is tested in test_winograd.py; here, that they save what
they should, that nothing else is read, and how large their errors are.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import ops, reference
from fastcnn.kernels import winograd
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._winograd_tiles import points_along
from fastcnn.kernels._winograd_weights import PackWinograd
from tests.check import guarded, poison
from tests.test_winograd import (
    Problem,
    adjoint,
    conv_of,
    forward,
    gradients,
    input_grad,
    packed,
    rms,
    run,
    tensor,
    weight_grad,
)


def points_of_tiles(length):
    """Of the tiles along a line of outputs."""
    return [min(4, length - at) + 2 for at in range(0, length, 4)]


def test_points_along_a_line():
    assert [points_along(n, 4) for n in range(10)] == [0, 3, 4, 5, 6, 9, 10, 11, 12, 15]
    assert [points_along(n, 2) for n in range(6)] == [0, 4, 4, 8, 8, 12]
    for n in range(1, 40):
        assert points_along(n, 4) == sum(points_of_tiles(n))


@pytest.mark.parametrize("size", [(4, 4), (5, 6), (6, 5), (7, 9), (3, 2), (1, 10), (14, 14)])
def test_every_point_reaches_the_tiles_that_have_it_and_no_others(size, isa, rng):
    """Weights that are NaN at one point spoil exactly these tiles, in blocks of one and of several images."""
    p = Problem(rng, (3, *size, 5), 4)  # one block of outputs
    memory = np.zeros(winograd.forward_weights(p.conv, 4, p.w).packed_size, np.float32)
    weights = winograd.forward_weights(p.conv, 4, p.w, memory)
    run_op(PackWinograd(weights))
    points = memory.reshape(36, -1)
    down, across = map(points_of_tiles, size)
    for i in range(6):
        for j in range(6):
            kept = points[6 * i + j].copy()
            points[6 * i + j] = np.nan
            for group in (1, 3):
                y = np.zeros(p.conv.y_shape, np.float32)
                run(winograd.forward(p.conv, 4, tensor(p.x), weights, tensor(y), p.b), group)
                spoilt = np.isnan(y).any(-1)
                for row, lines in enumerate(down):
                    for col, line in enumerate(across):
                        tile = spoilt[:, 4 * row:4 * row + 4, 4 * col:4 * col + 4]
                        assert (tile.any((1, 2)) == (i < lines and j < line)).all()
            points[6 * i + j] = kept


def test_scratch_may_hold_garbage_where_points_are_missing(isa, rng):
    """The first run, of NaN, leaves it all over the memory of the second."""
    p = Problem(rng, (2, 7, 9, 9), 20)
    x, dy = p.x.copy(), p.dy.copy()
    (y, _), (dx, _), (dw, _), (db, _) = map(guarded, (p.conv.y_shape, p.conv.x_shape, (1, *p.conv.w_shape), (1, 20)))
    weights = packed(lambda memory: winograd.forward_weights(p.conv, 4, p.w, memory))
    adjoint_weights = packed(lambda memory: winograd.adjoint_weights(p.conv, 4, p.w, memory))
    programs = [Program([Stage([op], op.items, 2)]) for op in (
        winograd.forward(p.conv, 4, tensor(x), weights, tensor(y), p.b),
        winograd.weight_grad(p.conv, 4, tensor(x), tensor(dy), dw, db, dx=tensor(dx), weights=adjoint_weights))]
    for array in (x, dy):
        poison(array)
    for program in programs:
        program.run()
    x[...], dy[...] = p.x, p.dy
    for program in programs:
        program.run()
    p.check(4, y, dx, (dw[0], db[0]))


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (6, 6), (7, 7), (13, 14)])
def test_errors_beside_those_of_direct(size, isa, rng):
    """The bounds are those of other tiles (measured: up to 3.6, and 4.8 for weight gradients)."""
    shape, oc = (16, *size, 32), 24
    x, w = rng.standard_normal(shape).astype(np.float32), rng.standard_normal((3, 3, 32, oc)).astype(np.float32)
    conv, words = conv_of(x, w), {"padding": "same"}
    dy = rng.standard_normal(conv.y_shape).astype(np.float32)
    direct = {"padding": "same", "algorithm": "direct"}
    dx = ops.conv2d_input_grad(dy, w, x.shape, **direct), reference.conv2d_input_grad(dy, w, x.shape, **words)
    for got, (plain, want), times in (
        (forward(conv, 4, x, w), (ops.conv2d(x, w, **direct), reference.conv2d(x, w, **words)), 4),
        (input_grad(conv, 4, dy, w), dx, 4),
        (adjoint(conv, 4, dy, w), dx, 4),
        (gradients(conv, 4, x, dy, w)[0], dx, 4),
        (weight_grad(conv, 4, x, dy, group=1)[0], (ops.conv2d_weight_grad(x, dy, 3, **direct),
                                                   reference.conv2d_weight_grad(x, dy, 3, **words)), 6),
    ):
        assert rms(got - want) <= times * rms(plain - want)


def test_bits_of_passes_do_not_depend_on_cuts(isa, threads, rng):
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((7, 13, 14, 20), (3, 3, 20, 40)))
    conv = conv_of(x, w)
    dy = rng.standard_normal(conv.y_shape).astype(np.float32)
    want = [a.tobytes() for a in (forward(conv, 4, x, w, group=7), adjoint(conv, 4, dy, w, group=7))]
    for group in (1, 3):
        for options in ({}, {"by_blocks": True}):
            got = forward(conv, 4, x, w, group=group, **options), adjoint(conv, 4, dy, w, group=group, **options)
            assert [a.tobytes() for a in got] == want
    parts = [weight_grad(conv, 4, x, dy, 7, chunk)[0].tobytes() for chunk in (None, 7)]
    assert parts[0] == parts[1]
