"""Pooling layers: a window, or the entire image, becomes one value per channel."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn.geometry import sizes
from fastcnn.layers.arguments import Shape
from fastcnn.layers.conv import WINDOWS, check_padding
from fastcnn.layers.declared import IMAGES, SEQUENCES, VOLUMES, DeclaredLayer
from fastcnn.plan import operations
from fastcnn.plan.volumes import SlicePool
from fastcnn.utils import flag

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class _Pooling(DeclaredLayer):
    """Base: a window slides over each channel, along `rank` axes."""

    axes, rank = IMAGES, 2

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: Any = "valid",
                 input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.pool_size = sizes(pool_size, self.rank, "pool_size", self.name)
        self.strides = self.pool_size if strides is None else sizes(strides, self.rank, "strides", self.name)
        self.padding = check_padding(padding, self.name, self.rank)
        if self.padding == "causal":
            raise ValueError(f"{self.name}: padding 'causal' is for convolutions; use 'valid' or 'same'")
        if not isinstance(self.padding, str) and any(
                max(sides) >= size for sides, size in zip(self.padding, self.pool_size, strict=True)):
            raise ValueError(f"{self.name}: padding must be less than pool_size {self.pool_size} on each "
                             f"side, got {self.padding}: a window could hold only padding; use less")

    def window(self, shape: tuple[int, ...]) -> Any:
        """The sizes for a sample of `shape`."""
        resolve = WINDOWS[self.rank]
        return resolve(shape[:-1], self.pool_size, self.strides, self.padding, 1, self.name, "pool_size")

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *self.window(shape).output[-self.rank:], shape[-1]

    def flops(self, output_shape: Shape) -> int:
        return prod(output_shape[1:]) * prod(self.pool_size)


class MaxPooling2D(_Pooling):
    """The largest value of each window of an image.

    y[n, i, j, c] = max over r, s of x[n, i*sh + r - top, j*sw + s - left, c]. Input (batch, height, width, channels),
    output (batch, oh, ow, channels). Padded pixels never count.

    Parameters
    ----------
    pool_size : an int, or a pair (rows, columns).
    strides : likewise; None for `pool_size`, windows side by side.
    padding : 'valid', 'same' (TensorFlow's rule), an int, a pair, or ((top, bottom), (left, right)), less than
        `pool_size` on each side.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments; when called, for inputs of another rank or smaller than the window.
    """

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_max(plan, x, self)


class MinPooling2D(_Pooling):
    """The smallest value of each window of an image; arguments, shapes and errors as of `MaxPooling2D`."""

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.MaxPool(x, self.window(x.shape), minimum=True, layer=self))


class AveragePooling2D(_Pooling):
    """The mean of each window of an image; arguments, shapes and errors as of `MaxPooling2D`.

    y[n, i, j, c] = sum over r, s of x[n, i*sh + r - top, j*sw + s - left, c] / the number of these pixels in the image.
    """

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_average(plan, x, self)


class MaxPooling1D(_Pooling):
    """The largest value of each window of a sequence, as `MaxPooling2D` of images of one row.

    Input (batch, steps, channels), output (batch, outputs, channels).

    Parameters
    ----------
    pool_size, strides : an int; `strides` None for `pool_size`, windows side by side.
    padding : 'valid', 'same', an int, or a pair (before, after), less than `pool_size` on each side.
    """

    axes, rank = SEQUENCES, 1

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_max(plan, x, self)


class AveragePooling1D(_Pooling):
    """The mean of the steps of each window that are in the sequence; arguments and shapes as of `MaxPooling1D`."""

    axes, rank = SEQUENCES, 1

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_average(plan, x, self)


class MaxPooling3D(_Pooling):
    """The largest value of each window of a volume, as `MaxPooling2D` with one axis more.

    Input (batch, depth, height, width, channels), output (batch, od, oh, ow, channels).

    Parameters
    ----------
    pool_size, strides : an int, or three (depth, rows, columns); `strides` None for `pool_size`.
    padding : 'valid', 'same', an int, three, or three pairs, less than `pool_size` on each side.
    """

    axes, rank = VOLUMES, 3

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_volume(plan, x, self, operations.MaxPool)


class AveragePooling3D(_Pooling):
    """The mean of the voxels of each window that are in the volume; arguments and shapes as of `MaxPooling3D`."""

    axes, rank = VOLUMES, 3

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_volume(plan, x, self, operations.AvgPool)


def lower_max(plan: Lowering, x: Value, layer: _Pooling) -> Value:
    return plan.add(operations.MaxPool(x, layer.window(x.shape), layer=layer))


def lower_average(plan: Lowering, x: Value, layer: _Pooling) -> Value:
    return plan.add(operations.AvgPool(x, layer.window(x.shape), layer=layer))


def lower_volume(plan: Lowering, x: Value, layer: _Pooling, along_depth: Any) -> Value:
    """Pool each slice, then along the depth axis, to which a pooled slice is one row of pixels.

    The first maximum of the first slice that has it is the first of the window; and as each axis counts its own
    voxels, the mean of means is the mean.
    """
    window, (depth, *_, channels) = layer.window(x.shape), x.shape
    pooled = plan.add(SlicePool(x, window.plane, along_depth is operations.MaxPool, layer=layer))
    rows = plan.add(operations.Reshape([pooled], (depth, prod(window.plane.output), channels), layer))
    columns = window.depth._replace(iw=rows.shape[1], ow=rows.shape[1])
    y = plan.add(along_depth(rows, columns, layer=layer))
    return plan.add(operations.Reshape([y], (*window.output, channels), layer))


class _GlobalPooling(DeclaredLayer):
    """What the global forms share: (batch, ..., channels) gives (batch, channels).

    With `keepdims` it gives (batch, 1, ..., channels), a 1 for each axis pooled.
    """

    maximum = False

    def __init__(self, keepdims: bool = False, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.keepdims = flag(keepdims, "keepdims", self.name)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*[1] * (len(shape) - 1), shape[-1]) if self.keepdims else (shape[-1],)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.GlobalPool(x, self.maximum, self.keepdims, layer=self))

    def flops(self, output_shape: Shape) -> int:
        return prod(self.input_shape[1:])


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean of each channel over the sequence, (batch, channels); axes of length 1 stay with `keepdims`."""

    axes = SEQUENCES


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel over the image, (batch, channels); axes of length 1 stay with `keepdims`."""

    axes = IMAGES


class GlobalAveragePooling3D(_GlobalPooling):
    """The mean of each channel over the volume, (batch, channels); axes of length 1 stay with `keepdims`."""

    axes = VOLUMES


class GlobalMaxPooling1D(_GlobalPooling):
    """The largest value of each channel over the sequence, (batch, channels); axes of length 1 stay with `keepdims`."""

    axes, maximum = SEQUENCES, True


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest value of each channel over the image, (batch, channels); axes of length 1 stay with `keepdims`."""

    axes, maximum = IMAGES, True


class GlobalMaxPooling3D(_GlobalPooling):
    """The largest value of each channel over the volume, (batch, channels); axes of length 1 stay with `keepdims`."""

    axes, maximum = VOLUMES, True


MaxPool1D, AvgPool1D = MaxPooling1D, AveragePooling1D
MaxPool2D, AvgPool2D = MaxPooling2D, AveragePooling2D
MaxPool3D, AvgPool3D = MaxPooling3D, AveragePooling3D
GlobalAvgPool1D, GlobalMaxPool1D = GlobalAveragePooling1D, GlobalMaxPooling1D
GlobalAvgPool2D, GlobalMaxPool2D = GlobalAveragePooling2D, GlobalMaxPooling2D
GlobalAvgPool3D, GlobalMaxPool3D = GlobalAveragePooling3D, GlobalMaxPooling3D
