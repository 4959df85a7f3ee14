"""Layers that change images at random in training, so that a model learns what does not matter.

Each image gets numbers of its own, a function of the model's seed, the training step and the image's place in
the batch: `fastcnn.seed` repeats them, on any number of threads. In inference images pass unchanged. These layers have
no gradient: they stand before all layers with trainable weights.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastcnn.errors import unknown_name
from fastcnn.kernels import _augment
from fastcnn.layers.arguments import own_seed
from fastcnn.layers.declared import IMAGES, DeclaredLayer
from fastcnn.plan.augmentation import Augment, Driver
from fastcnn.utils import real_number, whole_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value

Bounds = tuple[float, float]


class _Augmentation(DeclaredLayer):
    """Base: `driver` makes the engine's op for images of one shape."""

    axes = IMAGES

    def __init__(self, seed: int | None, input_shape: Any, name: str | None) -> None:
        super().__init__(input_shape, name)
        self.seed = own_seed(seed, self.name)

    def driver(self, shape: tuple[int, ...]) -> Driver:
        """The op for images (h, w, channels), but for its tensors and random numbers."""
        raise NotImplementedError

    def lower(self, plan: Lowering, x: Value) -> Value:
        if not plan.training:
            return x
        return plan.add(Augment(x, self.sample_output(x.shape), self.driver(x.shape), layer=self))


class RandomFlip(_Augmentation):
    """Mirrors each image with chance 1/2, along each axis chosen.

    Parameters
    ----------
    mode : 'horizontal' (left and right change places), 'vertical', or 'horizontal_and_vertical'.
    seed : a whole number makes the layer independent of `fastcnn.seed`.
    """

    MODES = ("horizontal", "vertical", "horizontal_and_vertical")

    def __init__(self, mode: str = "horizontal_and_vertical", seed: int | None = None, input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(seed, input_shape, name)
        if mode not in self.MODES:
            raise unknown_name("mode", mode, self.MODES, self.name)
        self.mode = mode

    def driver(self, shape: tuple[int, ...]) -> Driver:
        flips = "vertical" in self.mode, "horizontal" in self.mode
        return partial(_augment.RandomAffine, flips=flips, interpolation="nearest", seed=self.seed)


class _Sampling(_Augmentation):
    """Base of the layers that read images between their pixels.

    Parameters
    ----------
    fill_mode : what lies beyond the borders of the pixels a b c d: 'reflect' (b a | a b c d | d c), 'wrap'
        (c d | a b c d | a b), 'nearest' (a a | a b c d | d d) or 'constant' (`fill_value`).
    interpolation : 'bilinear' or 'nearest'.
    """

    def __init__(self, fill_mode: str, interpolation: str, seed: int | None, fill_value: float, input_shape: Any,
                 name: str | None) -> None:
        super().__init__(seed, input_shape, name)
        for what, value, choices in (("fill_mode", fill_mode, _augment.FILL_MODES),
                                     ("interpolation", interpolation, _augment.INTERPOLATIONS)):
            if value not in choices:
                raise unknown_name(what, value, choices, self.name)
        self.fill_mode, self.interpolation = fill_mode, interpolation
        self.fill_value = real_number(fill_value, "fill_value", self.name)

    def sampling(self, **motion: Any) -> Driver:
        return partial(_augment.RandomAffine, fill_mode=self.fill_mode, interpolation=self.interpolation,
                       fill_value=self.fill_value, seed=self.seed, **motion)


class RandomTranslation(_Sampling):
    """Shifts each image.

    Parameters
    ----------
    height_factor, width_factor : bounds (low, high) of the shift down and to the right, as a share of the image's
        size, in [-1, 1]; a number f means (-f, f).
    fill_mode, interpolation, fill_value : 'reflect' (b a | a b c d | d c), 'wrap' (c d | a b c d | a b), 'nearest'
        (a a | a b c d | d d) or 'constant' (`fill_value`) beyond the borders; 'bilinear' or 'nearest'.
    seed : a whole number makes the layer independent of `fastcnn.seed`.
    """

    def __init__(self, height_factor: Any, width_factor: Any, fill_mode: str = "reflect",
                 interpolation: str = "bilinear", seed: int | None = None, fill_value: float = 0.0,
                 input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, input_shape, name)
        self.height_factor, self.width_factor = height_factor, width_factor
        self.down = _bounds(height_factor, "height_factor", self.name)
        self.right = _bounds(width_factor, "width_factor", self.name)

    def driver(self, shape: tuple[int, ...]) -> Driver:
        # Pixels come from where they are shifted from, in the opposite direction.
        shift = tuple((-high * size, -low * size)
                      for (low, high), size in zip((self.down, self.right), shape, strict=False))
        return self.sampling(shift=shift)


class RandomRotation(_Sampling):
    """Turns each image about its centre.

    Parameters
    ----------
    factor : bounds (low, high) of the angle, counter-clockwise, as a share of a full turn, in [-1, 1]; a number f
        means (-f, f).
    fill_mode, interpolation, fill_value, seed : see `RandomTranslation`.
    """

    def __init__(self, factor: Any, fill_mode: str = "reflect", interpolation: str = "bilinear",
                 seed: int | None = None, fill_value: float = 0.0, input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, input_shape, name)
        self.factor = factor
        self.turn = _bounds(factor, "factor", self.name)

    def driver(self, shape: tuple[int, ...]) -> Driver:
        return self.sampling(turn=self.turn)


class RandomZoom(_Sampling):
    """Makes each image smaller (positive factors) or larger (negative ones), about its centre.

    Parameters
    ----------
    height_factor : bounds (low, high), in [-1, 1]: at factor f the image shows 1 + f times as many rows; a number f
        means (-f, f).
    width_factor : the same for columns; None zooms both axes by the same factor.
    fill_mode, interpolation, fill_value, seed : see `RandomTranslation`.
    """

    def __init__(self, height_factor: Any, width_factor: Any = None, fill_mode: str = "reflect",
                 interpolation: str = "bilinear", seed: int | None = None, fill_value: float = 0.0,
                 input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, input_shape, name)
        self.height_factor, self.width_factor = height_factor, width_factor
        self.rows = _bounds(height_factor, "height_factor", self.name)
        self.columns = None if width_factor is None else _bounds(width_factor, "width_factor", self.name)

    def driver(self, shape: tuple[int, ...]) -> Driver:
        columns = None if self.columns is None else _one_plus(self.columns)
        return self.sampling(zoom=(_one_plus(self.rows), columns))


class RandomCrop(_Augmentation):
    """Cuts a window out of each image, in training at random.

    In inference, and for images smaller than the window, the largest part in the middle that has the window's
    proportions is brought to its size, bilinearly. Input (batch, h, w, channels), output (batch, height, width,
    channels).

    Parameters
    ----------
    height, width : of the window.
    seed : a whole number makes the layer independent of `fastcnn.seed`.
    """

    def __init__(self, height: int, width: int, seed: int | None = None, input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(seed, input_shape, name)
        self.height = whole_number(height, "height", self.name)
        self.width = whole_number(width, "width", self.name)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.height, self.width, shape[2]

    def driver(self, shape: tuple[int, ...]) -> Driver:
        spare = tuple((0, size - window + 1) for size, window in zip(shape, (self.height, self.width), strict=False))
        return partial(_augment.RandomAffine, shift=spare, whole=True, interpolation="nearest", seed=self.seed)

    def lower(self, plan: Lowering, x: Value) -> Value:
        h, w, _ = x.shape
        if (h, w) == (self.height, self.width):
            return x
        if plan.training and h >= self.height and w >= self.width:
            return super().lower(plan, x)
        return plan.add(Augment(x, self.sample_output(x.shape), self._resize(h, w), layer=self))

    def _resize(self, h: int, w: int) -> Driver:
        """Output pixel i of n shows the middle of the i-th of n parts of the section."""
        rows = min(h, max(1, w * self.height // self.width))
        columns = min(w, max(1, h * self.width // self.height))
        down, right = rows / self.height, columns / self.width
        matrix = ((h - rows) // 2 + (down - 1) / 2, down, 0, (w - columns) // 2 + (right - 1) / 2, 0, right)
        return lambda x, y, state, stream: _augment.Affine(x, y, matrix, fill_mode="nearest")


class _Shading(_Augmentation):
    """Base of the layers that change values, and clip them to `value_range`."""

    def __init__(self, value_range: Any, seed: int | None, input_shape: Any, name: str | None) -> None:
        super().__init__(seed, input_shape, name)
        self.value_range = _pair(value_range, "value_range", self.name)


class RandomBrightness(_Shading):
    """Adds a number to all values of an image.

    Parameters
    ----------
    factor : bounds (low, high) of that number as a share of the range's size, in [-1, 1]; a number f means (-f, f).
    value_range : least and largest value of the images; results are clipped to it.
    seed : a whole number makes the layer independent of `fastcnn.seed`.
    """

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(value_range, seed, input_shape, name)
        self.factor = factor
        self.share = _bounds(factor, "factor", self.name)

    def driver(self, shape: tuple[int, ...]) -> Driver:
        low, high = self.value_range
        delta = tuple(share * (high - low) for share in self.share)
        return partial(_augment.RandomBrightness, delta=delta, limits=self.value_range, seed=self.seed)


class RandomContrast(_Shading):
    """Moves the values of each channel of an image away from their mean or towards it: (x - mean) f + mean.

    Parameters
    ----------
    factor : (lower, upper), each in [0, 1], f being drawn from [1 - lower, 1 + upper]; a number stands for both.
    value_range : least and largest value of the images; results are clipped to it.
    seed : a whole number makes the layer independent of `fastcnn.seed`.
    """

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(value_range, seed, input_shape, name)
        self.factor = factor
        lower, upper = factor if isinstance(factor, (tuple, list)) and len(factor) == 2 else (factor, factor)
        self.scale = (1 - real_number(lower, "factor", self.name, 0.0, 1.0),
                      1 + real_number(upper, "factor", self.name, 0.0, 1.0))

    def driver(self, shape: tuple[int, ...]) -> Driver:
        return partial(_augment.RandomContrast, factor=self.scale, limits=self.value_range, seed=self.seed)


def _bounds(value: Any, name: str, where: str) -> Bounds:
    """Bounds in [-1, 1] from a pair, or from a number that is the size of both."""
    if not isinstance(value, (tuple, list)):
        number = abs(real_number(value, name, where, -1.0, 1.0))
        return -number, number
    low, high = _pair(value, name, where)
    return real_number(low, name, where, -1.0, 1.0), real_number(high, name, where, -1.0, 1.0)


def _pair(value: Any, name: str, where: str) -> Bounds:
    """Two numbers, the smaller one first."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{where}: {name} must be two numbers (low, high), got {value!r}")
    low, high = sorted(real_number(number, name, where) for number in value)
    return low, high


def _one_plus(bounds: Bounds) -> Bounds:
    return 1 + bounds[0], 1 + bounds[1]
