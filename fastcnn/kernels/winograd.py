"""From a convolution's sizes to the passes of Winograd's algorithm that compute it; `m` is the edge of a tile."""

from __future__ import annotations

from fastcnn.geometry import Conv
from fastcnn.kernels._winograd_conv import WinogradAdjoint, WinogradConv
from fastcnn.kernels._winograd_grad import WinogradGradients, gradient_slices
from fastcnn.kernels._winograd_tiles import Tiles, points_along, points_of
from fastcnn.kernels._winograd_weights import WinogradWeights

# Larger transformed weights are not stored but made where they are used: reading them would take longer.
STORED_BYTES = 5 << 20


def is_whole(conv: Conv, m: int) -> bool:
    """Whether tiles are whole maps: 2 x 2 pixels with zeros around, which take fewer points than other tiles of two."""
    w = conv.window
    return m == 2 and {w.ih, w.iw, w.oh, w.ow} == {2} and (w.top, w.left) == (1, 1)


def points(conv: Conv, m: int) -> int:
    """Multiplications of a tile, for each pair of channels."""
    return points_of(m, is_whole(conv, m))


def cut_points(m: int, grid: tuple[int, int]) -> int:
    """Of all tiles of m x m that `grid` = (rows, cols) outputs are cut into."""
    rows, cols = grid
    return points_along(rows, m) * points_along(cols, m)


def map_points(conv: Conv, m: int, grid: tuple[int, int]) -> int:
    """Of all tiles of a map."""
    return points(conv, m) if is_whole(conv, m) else cut_points(m, grid)


def transformed_bytes(conv: Conv, m: int) -> int:
    """Of the weights."""
    return 4 * points(conv, m) * conv.ic * conv.oc


def stores_weights(conv: Conv, m: int) -> bool:
    """Whether the transformed weights are computed once, before the passes that read them."""
    return transformed_bytes(conv, m) <= STORED_BYTES


def forward_weights(conv: Conv, m: int, w, packed=None) -> WinogradWeights:
    return WinogradWeights(w, m, packed=packed, whole=is_whole(conv, m))


def forward(conv: Conv, m: int, x, weights: WinogradWeights, y, bias=None, **options) -> WinogradConv:
    """y = clamp(conv(x, w) + bias); with `pool`, y is max-pooled over 2 x 2 windows.

    Pixels that no window covers are not computed.
    """
    grid = (2 * y.shape[1], 2 * y.shape[2]) if options.get("pool") else (conv.window.oh, conv.window.ow)
    tiles = _maps(x) if is_whole(conv, m) else _inputs(conv, m, x, grid)
    return WinogradConv(tiles, weights, y, bias, **options)


def input_grad_weights(conv: Conv, m: int, w, packed=None) -> WinogradWeights:
    return WinogradWeights(w, m, transposed=True, turned=True, packed=packed, whole=is_whole(conv, m))


def input_grad(conv: Conv, m: int, dy, weights: WinogradWeights, dx, bias=None, **options) -> WinogradConv:
    """dx: the convolution of dy with the turned kernel; with a bias, a transposed convolution's result."""
    w = conv.window
    if is_whole(conv, m):
        return WinogradConv(_maps(dy), weights, dx, bias, **options)
    return WinogradConv(Tiles(dy, (w.ih, w.iw), m, m + 2, (2 - w.top, 2 - w.left)), weights, dx, bias, **options)


def adjoint_weights(conv: Conv, m: int, w, packed=None) -> WinogradWeights:
    """Of tiles that are cut out of maps, whole ones too."""
    return WinogradWeights(w, m, transposed=True, packed=packed)


def adjoint(conv: Conv, m: int, dy, weights: WinogradWeights, dx, arg=None, **options) -> WinogradAdjoint:
    """dx from adjoint weights; with `arg`, from the gradient after a max-pooling, as `weight_grad`."""
    tiles = _gradients(conv, m, dy, arg)
    return WinogradAdjoint(tiles, weights, _inputs(conv, m, dx, _grid(conv, dy, arg)), **options)


def weight_grad(conv: Conv, m: int, x, dy, dw, db=None, arg=None, dx=None, **options) -> WinogradGradients:
    """dw and db and, with `dx` and adjoint `weights`, dx.

    With `arg`, dy is the gradient after a max-pooling over 2 x 2 windows, whose maxima's taps are in `arg`.
    """
    grid = _grid(conv, dy, arg)
    if dx is not None:
        options["dx"] = _inputs(conv, m, dx, grid)
    elif is_whole(conv, m):
        return WinogradGradients(_maps(x), _maps(dy, arg), dw, db, **options)
    return WinogradGradients(_inputs(conv, m, x, grid), _gradients(conv, m, dy, arg), dw, db, **options)


def _grid(conv: Conv, dy, arg):
    """The outputs that have a gradient: of pooled ones, those in a window."""
    return (conv.window.oh, conv.window.ow) if arg is None else (2 * dy.shape[1], 2 * dy.shape[2])


def _gradients(conv: Conv, m: int, dy, arg) -> Tiles:
    return Tiles(dy, _grid(conv, dy, arg), m, m, arg=arg)


def sums_fit(conv: Conv, m: int) -> bool:
    """Whether all transformed sums of a weight gradient fit the cache together."""
    ic, oc = gradient_slices((m + 2) ** 2, conv.ic, conv.oc, 1)
    return ic >= conv.ic and oc >= conv.oc


def _inputs(conv: Conv, m: int, x, grid) -> Tiles:
    return Tiles(x, grid, m, m + 2, (conv.window.top, conv.window.left))


def _maps(x, arg=None) -> Tiles:
    """Maps of 2 x 2 pixels, or the gradients before a max-pooling of such."""
    return Tiles(x, (2, 2), 2, 2, arg=arg, whole=True)
