"""Weight gradients of direct convolutions: however work is cut, and whatever is copied, dw and db are exact."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.geometry import Conv
from fastcnn.kernels import _cpu
from fastcnn.kernels import conv as passes
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.ops._engine import tensor
from tests.check import assert_same, guarded
from tests.conv_problem import SHAPES, Problem, each_shape


@each_shape
@pytest.mark.parametrize("algorithm", ("direct", "im2col"))
@pytest.mark.parametrize("group, chunk", ((1, 1), (2, 1), (2, 2), (3, 2), (100, 1), (100, 100)))
def test_partial_weight_gradients(
    x_shape, w_shape, strides, padding, groups, algorithm, group, chunk, panel_bytes, threads, rng
):
    """One partial sum per group of images, whatever the chunks and threads, and the bias gradient too."""
    p = Problem(x_shape, w_shape, strides, padding, groups, rng)
    parts = -(-p.conv.n // group)
    (dw, check_dw), (db, check_db) = guarded((parts, *w_shape)), guarded((parts, w_shape[3]))
    op = passes.weight_grad(p.conv, tensor(p.x), tensor(p.dy), dw, db, algorithm)
    Program([Stage([op], op.items, group, chunk)]).run()
    check_dw()
    check_db()
    assert_same(dw, [sum(p.dw[i * group : (i + 1) * group]) for i in range(parts)])
    assert_same(db, [p.dy[i * group : (i + 1) * group].sum((0, 1, 2), dtype=float) for i in range(parts)])


@pytest.mark.parametrize("x_shape, w_shape, strides, padding, groups", [s for s in SHAPES if s[4] == 1])
@pytest.mark.parametrize("algorithm", ("direct", "im2col"))
@pytest.mark.parametrize("slice_channels", (1, 4, 7, 1000))
def test_weight_gradient_by_channels(
    x_shape, w_shape, strides, padding, groups, algorithm, slice_channels, panel_bytes, isa, rng
):
    p = Problem(x_shape, w_shape, strides, padding, groups, rng)
    (dw, check_dw), (db, check_db) = guarded((1, *w_shape)), guarded((1, w_shape[3]))
    op = passes.weight_grad(
        p.conv, tensor(p.x), tensor(p.dy), dw, db, algorithm, True, min(slice_channels, p.conv.ic)
    )
    slices, blocks = -(-p.conv.ic // min(slice_channels, p.conv.ic)), -(-p.conv.oc // _cpu.tile_sizes()[2])
    assert op.items == slices * max(1, min(blocks, 16 // slices))
    run_op(op)
    check_dw()
    check_db()
    assert_same(dw[0], sum(p.dw))
    assert_same(db[0], p.dy.sum((0, 1, 2), dtype=float))


@pytest.mark.parametrize("w_shape", ((3, 3, 130, 5), (1, 3, 128, 3), (3, 2, 150, 40)))
@pytest.mark.parametrize("slice_channels", (None, 1, 50))
def test_weight_gradient_slice_by_slice(w_shape, slice_channels, panel_bytes, isa, rng):
    """Items are images; each panel's channels pass in slices, the last one narrower."""
    p = Problem((3, 5, 6, w_shape[2]), w_shape, 1, "same", 1, rng)
    (dw, check_dw), (db, check_db) = guarded((1, *w_shape)), guarded((1, w_shape[3]))
    op = passes.weight_grad(p.conv, tensor(p.x), tensor(p.dy), dw, db, "direct", False, slice_channels)
    assert op.items == 3
    Program([Stage([op], 3, 3)]).run()
    check_dw()
    check_db()
    assert_same(dw[0], sum(p.dw))
    assert_same(db[0], p.dy.sum((0, 1, 2), dtype=float))


COPIED = [
    # n, size, ic, oc, kernel, strides, padding
    (3, 5, 37, 70, (1, 1), 1, "valid"),
    (9, 2, 33, 33, (1, 1), 1, "valid"),
    (2, 7, 61, 32, (1, 1), 2, "valid"),
    (5, 4, 30, 129, (3, 2), 1, "same"),
    (1, 20, 31, 5, (2, 1), 1, "same"),  # more pixels than a panel
]


@pytest.fixture
def copies(monkeypatch):
    """dy is copied, and x in slices, in layers of any width."""
    monkeypatch.setattr(passes, "WIDE_PIXELS", 1)
    monkeypatch.setattr(passes, "COPY_ROWS", 1)


@pytest.mark.parametrize("n, size, ic, oc, kernel, strides, padding", COPIED)
@pytest.mark.parametrize("by_channels", (False, True), ids=("images", "channels"))
@pytest.mark.parametrize("slice_channels, algorithm", ((None, "direct"), (3, "direct"), (3, "im2col")))
def test_copied_gradients(
    n, size, ic, oc, kernel, strides, padding, by_channels, slice_channels, algorithm, copies, panel_bytes, isa, rng
):
    p = Problem((n, size, size, ic), (*kernel, ic, oc), strides, padding, 1, rng)
    (dw, check_dw), (db, check_db) = guarded((1, *kernel, ic, oc)), guarded((1, oc))
    assert passes.copies_gradient(p.conv)
    op = passes.weight_grad(p.conv, tensor(p.x), tensor(p.dy), dw, db, algorithm, by_channels, slice_channels)
    Program([Stage([op], op.items, 1 if by_channels else n)]).run()
    check_dw()
    check_db()
    assert_same(dw[0], sum(p.dw))
    assert_same(db[0], p.dy.sum((0, 1, 2), dtype=float))


@pytest.mark.parametrize("slices, blocks, items", ((37, 32, 16), (37, 2, 8), (2, 32, 16), (1, 2, 2)))
def test_large_gradients_are_cut_in_parts_as_long_as_wide(slices, blocks, items, copies, isa):
    """Each copies its part of x and of dy."""
    _, mr, nr = _cpu.tile_sizes()
    ic, oc = 2 * mr * slices, nr * blocks - 1
    conv = Conv.resolve((2, 2, 2, ic), (1, 1, ic, oc), 1, "valid", 1, 1, "conv")
    x, dy = np.zeros((2, 2, 2, ic), np.float32), np.zeros((2, 2, 2, oc), np.float32)
    op = passes.weight_grad(conv, tensor(x), tensor(dy), np.zeros((1, 1, 1, ic, oc), np.float32), None, "direct", True)
    assert op.items == items


@pytest.mark.parametrize("x_shape, kernel, oc, groups", [
    ((2, 6, 6, 256), (3, 3), 256, 1),  # wide kernels gain nothing
    ((2, 6, 6, 64), (1, 1), 256, 1),  # few rows for each copy
    ((2, 6, 6, 256), (1, 1), 64, 1),  # pixels of two blocks
    ((2, 6, 6, 256), (1, 1), 256, 2),
    ((20, 1, 1, 256), (1, 1), 256, 1),  # a dense layer
])  # fmt: skip
def test_what_is_read_in_place(x_shape, kernel, oc, groups):
    conv = Conv.resolve(x_shape, (*kernel, x_shape[3] // groups, oc), 1, "valid", 1, groups, "conv")
    assert not passes.copies_gradient(conv)
    assert passes.copies_gradient(Conv.resolve((2, 6, 6, 128), (1, 1, 128, 128), 1, "valid", 1, 1, "conv"))


def test_gradients_of_groups_are_not_copied(rng):
    p = Problem((2, 3, 3, 4), (1, 1, 2, 6), 1, "valid", 2, rng)
    with pytest.raises(ValueError, match="of several groups is read in place"):
        passes.weight_grad(p.conv, tensor(p.x), tensor(p.dy), np.zeros((1, 1, 1, 2, 6), np.float32), None, "direct",
                           copied=True)
