"""Layers that cut and pad images, and exchange axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcnn.geometry import SIDES, pair, resolve_padding
from fastcnn.layers.arguments import sample_shape
from fastcnn.layers.declared import IMAGES, SEQUENCES, DeclaredLayer
from fastcnn.plan import operations, resizing

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class _ZeroPadding(DeclaredLayer):
    """What both ranks share."""

    rank = 2

    def __init__(self, padding: Any = 1, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        if isinstance(padding, str):
            raise TypeError(f"{self.name}: padding must be an int, {SIDES[self.rank]}, got {padding!r}; give the "
                            f"number of zeros")
        ones = (1,) * self.rank
        self.padding = resolve_padding(padding, ones, ones, ones, ones, self.name)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *(size + sum(zeros) for size, zeros in zip(shape, self.padding, strict=False)), shape[-1]

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.Pad(x, ((0, 0), *self.padding)[-2:], layer=self))


class ZeroPadding1D(_ZeroPadding):
    """Zeros around sequences.

    Input (batch, steps, channels), output (batch, before + steps + after, channels).

    Parameters
    ----------
    padding : an int for both sides, or a pair (before, after).

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """

    axes, rank = SEQUENCES, 1


class ZeroPadding2D(_ZeroPadding):
    """Zeros around images.

    Input (batch, h, w, channels), output (batch, top + h + bottom, left + w + right, channels).

    Parameters
    ----------
    padding : an int for all sides, a pair (rows, columns), or ((top, bottom), (left, right)).

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """

    axes = IMAGES


class Cropping2D(DeclaredLayer):
    """Images without some pixels at their borders.

    Input (batch, h, w, channels), output (batch, h - top - bottom, w - left - right, channels).

    Parameters
    ----------
    cropping : an int for all sides, a pair (rows, columns), or ((top, bottom), (left, right)).

    Raises
    ------
    TypeError, ValueError
        For anything else; when called, for images of which nothing would be left.
    """

    axes = IMAGES

    def __init__(self, cropping: Any = 0, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        axes = cropping if isinstance(cropping, (tuple, list)) else (cropping, cropping)
        if len(axes) != 2:
            raise ValueError(f"{self.name}: cropping must be an int, a pair or ((top, bottom), (left, right)), "
                             f"got {cropping!r}; give the number of pixels")
        self.cropping = tuple(pair(sides, "cropping", self.name, least=0) for sides in axes)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        h, w = (size - sum(sides) for size, sides in zip(shape[:2], self.cropping, strict=True))
        if min(h, w) < 1:
            raise ValueError(f"{self.name}: cropping {self.cropping} leaves nothing of an image of "
                             f"{shape[0]}x{shape[1]} pixels; crop less")
        return h, w, shape[2]

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(resizing.Crop(x, self.cropping, layer=self))


class Permute(DeclaredLayer):
    """The axes of each sample in another order: `Permute((3, 1, 2))` gives channels first.

    Parameters
    ----------
    dims : for each axis of the output, the axis of the input, counted from 1; up to three of them.

    Raises
    ------
    TypeError, ValueError
        When `dims` does not hold each of 1, 2, ... once; when called, for inputs with another number of axes.
    """

    def __init__(self, dims: Any, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.dims = sample_shape(dims, "dims", self.name)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)) or len(self.dims) > 3:
            raise ValueError(f"{self.name}: dims must hold each of 1, 2 and up to 3 once, got {dims!r}; the batch "
                             f"axis, 0, stays where it is")

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        if len(input_shape) != len(self.dims) + 1:
            raise ValueError(f"{self.name}: dims={self.dims} needs an input of {len(self.dims) + 1} axes with the "
                             f"batch, got shape {tuple(input_shape)}; give one number for each of its axes")

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(shape[axis - 1] for axis in self.dims)

    def lower(self, plan: Lowering, x: Value) -> Value:
        missing = 3 - len(self.dims)
        order = [*range(missing), *(axis - 1 + missing for axis in self.dims)]
        return plan.add(resizing.Permute(x, order, self.sample_output(x.shape), layer=self))
