import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op
from fastcnn.kernels._winograd_tiles import Tiles
from fastcnn.kernels._winograd_weights import WinogradWeights

Pair = tuple[int, int]

SUM_BYTES: int
GRAD_BLOCK_BYTES: int
LEAST_SLICES: int

def gradient_slices(points: int, ic: int, oc: int, least: int) -> Pair: ...

class WinogradGradients(Op):
    def __init__(
        self,
        x: Tiles,
        dy: Tiles,
        dw: NDArray[np.float32],
        db: NDArray[np.float32] | None = None,
        by_channels: bool = False,
        dx: Tiles | None = None,
        weights: WinogradWeights | None = None,
        name: str = "winograd weight gradient",
    ) -> None: ...
