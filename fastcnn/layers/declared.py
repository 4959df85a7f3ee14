"""The base of the layers in this package: shapes per sample, checked, and a configuration for files."""

from __future__ import annotations

import inspect
from typing import Any

from fastcnn.arrays import IMAGES as IMAGES
from fastcnn.arrays import SEQUENCES as SEQUENCES
from fastcnn.arrays import VOLUMES as VOLUMES
from fastcnn.layers.arguments import Shape, sample_shape
from fastcnn.layers.base import Layer
from fastcnn.utils import Configurable, serialize


class DeclaredLayer(Layer):
    """A layer that says what it does to one sample.

    Subclasses define `sample_output(shape)`, the shape of one output sample, and keep each argument of their
    constructor in an attribute of the same name. `axes` is the shape that the input must have, in words.

    Parameters
    ----------
    input_shape : shape of one sample, for the first layer of a Sequential model; kept as `given_input_shape`.
    name : unique within a model.
    trainable : False freezes the weights.
    """

    axes = ""

    def __init__(self, input_shape: Any = None, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(trainable=trainable, name=name)
        self.given_input_shape = (None if input_shape is None else
                                  sample_shape(input_shape, "input_shape", self.name))

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for one sample of `shape`."""
        return shape

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output, batch first; ValueError for an input that this layer cannot take."""
        self.check_input(input_shape)
        return (input_shape[0], *self.sample_output(tuple(input_shape[1:])))

    def check_input(self, input_shape: Any) -> None:
        """Raise ValueError unless there is one input, with the axes wanted and every size known."""
        if input_shape and isinstance(input_shape[0], (tuple, list)):
            raise ValueError(f"{self.name}: expected one input, got a list of {len(input_shape)}, of shapes "
                             f"{list(input_shape)}; call the layer on each, or combine them first")
        shape = tuple(input_shape)
        rank = self.axes.count(",") + 1
        if self.axes and len(shape) != rank:
            hint = ("add the missing axis first, e.g. x[..., None] for a single channel" if len(shape) == rank - 1
                    else "reshape it first, e.g. with a Reshape layer")
            raise ValueError(f"{self.name}: expected an input of shape {self.axes}, got {shape}; {hint}")
        if None in shape[1:]:
            raise ValueError(f"{self.name}: expected known sizes after the batch axis, got {shape}; give "
                             f"every size in Input or input_shape")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        parameters = inspect.signature(type(self)).parameters.values()
        names = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        return {name: _plain(self.given_input_shape if name == "input_shape" else getattr(self, name))
                for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, Configurable):
        return serialize(value)
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value
