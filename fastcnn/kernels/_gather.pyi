import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor
from fastcnn.kernels._panels import Pair, Panel, Taps

STRIP_PIXELS: int
SMALL_WEIGHTS: int
IDLE_DEPTH: int
SLICE_DEPTH: int
DENSE_UNITS: int
LEAST_DENSE_UNITS: int
ROWS_AHEAD: int
WIDE_BLOCKS: int

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
