import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Pair = tuple[int, int]

BLOCK_BYTES: int
UNPACKED_BLOCK_BYTES: int
MIN_TILES: int
MAX_TILES: int
SLAB: int
SHARE_CHANNELS: int
FEW_UNITS: int
SUM_BYTES: int
GRAD_BLOCK_BYTES: int

def tiles_per_block(points: int, channels: int, memory: int) -> int: ...
def units_of_work(tiles: int, block: int, channels: int) -> Pair: ...
def gradient_slices(points: int, ic: int, oc: int, least: int) -> Pair: ...

class Tiles:
    images: int
    def __init__(self, x: Tensor, grid: Pair, m: int, size: int, origin: Pair = (0, 0)) -> None: ...

class WinogradWeights:
    def __init__(
        self,
        w: NDArray[np.float32],
        m: int,
        transposed: bool = False,
        packed: NDArray[np.float32] | None = None,
    ) -> None: ...
    @property
    def packed_size(self) -> int: ...

class PackWinograd(Op):
    def __init__(self, weights: WinogradWeights, name: str = "pack") -> None: ...

class WinogradConv(Op):
    def __init__(
        self,
        tiles: Tiles,
        weights: WinogradWeights,
        y: Tensor,
        bias: NDArray[np.float32] | None = None,
        clamp: tuple[float, float] = ...,
        by_blocks: bool = False,
        pool: Pair | None = None,
        arg: NDArray[np.uint8] | None = None,
        pool_relu: bool = False,
        name: str = "winograd",
    ) -> None: ...

class WinogradWeightGrad(Op):
    def __init__(
        self,
        x: Tiles,
        dy: Tiles,
        dw: NDArray[np.float32],
        db: NDArray[np.float32] | None = None,
        by_channels: bool = False,
        name: str = "winograd weight gradient",
    ) -> None: ...
