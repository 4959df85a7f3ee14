"""Winograd's convolution of whole maps: images of 2 x 2 pixels with zeros around take nine points, not sixteen.

All passes are exact on small integers, as with other tiles of two, however work is cut. For real data the root mean
square of the errors may be 1.5 times that of direct, of weight gradients twice (measured: 1.1 and 1.5).
"""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import ops, reference
from fastcnn.geometry import Conv
from fastcnn.kernels import _winograd_conv, _winograd_grad, _winograd_tiles, winograd
from fastcnn.kernels._winograd_conv import WinogradAdjoint, WinogradConv
from fastcnn.kernels._winograd_grad import WinogradGradients
from fastcnn.kernels._winograd_tiles import Tiles
from fastcnn.kernels._winograd_weights import WinogradWeights
from tests.check import small_ints
from tests.test_winograd import Problem, adjoint, forward, gradients, input_grad, rms, tensor, weight_grad


def test_which_convolutions_are_of_whole_maps():
    def points(size, padding="same", m=2):
        conv = Conv.resolve((4, *size, 16), (3, 3, 16, 16), 1, padding, 1, 1, "test")
        return winograd.points(conv, m)

    assert points((2, 2)) == points((2, 2), 1) == 9
    assert points((2, 2), m=4) == 36
    for size, padding in (((2, 3), "same"), ((3, 2), "same"), ((4, 4), "valid"), ((2, 2), ((0, 2), (1, 1))),
                          ((2, 2), ((1, 1), (2, 0))), ((2, 2), 2)):
        assert points(size, padding) == 16


@pytest.mark.parametrize("ic, oc", [(1, 1), (5, 40), (17, 33), (64, 31), (65, 130)])
def test_every_pass(ic, oc, isa, threads, rng):
    for n in (1, 3, 40):
        p = Problem(rng, (n, 2, 2, ic), oc)
        for pack in (True, False):
            for by_blocks in (False, True):
                p.check(2, forward(p.conv, 2, p.x, p.w, p.b, pack=pack, by_blocks=by_blocks),
                        input_grad(p.conv, 2, p.dy, p.w, pack=pack, by_blocks=by_blocks))
        p.check(2, gradients=weight_grad(p.conv, 2, p.x, p.dy, 2))
        p.check(2, gradients=weight_grad(p.conv, 2, p.x, p.dy, 1, by_channels=True))


def test_passes_that_cut_tiles_out_of_maps_still_do(isa, rng):
    p = Problem(rng, (3, 2, 2, 20), 12)
    p.check(2, None, adjoint(p.conv, 2, p.dy, p.w))
    p.check(2, None, *gradients(p.conv, 2, p.x, p.dy, p.w))


def test_weight_gradients_behind_a_pooling(isa, rng):
    for ic, oc in ((3, 5), (17, 33)):
        p = Problem(rng, (20, 2, 2, ic), oc)
        arg = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (20, 1, 1, oc))
        dy = small_ints(rng, arg.shape)
        for tap in range(4):
            p.dy[:, tap // 2, tap % 2] = (dy * (arg == tap))[:, 0, 0]
        _, p.dx, p.dw = p.results(p.x, p.w, p.b, p.dy)
        p.check(2, None, *gradients(p.conv, 2, p.x, dy, p.w, arg=arg))
        p.check(2, gradients=weight_grad(p.conv, 2, p.x, dy, 3, arg=arg))


def test_bits_do_not_depend_on_cuts(isa, threads, rng, monkeypatch):
    shape, oc = (40, 2, 2, 70), 130
    p = Problem(rng, shape, oc)
    p.x, p.w, p.dy = (rng.standard_normal(a.shape).astype(np.float32) for a in (p.x, p.w, p.dy))

    def results(group, **options):
        return (forward(p.conv, 2, p.x, p.w, group=group, **options), input_grad(p.conv, 2, p.dy, p.w, **options),
                *weight_grad(p.conv, 2, p.x, p.dy, 1, by_channels=True))

    want = [a.tobytes() for a in results(40)]
    for by_blocks in (False, True):
        assert [a.tobytes() for a in results(7, by_blocks=by_blocks)] == want
    monkeypatch.setattr(_winograd_tiles, "MIN_TILES", 1)
    monkeypatch.setattr(_winograd_conv, "BLOCK_BYTES", 1)
    assert [a.tobytes() for a in results(7)][:2] == want[:2]


def test_errors_beside_those_of_direct(isa, rng):
    x, w, dy = (rng.standard_normal(s).astype(np.float32) for s in ((64, 2, 2, 128), (3, 3, 128, 64), (64, 2, 2, 64)))
    conv, words = Conv.resolve(x.shape, w.shape, 1, "same", 1, 1, "test"), {"padding": "same"}
    for got, direct, want, times in (
        (forward(conv, 2, x, w), ops.conv2d(x, w, algorithm="direct", **words), reference.conv2d(x, w, **words), 1.5),
        (input_grad(conv, 2, dy, w), ops.conv2d_input_grad(dy, w, x.shape, algorithm="direct", **words),
         reference.conv2d_input_grad(dy, w, x.shape, **words), 1.5),
        (weight_grad(conv, 2, x, dy, group=4)[0], ops.conv2d_weight_grad(x, dy, 3, algorithm="direct", **words),
         reference.conv2d_weight_grad(x, dy, 3, **words), 2),
    ):
        assert rms(got - want) <= times * rms(direct - want)


def test_slices_leave_room_for_the_gradient_they_become(isa):
    rows, columns = _winograd_grad.gradient_slices(9, 512, 512, 1)
    assert 4 * (9 + 9) * rows * columns <= _winograd_grad.SUM_BYTES < 4 * (9 + 9) * 2 * rows * columns


def test_mistakes_are_refused():
    x, w = np.zeros((3, 2, 2, 5), np.float32), np.zeros((3, 3, 5, 5), np.float32)
    maps, plain = Tiles(tensor(x), (2, 2), 2, 2, whole=True), Tiles(tensor(x), (2, 2), 2, 4, (1, 1))
    for grid, m, size, origin in (((2, 3), 2, 2, (0, 0)), ((2, 2), 2, 4, (1, 1)), ((2, 2), 4, 4, (0, 0)),
                                  ((2, 2), 2, 2, (1, 0))):
        with pytest.raises(ValueError, match="whole maps are of 2 x 2 pixels"):
            Tiles(tensor(x), grid, m, size, origin, whole=True)
    with pytest.raises(ValueError, match="contiguous float32 array"):
        WinogradWeights(w, 4, whole=True)
    for tiles, weights in ((maps, WinogradWeights(w, 2)), (plain, WinogradWeights(w, 2, whole=True))):
        with pytest.raises(ValueError, match="do not fit together"):
            WinogradConv(tiles, weights, tensor(x))
    adjoint_weights = WinogradWeights(w, 2, transposed=True, packed=np.zeros(10**5, np.float32), whole=True)
    with pytest.raises(ValueError, match="do not fit together"):
        WinogradAdjoint(maps, adjoint_weights, maps)
    for tiles, errors, options in ((maps, Tiles(tensor(x), (2, 2), 2, 2), {}), (plain, maps, {}),
                                   (maps, maps, {"dx": maps, "weights": adjoint_weights})):
        with pytest.raises(ValueError, match="do not fit together"):
            WinogradGradients(tiles, errors, w[None], **options)
