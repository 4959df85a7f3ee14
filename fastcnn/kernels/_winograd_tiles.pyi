import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Tensor

Pair = tuple[int, int]

MIN_TILES: int
MAX_TILES: int

def tiles_per_block(points: int, channels: int, memory: int, unit: int = 1) -> int: ...
def line_of(m: int, whole: bool) -> int: ...
def points_of(m: int, whole: bool) -> int: ...
def points_along(length: int, m: int) -> int: ...

class Tiles:
    images: int
    def __init__(
        self,
        x: Tensor,
        grid: Pair,
        m: int,
        size: int,
        origin: Pair = (0, 0),
        arg: NDArray[np.uint8] | None = None,
        whole: bool = False,
    ) -> None: ...
