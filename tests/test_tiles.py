"""The convolution drivers and the tiles under them: every tile size, every way to cut the work.

Outputs start as NaN inside guard bands, so that a value not written, and a write that strays, both show.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.geometry import Conv
from fastcnn.kernels import _cpu, _panels
from fastcnn.kernels import conv as passes
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._gather import Gather, PackWeights, Weights
from fastcnn.kernels._op import Tensor
from fastcnn.kernels._panels import Panel
from fastcnn.kernels._weight_grad import WeightGrad
from fastcnn.ops._engine import tensor
from tests.check import assert_same, guarded, poison, small_ints
from tests.conv_problem import Problem, each_shape


def sizes_to(largest):
    """1 to one more than a tile, and around two and three tiles."""
    return [*range(1, largest + 2), 2 * largest - 1, 2 * largest, 2 * largest + 1, 3 * largest + 1]


def packed(make):
    """Weights whose packed form is filled in, with NaN where nothing belongs."""
    memory, check = guarded((make(None).packed_size,))
    weights = make(memory)
    run_op(PackWeights(weights))
    check()
    return weights


def gather(x, w, b=None, use_packed=False, **options):
    """A row of pixels times a matrix: y (pixels, outputs), from guarded memory."""
    make = lambda memory: Weights(w[None, None], [(0, 0)], packed=memory)  # noqa: E731
    weights = packed(make) if use_packed else make(None)
    y, check = guarded((1, 1, len(x), w.shape[1]))
    panel = Panel(tensor(x[None, None]), (1, len(x)), (1, 1), (0, 0), [(0, 0)], x.shape[1])
    run_op(Gather(panel, weights, tensor(y), b, **options))
    check()
    return y[0, 0]


# ---- every tile


@pytest.mark.parametrize("use_packed", (False, True), ids=("in place", "packed"))
def test_gather_tile_of_every_size(use_packed, isa, rng):
    _, mr, nr = _cpu.tile_sizes()
    x, w, b = (
        small_ints(rng, (3 * mr + 1, 5)),
        small_ints(rng, (5, 3 * nr + 1)),
        small_ints(rng, (3 * nr + 1,)),
    )
    want = x.astype(float) @ w + b
    for n in sizes_to(nr):
        columns = np.ascontiguousarray(w[:, :n])
        for m in sizes_to(mr):
            assert_same(gather(x[:m], columns, b[:n], use_packed), want[:m, :n])


def test_gather_tile_of_pixels_apart(isa, rng):
    """Tiles that span rows of the image, of which two of three columns are wanted: uneven steps from pixel to
    pixel, in x and in y."""
    _, mr, nr = _cpu.tile_sizes()
    for m in sizes_to(mr):
        x, w = small_ints(rng, (1, m, 3, 4)), small_ints(rng, (1, 1, 4, nr + 1))
        y, check = guarded((1, m, 3, nr + 1))
        panel = Panel(tensor(x), (m, 2), (1, 1), (0, 0), [(0, 0)], 4)
        run_op(Gather(panel, Weights(w, [(0, 0)]), tensor(y), y_origin=(0, 1)))
        check()
        assert_same(y[0, :, 1:], x[0, :, :2].astype(float) @ w[0, 0])
        assert np.isnan(y[0, :, 0]).all()


@pytest.mark.parametrize("depth", (0, 1, 2, 3, 7, 64, 1000))
def test_gather_tile_of_every_depth(depth, isa, rng):
    x, w = small_ints(rng, (15, depth)), small_ints(rng, (depth, 33))
    assert_same(gather(x, w), x.astype(float) @ w)
    assert_same(gather(x, w, by_channels=True), x.astype(float) @ w)


@pytest.mark.parametrize("transposed", (False, True), ids=("forward", "transposed"))
def test_dot_tile_of_every_size(transposed, isa, rng):
    """Few output channels: lanes are input channels, of which the last vector is partly filled."""
    vlen = _cpu.tile_sizes()[0]
    taps = [(0, 0), (1, 2), (2, 1)]
    for outputs in range(1, vlen // 2 + 1):
        for inner in (vlen, vlen + 1, 2 * vlen - 1, 3 * vlen):
            x = small_ints(rng, (2, 4, 15, inner))
            w, b = small_ints(rng, (3, 3, inner, outputs)), small_ints(rng, (outputs,))
            memory = np.ascontiguousarray(w.swapaxes(2, 3)) if transposed else w
            weights = packed(lambda m, a=memory: Weights(a, taps, transposed=transposed, packed=m))
            y, check = guarded((2, 2, 13, outputs))
            panel = Panel(tensor(x), (2, 13), (1, 1), (0, 0), taps, inner)
            run_op(Gather(panel, weights, tensor(y), b, clamp=(-50, 60)))
            check()
            seen = sum(x[:, r : r + 2, c : c + 13].astype(float) @ w[r, c] for r, c in taps)
            assert_same(y, np.clip(seen + b, -50, 60))


def test_dot_tile_reads_only_its_channels(isa):
    """NaN beside the channels, in padding of the vectors, never enters a sum."""
    vlen = _cpu.tile_sizes()[0]
    x = np.full((1, 1, 9, vlen + 3), np.nan, np.float32)
    x[..., : vlen + 1] = 1
    weights = packed(lambda m: Weights(np.ones((1, 1, vlen + 1, 2), np.float32), [(0, 0)], packed=m))
    y = np.full((1, 1, 9, 2), np.nan, np.float32)
    run_op(Gather(Panel(tensor(x), (1, 9), (1, 1), (0, 0), [(0, 0)], vlen + 1), weights, tensor(y)))
    assert (y == vlen + 1).all()


def test_gather_clamps_and_keeps_nan(isa, rng):
    _, mr, nr = _cpu.tile_sizes()
    x, w = small_ints(rng, (mr + 1, 4)), small_ints(rng, (4, nr + 1))
    x[1, 2] = np.nan
    x[2, :] = [np.inf, 0, 0, 0]
    w[0] = np.where(w[0] < 0, -1, 1)
    with np.errstate(invalid="ignore"):
        product = x.astype(float) @ w
    for clamp in ((0, np.inf), (0, 6), (-3, 5), (-np.inf, np.inf)):
        assert_same(gather(x, w, clamp=clamp), np.where(np.isnan(product), np.nan, np.clip(product, *clamp)))


@pytest.mark.parametrize("chunk", (1, 3), ids=("accumulate", "overwrite"))
def test_outer_tile_and_column_sums_of_every_size(chunk, isa, rng):
    """dw = x' dy and db = 1' dy; in chunks of one image, tiles add to what the image before left."""
    _, mr, nr = _cpu.tile_sizes()
    x, dy = small_ints(rng, (3, 1, 2, 3 * mr + 1)), small_ints(rng, (3, 1, 2, 3 * nr + 1))
    want = np.einsum("nhwi,nhwo->io", x.astype(float), dy)
    for n in sizes_to(nr):
        dy_n = np.ascontiguousarray(dy[..., :n])
        for m in sizes_to(mr):
            (dw, check_dw), (db, check_db) = guarded((1, 1, 1, m, n)), guarded((1, n))
            panel = Panel(tensor(np.ascontiguousarray(x[..., :m])), (1, 2), (1, 1), (0, 0), [(0, 0)], m)
            op = WeightGrad(panel, tensor(dy_n), dw, db)
            Program([Stage([op], 3, 3, chunk)]).run()
            check_dw()
            check_db()
            assert_same(dw[0, 0, 0], want[:m, :n])
            assert_same(db[0], dy_n.sum((0, 1, 2), dtype=float))


def test_outer_tile_of_rows_apart(isa, rng):
    """Rows of dw whose x are not neighbours: one channel, taps two pixels apart."""
    _, mr, nr = _cpu.tile_sizes()
    x, dy = small_ints(rng, (1, 1, 6 * mr + 9, 1)), small_ints(rng, (1, 1, 5, nr + 1))
    for m in sizes_to(mr):
        dw, check = guarded((1, 1, m, 1, nr + 1))
        taps = [(0, 2 * k) for k in range(m)]
        run_op(WeightGrad(Panel(tensor(x), (1, 5), (1, 1), (0, 0), taps, 1), tensor(dy), dw))
        check()
        seen = np.stack([x[0, 0, 2 * k : 2 * k + 5, 0] for k in range(m)])
        assert_same(dw[0, 0, :, 0], seen.astype(float) @ dy[0, 0])


@pytest.mark.parametrize("pixels", (1, 2, 3, 63, 64, 1000))
def test_outer_tile_of_every_number_of_pixels(pixels, isa, rng):
    _, mr, nr = _cpu.tile_sizes()
    x, dy = small_ints(rng, (1, 1, pixels, mr + 1)), small_ints(rng, (1, 1, pixels, nr + 1))
    dw, check = guarded((1, 1, 1, mr + 1, nr + 1))
    run_op(WeightGrad(Panel(tensor(x), (1, pixels), (1, 1), (0, 0), [(0, 0)], mr + 1), tensor(dy), dw))
    check()
    assert_same(dw[0, 0, 0], x[0, 0].astype(float).T @ dy[0, 0])


@pytest.mark.parametrize("groups", (1, 2))
def test_packing_of_every_size(groups, isa, rng):
    """Blocks of columns, depth by depth; columns beyond the last are not written. Both orders of channels.

    Few columns of many rows lie vector by vector of rows instead.
    """
    vlen, _, nr = _cpu.tile_sizes()
    taps = [(1, 0), (0, 1)]

    def layout(matrices, inner, outputs):
        return cut_lanes(matrices, inner, vlen, nr) if 2 * outputs <= vlen <= inner else cut(matrices, nr)

    for inner in (1, 2, vlen - 1, vlen, vlen + 1, 2 * vlen + 3):
        for outputs in (1, 2, vlen - 1, vlen, vlen + 1, nr - 1, nr, nr + 1, 2 * nr + 1):
            w = small_ints(rng, (2, 2, inner, groups * outputs))
            rows = np.stack([w[tap] for tap in taps])  # (taps, inner, groups * outputs)
            straight = rows.reshape(2 * inner, groups, outputs).transpose(1, 0, 2)
            assert_same(blocks_of(w, taps, groups, False), layout(straight, inner, outputs))
            w = small_ints(rng, (2, 2, outputs, groups * inner))
            rows = np.stack([w[tap] for tap in taps])  # (taps, outputs, groups * inner)
            turned = (
                rows.reshape(2, outputs, groups, inner)
                .transpose(2, 0, 3, 1)
                .reshape(groups, 2 * inner, outputs)
            )
            assert_same(blocks_of(w, taps, groups, True), layout(turned, inner, outputs))


def blocks_of(w, taps, groups, transposed):
    memory, check = guarded((Weights(w, taps, groups, transposed).packed_size,))
    run_op(PackWeights(Weights(w, taps, groups, transposed, packed=memory)))
    check()
    return memory


def cut_lanes(matrices, inner, vlen, nr):
    """(groups, taps * inner, outputs) as [group][tap][vector][output][vlen], NaN where the group's memory goes on."""
    groups, depth, outputs = matrices.shape
    vectors = -(-inner // vlen)
    lanes = np.zeros((groups, depth // inner, vectors * vlen, outputs))
    lanes[:, :, :inner] = matrices.reshape(groups, -1, inner, outputs)
    lanes = lanes.reshape(groups, -1, vectors, vlen, outputs).swapaxes(3, 4).reshape(groups, -1)
    result = np.full((groups, depth * nr), np.nan)
    result[:, : lanes.shape[1]] = lanes
    return result.ravel()


def cut(matrices, nr):
    """(groups, depth, outputs) as flat [group][block][depth][nr], NaN in the missing columns."""
    groups, depth, outputs = matrices.shape
    blocks = -(-outputs // nr)
    result = np.full((groups, depth, blocks * nr), np.nan)
    result[..., :outputs] = matrices
    return result.reshape(groups, depth, blocks, nr).transpose(0, 2, 1, 3).ravel()


# ---- halos: zeros around images, read where they lie


def haloed(a, halo, outside=np.nan):
    """A Tensor of a copy of `a` with a halo of zeros, inside memory that is `outside` everywhere else."""
    (top, bottom), (left, right) = halo
    n, h, w, c = a.shape
    memory = np.full((n, 1 + top + h + bottom + 1, left + w + right, c), outside, np.float32)
    memory[:, 1:-1] = 0
    view = memory[:, 1 + top : 1 + top + h, left : left + w]
    view[...] = a
    return Tensor(a.shape, view, halo), view, memory


HALOS = [
    # x, w, strides, padding, dilation, groups
    ((2, 5, 6, 3), (3, 3, 3, 17), 1, "same", 1, 1),
    ((2, 5, 6, 3), (3, 2, 3, 9), (2, 1), ((2, 1), (0, 3)), 1, 1),
    ((3, 7, 4, 4), (3, 3, 2, 6), 2, "same", 1, 2),
    ((2, 6, 6, 5), (3, 3, 5, 4), 1, "same", 2, 1),
]


@pytest.mark.parametrize("x_shape, w_shape, strides, padding, dilation, groups", HALOS)
def test_haloed_tensors_are_read_in_place(x_shape, w_shape, strides, padding, dilation, groups, isa, rng):
    conv = Conv.resolve(x_shape, w_shape, strides, padding, dilation, groups, "conv")
    x, w, dy = small_ints(rng, x_shape), small_ints(rng, w_shape), small_ints(rng, conv.y_shape)
    words = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    window = conv.window
    x_tensor, _, _ = haloed(x, window.pads)
    taps = [(r * window.dh, s * window.dw) for r in range(window.kh) for s in range(window.kw)]
    panel = Panel(
        x_tensor,
        (window.oh, window.ow),
        (window.sh, window.sw),
        (window.top, window.left),
        taps,
        conv.ic // groups,
    )
    assert panel.mode == "in place"

    weights = packed(lambda memory: passes.forward_weights(conv, w, memory))
    y_tensor, y, y_memory = haloed(np.full(conv.y_shape, np.nan, np.float32), ((1, 2), (3, 1)), 7)
    run_op(Gather(panel, weights, y_tensor))
    assert_same(y, reference.conv2d(x, w, **words))
    assert_border(y_memory, y, ((1, 2), (3, 1)))

    dw, check = guarded((1, *w_shape))
    Program([Stage([WeightGrad(panel, tensor(dy), dw, None, groups)], conv.n, conv.n)]).run()
    check()
    assert_same(dw[0], reference.conv2d_weight_grad(x, dy, w_shape[:2], **words))

    dy_tensor, _, _ = haloed(dy, ((6, 6), (6, 6)))
    dx_tensor, dx, dx_memory = haloed(np.full(x_shape, np.nan, np.float32), ((2, 0), (1, 1)), 7)
    for phase in passes.phases(conv):
        phase_weights = packed(lambda memory, p=phase: passes.input_grad_weights(conv, p, w, memory))
        run_op(passes.input_grad(conv, phase, dy_tensor, phase_weights, dx_tensor, "direct"))
    assert_same(dx, reference.conv2d_input_grad(dy, w, x_shape, **words))
    assert_border(dx_memory, dx, ((2, 0), (1, 1)))


def assert_border(memory, view, halo):
    """Around the pixels nothing was written: zeros in the halo, sevens beyond."""
    (top, bottom), (left, right) = halo
    n, h, w, c = view.shape
    want = np.full(memory.shape, 7.0)
    want[:, 1:-1] = 0
    want[:, 1 + top : 1 + top + h, left : left + w] = view
    assert_same(memory, want)


def test_too_small_a_halo_is_not_read():
    x, _, _ = haloed(np.zeros((1, 4, 4, 2), np.float32), ((1, 0), (1, 1)))
    taps = [(r, s) for r in range(3) for s in range(3)]
    assert Panel(x, (4, 4), (1, 1), (1, 1), taps, 2).mode == "padded"
    assert Panel(x, (3, 4), (1, 1), (1, 1), taps, 2).mode == "in place"


# ---- ways to cut the work

@each_shape
@pytest.mark.parametrize("algorithm", ("direct", "im2col"))
@pytest.mark.parametrize("options", ({}, {"bands": 2}, {"bands": 5}, {"by_channels": True}), ids=str)
def test_forward_however_it_is_cut(
    x_shape, w_shape, strides, padding, groups, algorithm, options, panel_bytes, rng
):
    p = Problem(x_shape, w_shape, strides, padding, groups, rng)
    for use_packed in (False, True):
        make = lambda memory: passes.forward_weights(p.conv, p.w, memory)  # noqa: E731
        weights = packed(make) if use_packed else make(None)
        for group, chunk in ((1, 1), (3, 2), (100, 100)):
            y, check = guarded(p.conv.y_shape)
            op = passes.forward(p.conv, tensor(p.x), weights, tensor(y), p.b, algorithm, **options)
            Program([Stage([op], op.items, group, chunk)]).run()
            check()
            assert_same(y, p.y)


@each_shape
@pytest.mark.parametrize("algorithm", ("direct", "im2col"))
@pytest.mark.parametrize("options", ({}, {"bands": 3}, {"by_channels": True}), ids=str)
def test_input_gradient_however_it_is_cut(
    x_shape, w_shape, strides, padding, groups, algorithm, options, panel_bytes, rng
):
    """Each phase of the stride writes its own pixels only; with `by_channels` weights pack on the fly."""
    p = Problem(x_shape, w_shape, strides, padding, groups, rng)
    for use_packed in (True, False) if options.get("by_channels") else (True,):
        dx, check = guarded(p.conv.x_shape)
        written = np.zeros(dx.shape, bool)
        for phase in passes.phases(p.conv):
            make = lambda memory, f=phase: passes.input_grad_weights(p.conv, f, p.w, memory)  # noqa: E731
            weights = packed(make) if use_packed else make(None)
            op = passes.input_grad(p.conv, phase, tensor(p.dy), weights, tensor(dx), algorithm, **options)
            Program([Stage([op], op.items, 2)]).run()
            check()
            written[:, phase.row :: p.conv.window.sh, phase.col :: p.conv.window.sw] = True
            assert_same(np.isnan(dx), ~written)
        assert written.all()
        assert_same(dx, p.dx)


def test_weights_larger_than_the_input_are_read_once(monkeypatch, isa, rng):
    """Large ones, of a pass that keeps its result; huge ones always. Items are then blocks of channels, not images."""
    p = Problem((3, 2, 2, 60), (3, 3, 60, 70), 1, "same", 1, rng)  # 151,200 bytes of weights, 2,880 and 3,360 beside
    (phase,), nr = passes.phases(p.conv), _cpu.tile_sizes()[2]
    weights = packed(lambda memory: passes.forward_weights(p.conv, p.w, memory))
    back = packed(lambda memory: passes.input_grad_weights(p.conv, phase, p.w, memory))

    def items(large, huge):
        monkeypatch.setattr(passes, "LARGE_WEIGHTS", large)
        monkeypatch.setattr(passes, "HUGE_WEIGHTS", huge)
        (y, check), (dx, check_dx) = guarded(p.conv.y_shape), guarded(p.conv.x_shape)
        ops = (passes.forward(p.conv, tensor(p.x), weights, tensor(y), p.b, "direct"),
               passes.input_grad(p.conv, phase, tensor(p.dy), back, tensor(dx), "direct"))
        for op in ops:
            run_op(op)
        check()
        check_dx()
        assert_same(y, p.y)
        assert_same(dx, p.dx)
        return [op.items for op in ops]

    by_images, by_channels = [3, 3], [-(-70 // nr), -(-60 // nr)]
    assert items(200_000, 10**9) == by_images
    assert items(100_000, 10**9) == items(1000, 2000) == by_channels
    monkeypatch.setattr(passes, "HUGE_WEIGHTS", 10**9)
    assert not passes.reads_weights_once(p.conv, 151_200) and passes.reads_weights_once(p.conv, 151_199)


@pytest.mark.parametrize("n", (1, 127, 128, 1100))
@pytest.mark.parametrize("ic, oc", ((7, 5), (5, 70), (700, 5), (300, 1100)))
def test_dense_batches_are_split(n, ic, oc, threads, rng):
    """Large batches are cut into shares of the images as well as into blocks of outputs."""
    x, w, b = small_ints(rng, (n, ic)), small_ints(rng, (ic, oc)), small_ints(rng, (oc,))
    want = x.astype(float) @ w + b
    assert_same(gather(x, w, b, by_channels=True), want)
    conv = Conv.resolve((n, 1, 1, ic), (1, 1, ic, oc), 1, "valid", 1, 1, "conv")
    (y, check), shape = guarded((n, oc)), (n, 1, 1)
    op = passes.forward(
        conv,
        Tensor((*shape, ic), x),
        passes.forward_weights(conv, w[None, None]),
        Tensor((*shape, oc), y),
        b,
        "direct",
        by_channels=True,
    )
    run_op(op)
    check()
    assert_same(y, want)


# ---- max-pooling in the same pass

POOLED = [
    # x, w, strides, padding, pool
    ((3, 8, 8, 5), (3, 3, 5, 20), 1, "same", (2, 2)),
    ((2, 9, 11, 4), (3, 3, 4, 37), 1, "same", (2, 2)),  # a row and a column are left over
    ((2, 12, 9, 3), (2, 3, 3, 6), (1, 2), "valid", (3, 2)),
    ((1, 30, 16, 8), (3, 3, 8, 8), 1, "same", (2, 4)),
    ((1, 6, 6, 2), (1, 1, 2, 3), 1, "valid", (6, 6)),
    ((0, 8, 8, 5), (3, 3, 5, 20), 1, "same", (2, 2)),
]


@pytest.mark.parametrize("x_shape, w_shape, strides, padding, pool", POOLED)
@pytest.mark.parametrize("algorithm", ("direct", "im2col"))
@pytest.mark.parametrize("relu", (False, True), ids=("plain", "relu"))
def test_pooled_convolution(x_shape, w_shape, strides, padding, pool, algorithm, relu, panel_bytes, isa, rng):
    conv = Conv.resolve(x_shape, w_shape, strides, padding, 1, 1, "conv")
    x, w, b = small_ints(rng, x_shape), small_ints(rng, w_shape), small_ints(rng, w_shape[3:])
    full = reference.conv2d(x, w, b, strides=strides, padding=padding)
    want, position = reference.max_pool2d(full, pool, return_indices=True)
    y_tensor, y, y_memory = haloed(np.full(want.shape, np.nan, np.float32), ((1, 0), (0, 1)), 7)
    arg, check = guarded(want.shape, 77, np.uint8)
    weights = packed(lambda memory: passes.forward_weights(conv, w, memory))
    for taps in (None, arg):
        run_op(
            passes.forward(
                conv, tensor(x), weights, y_tensor, b, algorithm, pool=pool, arg=taps, pool_relu=relu
            )
        )
        assert_same(y, np.maximum(want, 0) if relu else want)
        assert_border(y_memory, y, ((1, 0), (0, 1)))
    check()
    row, column = np.divmod(position, full.shape[2])
    tap = row % pool[0] * pool[1] + column % pool[1]
    assert_same(arg, np.where((want <= 0) & relu, 255, tap).astype(np.uint8))


def pooled_reference(full, relu):
    """(maxima, their taps) of 2 x 2 windows of an array (n, h, w, c): the first of equals, the first NaN."""
    n, h, w, c = full.shape
    windows = full[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(*windows.shape[:4], 4)
    tap = np.where(np.isnan(windows), np.inf, windows).argmax(-1)
    best = np.take_along_axis(windows, tap[..., None], -1)[..., 0]
    closed = relu & (best <= 0)
    return np.where(closed, 0, best), np.where(closed, 255, tap).astype(np.uint8)


@pytest.mark.parametrize("outputs", (1, 6, 15, 16, 17, 32, 33, 64))
@pytest.mark.parametrize("channels, kernel", ((1, 3), (3, 3), (2, 1), (20, 3)))
@pytest.mark.parametrize("relu", (False, True), ids=("plain", "relu"))
def test_tiles_of_pooling_windows(outputs, channels, kernel, relu, isa, rng):
    """Any number of windows in a tile; equal taps, NaN in the first and in later taps; arg or none, bias or none."""
    for h, w in ((2, 2), (2, 4), (4, 6), (5, 7), (9, 11), (6, 17)):
        x = rng.integers(-1, 2, (2, h, w, channels)).astype(np.float32)
        weights, b = small_ints(rng, (kernel, kernel, channels, outputs)), small_ints(rng, (outputs,))
        weights[weights == 0] = 1  # the reference may skip 0 * NaN
        x[0, 0, 0, 0] = x[1, 1, w // 2, -1] = np.nan
        conv = Conv.resolve(x.shape, weights.shape, 1, "same", 1, 1, "conv")
        for bias, with_arg in ((b, True), (None, True), (b, False)):
            want, tap = pooled_reference(reference.conv2d(x, weights, bias, padding="same"), relu)
            y_tensor, y, y_memory = haloed(np.full(want.shape, np.nan, np.float32), ((0, 1), (1, 0)), 7)
            arg, check = guarded(want.shape, 77, np.uint8)
            run_op(
                passes.forward(
                    conv, tensor(x), passes.forward_weights(conv, weights), y_tensor, bias, "direct",
                    pool=(2, 2), arg=arg if with_arg else None, pool_relu=relu,
                )
            )
            assert_same(y, want)
            assert_border(y_memory, y, ((0, 1), (1, 0)))
            check()
            assert_same(arg, tap if with_arg else np.full_like(tap, 77))


@pytest.mark.parametrize("group, chunk", ((1, 1), (2, 1), (3, 2), (5, 5)))
def test_pooled_bits_do_not_depend_on_the_cut(group, chunk, panel_bytes, threads, isa, rng):
    """Not integers: other tiles, panels, chunks and threads add the same products in the same order."""
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((5, 13, 22, 3), (3, 3, 3, 33), (33,)))
    conv = Conv.resolve(x.shape, w.shape, 1, "same", 1, 1, "conv")
    y, check = guarded(conv.y_shape)
    run_op(passes.forward(conv, tensor(x), passes.forward_weights(conv, w), tensor(y), b, "direct"))
    want, tap = pooled_reference(y, True)
    (pooled, check), (arg, check_arg) = guarded(want.shape), guarded(want.shape, 77, np.uint8)
    op = passes.forward(conv, tensor(x), passes.forward_weights(conv, w), tensor(pooled), b, "direct",
                        pool=(2, 2), arg=arg, pool_relu=True)  # fmt: skip
    Program([Stage([op], op.items, group, chunk)]).run()
    check()
    check_arg()
    assert_same(pooled, want)
    assert_same(arg, tap)


def test_scratch_may_hold_garbage(rng):
    """Scratch is left as the run before left it: NaN everywhere must not matter to the next run."""
    p = Problem((2, 6, 7, 9), (3, 3, 9, 20), 1, "same", 1, rng)
    x = p.x.copy()
    weights = passes.forward_weights(p.conv, p.w)
    for algorithm in ("direct", "im2col"):
        y, _ = guarded(p.conv.y_shape)
        op = passes.forward(p.conv, tensor(x), weights, tensor(y), p.b, algorithm)
        program = Program([Stage([op], op.items)])
        poison(x)
        program.run()
        x[...] = p.x
        program.run()
        assert_same(y, p.y)


# ---- what does not fit together is refused before C sees it


def test_mistakes_are_refused():
    x, w = np.zeros((1, 4, 4, 3), np.float32), np.zeros((3, 3, 3, 5), np.float32)
    y, taps = np.zeros((1, 2, 2, 5), np.float32), [(r, s) for r in range(3) for s in range(3)]
    panel = Panel(tensor(x), (2, 2), (1, 1), (0, 0), taps, 3)
    with pytest.raises(ValueError, match="do not fit together"):
        Gather(panel, Weights(w, taps[:4]), tensor(y))
    with pytest.raises(ValueError, match="do not fit together"):
        Gather(panel, Weights(w, taps), tensor(np.zeros((1, 2, 2, 4), np.float32)))
    with pytest.raises(ValueError, match="bias must be 5"):
        Gather(panel, Weights(w, taps), tensor(y), np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="must be packed"):
        back = Panel(tensor(y), (4, 4), (1, 1), (2, 2), taps, 5)
        Gather(back, Weights(w, taps, transposed=True), tensor(x))
    with pytest.raises(ValueError, match="contiguous float32"):
        Weights(w.astype(float), taps)
    with pytest.raises(ValueError, match="packed floats"):
        Weights(w, taps, packed=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="no packed form"):
        PackWeights(Weights(w, taps))
    with pytest.raises(ValueError, match="do not fit together"):
        WeightGrad(panel, tensor(y), np.zeros((1, 2, 2, 3, 5), np.float32))
    with pytest.raises(ValueError, match="bias gradient of shape"):
        WeightGrad(panel, tensor(y), np.zeros((1, 3, 3, 3, 5), np.float32), np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="contiguous float32"):
        WeightGrad(panel, tensor(y), np.zeros((1, 3, 3, 3, 5)))
    with pytest.raises(ValueError, match="covers 3 channels"):
        WeightGrad(
            panel,
            tensor(y),
            np.zeros((1, 3, 3, 2, 5), np.float32),
        )
    pooled, pixel = np.zeros((1, 1, 1, 5), np.float32), Weights(w, taps)
    for options in ({"bands": 2}, {"by_channels": True}):
        with pytest.raises(ValueError, match="pooled output do not fit"):
            Gather(panel, pixel, tensor(pooled), pool=(2, 2), **options)
    with pytest.raises(ValueError, match="pooled output do not fit"):
        Gather(panel, pixel, tensor(pooled), pool=(1, 2))
    with pytest.raises(ValueError, match="arg must be contiguous uint8"):
        Gather(panel, pixel, tensor(pooled), pool=(2, 2), arg=np.zeros((1, 1, 1, 5), np.int32))
    with pytest.raises(ValueError, match=r"2\*\*31 floats"):
        _panels.grid_offsets(2, 3, 4, 2**31 - 10, 4, 1)
