"""Layers that disturb training so that models generalise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcnn.layers.arguments import own_seed
from fastcnn.layers.declared import IMAGES, DeclaredLayer
from fastcnn.plan import operations
from fastcnn.utils import real_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


def dropout_rate(rate: Any, where: str) -> float:
    """`rate` as a float of [0, 1); TypeError or ValueError names the layer."""
    number = real_number(rate, "rate", where, low=0.0)
    if number >= 1.0:
        raise ValueError(f"{where}: rate must be less than 1, got {rate!r}; give the share of values set to "
                         f"zero, such as 0.5")
    return number


class Dropout(DeclaredLayer):
    """In training, sets a random share of the values to zero and scales the others by 1 / (1 - rate).

    Source: Srivastava et al., 2014 (inverted form). In inference the input passes unchanged.

    Parameters
    ----------
    rate : share of the values set to zero, in [0, 1).
    seed : a whole number makes the layer independent of `fastcnn.seed`: a model made anew drops the same values in the
        same steps of training.
    """

    spatial = False  # one decision per value, or per channel of an image

    def __init__(self, rate: float, seed: int | None = None, input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.rate = dropout_rate(rate, self.name)
        self.seed = own_seed(seed, self.name)

    def lower(self, plan: Lowering, x: Value) -> Value:
        if not plan.training or not self.rate:
            return x
        return plan.add(operations.Dropout(x, self.rate, self.spatial, self.seed, layer=self))


class SpatialDropout2D(Dropout):
    """In training, sets whole channels of an image to zero at random and scales the others by 1 / (1 - rate).

    Source: Tompson et al., 2015. Input and output (batch, height, width, channels).

    Parameters
    ----------
    rate : share of the channels set to zero, in [0, 1).
    seed : see `Dropout`.
    """

    axes = IMAGES
    spatial = True
