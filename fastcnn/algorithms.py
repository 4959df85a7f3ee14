"""Which algorithm computes a convolution: the one place where 'auto' is decided.

'direct' multiplies every pixel under the kernel; 'winograd' computes tiles of m x m outputs of a 3 x 3 kernel with
(m + 2)^2 multiplications instead of 9 m^2, at the price of transforms and of about three times the rounding error
(m = 4; m = 2 is as exact as direct). With few channels a direct convolution has other passes, which spread something
else over the lanes of a vector. The choice follows from shapes alone, never from the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import ceil

from fastcnn.errors import unknown_name
from fastcnn.geometry import Conv, Pair
from fastcnn.kernels import _cpu, winograd
from fastcnn.kernels import conv as passes
from fastcnn.kernels._pooled_grad import most_channels

ALGORITHMS = ("auto", "direct", "im2col", "winograd")
POLICIES = ("auto", "direct")
FORWARD, INPUT_GRAD, WEIGHT_GRAD = PASSES = ("forward", "input_grad", "weight_grad")

# Winograd must promise this much before it is preferred; with fewer channels or tiles the transforms are all there is.
LEAST_GAIN = 1.2
LEAST_CHANNELS = 16
LEAST_TILES = 16


# Cycles of an AVX-512 core with two multiply-add units. Transforms of a tile of m x m outputs are measured, each by the
# channels it multiplies; they are bound by stores to L2, products by multiply-adds.
TRANSFORM_CYCLES = {
    # points: (input transform, per ic; output transform, per oc; gradient transform, per oc)
    36: (11.0, 7.6, 10.7),
    16: (4.9, 3.4, 4.8),
    9: (2.8, 2.0, 2.7),
}
POINT_CYCLES = 1 / 32   # per point of a tile and ic * oc
DIRECT_CYCLES = 9 / 32  # per output pixel and ic * oc
# Transforming the weights, per point and ic * oc; those too large to store anew for every block of tiles.
WEIGHT_CYCLES, UNSTORED_WEIGHT_CYCLES = 10 / 36, 15 / 36
BLOCK_TILES = 28
# Groups of images whose weight gradients are summed apart, unless the weights are large or the tiles of a group few.
GROUPS = 16
LEAST_GROUP_TILES = 12
# Loading and storing the sums of a weight gradient once per block of tiles, relative to the products of a tile.
GRADIENT_OVERHEAD = 10 / 42

# With few channels, vectors of pixels or of (column of the kernel, channel) pairs are preferred to vectors of channels
# where they are so many times fewer: measured, the least that makes a pass 1.3 times as fast.
PLANE_GAIN, INPUT_GRAD_GAIN, WEIGHT_GRAD_GAIN = 2.2, 1.7, 1.4
# What a pixel costs beside its products, in multiply-adds: adding the lanes of dot tiles, adding overlapping products.
DOT_SUM, OVERLAP_SUM = 32, 3

_policy = "auto"


def set_algorithm_policy(policy: str) -> None:
    """What algorithm='auto' may choose, in operations and models alike, from now on.

    'auto' chooses the fastest by shape. 'direct' never transforms: sums of small integers are then exact, and a NaN or
    infinity reaches exactly the outputs whose window holds it. The environment variable FASTCNN_ALGORITHM_POLICY sets
    the policy at import. ValueError for another name.
    """
    global _policy
    if policy not in POLICIES:
        raise unknown_name("policy", policy, POLICIES, "set_algorithm_policy")
    _policy = policy


def get_algorithm_policy() -> str:
    """The policy in force, 'auto' or 'direct'."""
    return _policy


def check_algorithm(algorithm, where: str) -> str:
    """The name of an algorithm; ValueError for others."""
    if algorithm not in ALGORITHMS:
        raise unknown_name("algorithm", algorithm, ALGORITHMS, where)
    return algorithm


def why_not_winograd(kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], groups: int) -> str | None:
    """What keeps Winograd's algorithm from computing a convolution, or None."""
    if tuple(kernel) != (3, 3):
        return f"kernels of 3x3, got {'x'.join(map(str, kernel))}"
    if tuple(strides) != (1, 1):
        return f"strides of 1, got {tuple(strides)}"
    if tuple(dilation) != (1, 1):
        return f"no dilation, got {tuple(dilation)}"
    if groups != 1:
        return f"one group, got groups={groups}"
    return None


def check_winograd(algorithm: str, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], groups: int,
                   where: str) -> None:
    """ValueError where 'winograd' is asked for and cannot serve."""
    reason = why_not_winograd(kernel, strides, dilation, groups)
    if algorithm == "winograd" and reason:
        raise ValueError(f"{where}: algorithm 'winograd' needs {reason}; use algorithm='auto'")


def winograd_tile(conv: Conv, which: str, algorithm: str = "auto") -> int:
    """The m of Winograd's F(m x m, 3 x 3) for one of PASSES, or 0: another algorithm."""
    w = conv.window
    possible = why_not_winograd((w.kh, w.kw), (w.sh, w.sw), (w.dh, w.dw), conv.groups) is None
    if algorithm not in ("auto", "winograd") or not possible:
        return 0
    m = 4 if _tile_cycles(conv, which, 4) < 0.95 * _tile_cycles(conv, which, 2) else 2  # of equals the more accurate
    if algorithm == "winograd":
        return m
    cycles = _tile_cycles(conv, which, m) + _weight_cycles(conv, which, m)
    enough = min(conv.ic, conv.oc) >= LEAST_CHANNELS and conv.n * _tiles(conv, which, m) >= LEAST_TILES
    pays = enough and _direct_cycles(conv, which) >= LEAST_GAIN * cycles
    return m if pays and _policy == "auto" else 0


def sums_by_channels(conv: Conv, m: int) -> bool:
    """Whether a Winograd weight gradient is cut by channels, not by images: its sums are large to keep once a group,
    or costly to transform back for the few tiles of one."""
    few = conv.n * _tiles(conv, WEIGHT_GRAD, m) < LEAST_GROUP_TILES * min(GROUPS, conv.n)
    return few or passes.weight_bytes(conv) > passes.LARGE_WEIGHTS


def adjoint_tile(conv: Conv, algorithm: str = "auto") -> int:
    """The m of Winograd's input gradient in its adjoint form, or 0: where the outputs are so few that their tiles are
    fewer than those of the inputs, as they often are without padding."""
    if not winograd_tile(conv, WEIGHT_GRAD, algorithm):
        return 0
    cycles = {m: _adjoint_cycles(conv, m) + _weight_cycles(conv, INPUT_GRAD, m) for m in (4, 2)}
    m, other = 4 if cycles[4] < 0.95 * cycles[2] else 2, winograd_tile(conv, INPUT_GRAD, algorithm)
    usual = _direct_cycles(conv, INPUT_GRAD)
    if other:
        usual = _tile_cycles(conv, INPUT_GRAD, other) + _weight_cycles(conv, INPUT_GRAD, other)
    return m if usual >= LEAST_GAIN * cycles[m] else 0


def winograd_gradients(conv: Conv, algorithm: str = "auto") -> int:
    """The m of Winograd's algorithm where one pass computes the gradients of both x and w, or 0: where the weights'
    sums, per group of images, stay in cache."""
    m = winograd_tile(conv, WEIGHT_GRAD, algorithm)
    both = m and winograd_tile(conv, INPUT_GRAD, algorithm)
    return m if both and winograd.sums_fit(conv, m) and not sums_by_channels(conv, m) else 0


def computes_planes(conv: Conv, algorithm: str = "auto", pool: Pair | None = None) -> bool:
    """Whether a direct forward pass, with the max-pooling after it, takes vectors of pixels: for few input and output
    channels. Else its vectors are output channels."""
    vlen, width = _cpu.tile_sizes()[0], conv.window.ow
    if not _is_plain(conv, algorithm) or 2 * max(conv.ic, conv.oc) > vlen or pool not in (None, (2, 2)):
        return False
    return width >= PLANE_GAIN * ceil(width / vlen) * conv.oc


def adds_overlaps(conv: Conv, which: str, algorithm: str = "auto") -> bool:
    """Whether a direct gradient, INPUT_GRAD or WEIGHT_GRAD, takes vectors of (column of the kernel, channel) pairs: for
    few channels of the result. Else its vectors are channels, of the result or, in dot tiles, of dy."""
    w, vlen = conv.window, _cpu.tile_sizes()[0]
    if not _is_plain(conv, algorithm) or w.kw == 1 or passes.weight_bytes(conv) > passes.LARGE_WEIGHTS:
        return False
    if which == WEIGHT_GRAD:
        usual = w.ow * w.kw * ceil(conv.oc / vlen)
        return usual >= WEIGHT_GRAD_GAIN * (w.ow + w.kw - 1) * ceil(w.kw * conv.oc / vlen)
    pixels, taps = w.ih * w.iw, w.kh * w.kw
    usual = pixels * taps * conv.oc * ceil(conv.ic / vlen)
    if 2 * conv.ic <= vlen <= conv.oc:
        usual = pixels * (taps * conv.ic * ceil(conv.oc / vlen) + DOT_SUM)
    products = w.oh * w.ow * w.kh * conv.oc * ceil(w.kw * conv.ic / vlen)
    return usual >= INPUT_GRAD_GAIN * (products + pixels * OVERLAP_SUM)


def sums_pooled(conv: Conv, algorithm: str = "auto") -> bool:
    """Whether the weight gradient of a convolution that is max-pooled over 2 x 2 windows can be summed from the
    gradient of the pooled result. Else, or if another pass needs it, that is unpooled first."""
    if winograd_tile(conv, WEIGHT_GRAD, algorithm):
        return True
    few = conv.ic <= most_channels() and passes.weight_bytes(conv) <= passes.LARGE_WEIGHTS
    return _cpu.tile_sizes()[0] >= 8 and few and _is_plain(conv, algorithm)


def _is_plain(conv: Conv, algorithm: str) -> bool:
    """Whether a convolution is one that the passes for few channels compute."""
    w = conv.window
    steps = w.sh, w.sw, w.dh, w.dw, conv.groups
    return algorithm != "im2col" and set(steps) == {1} and min(conv.ic, conv.oc) > 0


def _grid(conv: Conv, which: str) -> Pair:
    """The pixels of a pass that are cut into tiles."""
    w = conv.window
    return (w.ih, w.iw) if which == INPUT_GRAD else (w.oh, w.ow)


def _tiles(conv: Conv, which: str, m: int) -> int:
    """Tiles of an image."""
    rows, cols = _grid(conv, which)
    return ceil(rows / m) * ceil(cols / m)


def _channels(conv: Conv, which: str) -> Pair:
    """(summed, written) channels of a pass, the written ones in whole vectors of 16."""
    read, written = (conv.oc, conv.ic) if which == INPUT_GRAD else (conv.ic, conv.oc)
    return read, 16 * ceil(written / 16)


def _direct_cycles(conv: Conv, which: str) -> float:
    rows, cols = _grid(conv, which)
    ic, oc = _channels(conv, which)
    return conv.n * rows * cols * DIRECT_CYCLES * ic * oc


def _tile_cycles(conv: Conv, which: str, m: int) -> float:
    """Of all tiles."""
    ic, oc = _channels(conv, which)
    read, write, gradient = TRANSFORM_CYCLES[winograd.points(conv, m)]
    products = POINT_CYCLES * winograd.map_points(conv, m, _grid(conv, which)) * ic * oc
    transforms = read * 16 * ceil(ic / 16) + (gradient if which == WEIGHT_GRAD else write) * oc
    if which == WEIGHT_GRAD:
        products *= 1 + GRADIENT_OVERHEAD
    return conv.n * (products + _tiles(conv, which, m) * transforms)


def _adjoint_cycles(conv: Conv, m: int) -> float:
    """Of all tiles of dy: their transforms, products, and as much for the way back as for the way to points."""
    oc, ic = _channels(conv, INPUT_GRAD)
    read, _, gradient = TRANSFORM_CYCLES[(m + 2) ** 2]
    products = POINT_CYCLES * winograd.cut_points(m, _grid(conv, WEIGHT_GRAD)) * ic * oc
    return conv.n * (products + _tiles(conv, WEIGHT_GRAD, m) * (gradient * 16 * ceil(oc / 16) + read * ic))


def _weight_cycles(conv: Conv, which: str, m: int) -> float:
    """Of the transforms of the weights, or of their gradients."""
    ic, oc = _channels(conv, which)
    weights = winograd.points(conv, m) * ic * oc
    if which == WEIGHT_GRAD:
        groups = 1 if sums_by_channels(conv, m) else min(GROUPS, conv.n)
        return WEIGHT_CYCLES * weights * groups
    if winograd.stores_weights(conv, m):
        return WEIGHT_CYCLES * weights
    return UNSTORED_WEIGHT_CYCLES * weights * ceil(conv.n * _tiles(conv, which, m) / BLOCK_TILES)


set_algorithm_policy(os.environ.get("FASTCNN_ALGORITHM_POLICY") or "auto")
