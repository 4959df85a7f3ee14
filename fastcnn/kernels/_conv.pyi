from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Pair = tuple[int, int]
Taps = Sequence[Pair]

IN_PLACE: int
PADDED: int
IM2COL: int
PANEL_BYTES: int
PANEL_PIXELS: int
STRIP_PIXELS: int
SMALL_WEIGHTS: int
DENSE_UNITS: int

class Panel:
    scratch: int
    def __init__(
        self,
        x: Tensor,
        grid: Pair,
        strides: Pair,
        origin: Pair,
        taps: Taps,
        width: int,
        algorithm: str = "direct",
        unit: int = 1,
        max_pixels: int = ...,
    ) -> None: ...
    def pixel_offsets(self, image: int, row: int, col: int) -> NDArray[np.int32]: ...
    @property
    def mode(self) -> str: ...

def algorithm_of(panel: Panel) -> str: ...

class Weights:
    def __init__(
        self,
        w: NDArray[np.float32],
        taps: Taps,
        groups: int = 1,
        transposed: bool = False,
        packed: NDArray[np.float32] | None = None,
    ) -> None: ...
    @property
    def packed_size(self) -> int: ...

class PackWeights(Op):
    def __init__(self, weights: Weights, name: str = "pack") -> None: ...

class Gather(Op):
    algorithm: str
    def __init__(
        self,
        panel: Panel,
        weights: Weights,
        y: Tensor,
        bias: NDArray[np.float32] | None = None,
        clamp: tuple[float, float] = ...,
        y_origin: Pair = (0, 0),
        y_strides: Pair = (1, 1),
        bands: int = 1,
        by_channels: bool = False,
        pool: Pair | None = None,
        arg: NDArray[np.uint8] | None = None,
        pool_relu: bool = False,
        name: str = "gather",
    ) -> None: ...

class WeightGrad(Op):
    algorithm: str
    def __init__(
        self,
        panel: Panel,
        dy: Tensor,
        dw: NDArray[np.float32],
        db: NDArray[np.float32] | None = None,
        groups: int = 1,
        by_channels: bool = False,
        name: str = "weight gradient",
    ) -> None: ...
