"""From a 3-D convolution to the passes that compute it: those of a 2-D one, over volumes folded into images.

The slices of a volume (n, d, h, w, c) lie below one another in an image, `pitch` rows apart, where the rows between
them, and those and the columns around, are zeros. So a tap of the kernel is a number of rows and columns away as
ever, dilated (kd * pitch + kh, kw), and the slices of the output are as many passes, each over all taps. The weights
(kd, kh, kw, ic, oc) are those of a kernel of kd * kh rows.
"""

from __future__ import annotations

from typing import NamedTuple

from fastcnn.geometry import Conv3D
from fastcnn.kernels._gather import Gather, Weights
from fastcnn.kernels._panels import Panel
from fastcnn.kernels._series import Series
from fastcnn.kernels._weight_grad import GRAD_PIXELS, WeightGrad
from fastcnn.kernels.conv import HUGE_WEIGHTS, Phase, phases, weight_bytes


class Fold(NamedTuple):
    """`depth` slices of `height` rows as an image: `pitch` rows from one to the next, and zeros around."""

    depth: int
    height: int
    pitch: int
    halo: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def around(cls, depth: int, height: int, depth_halo, plane_halo) -> Fold:
        """The fold in which a pass reads so many zeros before and after the slices, and around each."""
        (top, bottom), sides = plane_halo
        pitch = height + max(top, bottom)
        (front, back), _ = depth_halo
        return cls(depth, height, pitch, ((front * pitch + top, back * pitch + bottom), sides))

    @classmethod
    def dense(cls, depth: int, height: int) -> Fold:
        """Slices with nothing between and around them."""
        return cls(depth, height, height, ((0, 0), (0, 0)))

    @property
    def rows(self) -> int:
        return (self.depth - 1) * self.pitch + self.height

    @property
    def is_dense(self) -> bool:
        """Whether there is nothing between slices."""
        return self.pitch == self.height

    def first_rows(self) -> range:
        """Where each slice begins."""
        return range(0, self.depth * self.pitch, self.pitch)


def kernel_rows(w):
    """The weights (..., kd, kh, kw, ic, oc) as those of a 2-D kernel of kd * kh rows."""
    *parts, kd, kh, kw, ic, oc = w.shape
    return w.reshape(*parts, kd * kh, kw, ic, oc)


def _taps(conv: Conv3D, pitch: int):
    """(taps of the 2-D kernel, their input pixels), in the order of the weight array."""
    depth, plane = conv.window.depth, conv.window.plane
    taps = [(k, r, c) for k in range(depth.kh) for r in range(plane.kh) for c in range(plane.kw)]
    pixels = [(k * depth.dh * pitch + r * plane.dh, c * plane.dw) for k, r, c in taps]
    return [(k * plane.kh + r, c) for k, r, c in taps], pixels


def _panels(conv: Conv3D, x, pitch: int, algorithm: str, **options):
    """For each slice of the output, how its pass reads x."""
    depth, plane = conv.window.depth, conv.window.plane
    for out in range(depth.oh):
        origin = plane.top - (out * depth.sh - depth.top) * pitch, plane.left
        yield Panel(x, plane.output, plane.strides, origin, _taps(conv, pitch)[1], conv.ic // conv.groups, algorithm,
                    **options)


def forward_weights(conv: Conv3D, w, packed=None) -> Weights:
    return Weights(kernel_rows(w), _taps(conv, 1)[0], conv.groups, packed=packed)


def forward(conv: Conv3D, x, pitch: int, weights: Weights, y, bias, algorithm, **options) -> Series:
    """y (n, od * oh, ow, oc) = clamp(conv(x, w) + bias), x folded."""
    rows, by_channels = conv.window.plane.oh, weight_bytes(conv) > HUGE_WEIGHTS
    return Series([Gather(panel, weights, y, bias, y_origin=(out * rows, 0), by_channels=by_channels, **options)
                   for out, panel in enumerate(_panels(conv, x, pitch, algorithm))], "forward")


def weight_grad(conv: Conv3D, x, pitch: int, dy_slices, dw, db, algorithm) -> Series:
    """dw (parts, kd, kh, kw, ic, oc) and db (parts, oc) or None, from folded x and the slices of dy."""
    panels = _panels(conv, x, pitch, algorithm, max_pixels=GRAD_PIXELS)
    return Series([WeightGrad(panel, dy, kernel_rows(dw), db, conv.groups)
                   for panel, dy in zip(panels, dy_slices, strict=True)], "weight gradient")


class Phase3D(NamedTuple):
    """Voxels of dx that are reached by the same taps of the kernel: see `kernels.conv.Phase`."""

    depth: Phase
    plane: Phase

    def taps(self, kh: int) -> list[tuple[int, int]]:
        """Of the 2-D kernel, in the order of k."""
        return [(k * kh + r, c) for k, _ in self.depth.taps for r, c in self.plane.taps]

    def pixels(self, pitch: int) -> list[tuple[int, int]]:
        """Of folded dy, from the origin."""
        return [(k * pitch + r, c) for k, _ in self.depth.pixels for r, c in self.plane.pixels]


def phases3d(conv: Conv3D) -> list[Phase3D]:
    """The passes that make up the input gradient; together they write every voxel of dx once."""
    return [Phase3D(depth, plane) for depth in phases(conv.depth) for plane in phases(conv.plane)]


def input_grad_weights(conv: Conv3D, phase: Phase3D, w, packed=None) -> Weights:
    taps = phase.taps(conv.window.plane.kh)
    return Weights(kernel_rows(w), taps, conv.groups, transposed=True, packed=packed)


def input_grad(conv: Conv3D, phase: Phase3D, dy, pitch: int, weights: Weights, dx, algorithm) -> Series:
    """The voxels of one phase of dx (n, d * h, w, ic), from folded dy."""
    depth, plane, window = phase.depth, phase.plane, conv.window
    grid, pixels, width = (plane.rows, plane.cols), phase.pixels(pitch), conv.oc // conv.groups
    passes = []
    for i in range(depth.rows):
        origin = plane.origin[0] - (i - depth.origin[0]) * pitch, plane.origin[1]
        first = (depth.row + i * window.depth.sh) * window.plane.ih + plane.row
        passes.append(Gather(Panel(dy, grid, (1, 1), origin, pixels, width, algorithm), weights, dx,
                             y_origin=(first, plane.col), y_strides=window.plane.strides,
                             by_channels=weight_bytes(conv) > HUGE_WEIGHTS))
    return Series(passes, "input gradient")
