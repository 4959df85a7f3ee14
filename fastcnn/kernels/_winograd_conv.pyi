import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor
from fastcnn.kernels._winograd_tiles import Tiles
from fastcnn.kernels._winograd_weights import WinogradWeights

Pair = tuple[int, int]

BLOCK_BYTES: int
UNPACKED_BLOCK_BYTES: int
SLAB: int
SHARE_CHANNELS: int
FEW_UNITS: int

def units_of_work(tiles: int, block: int, channels: int) -> Pair: ...

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

class WinogradAdjoint(Op):
    def __init__(
        self,
        dy: Tiles,
        weights: WinogradWeights,
        dx: Tiles,
        by_blocks: bool = False,
        name: str = "winograd adjoint",
    ) -> None: ...
