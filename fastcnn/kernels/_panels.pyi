from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Tensor

Pair = tuple[int, int]
Taps = Sequence[Pair]

IN_PLACE: int
PADDED: int
IM2COL: int
PANEL_BYTES: int
PANEL_PIXELS: int

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
        copied: bool = False,
        slices: int = 1,
    ) -> None: ...
    def pixel_offsets(self, image: int, row: int, col: int) -> NDArray[np.int32]: ...
    def window_offsets(self) -> NDArray[np.int32]: ...
    @property
    def mode(self) -> str: ...

def algorithm_of(panel: Panel) -> str: ...
def check_span(floats: int) -> None: ...
def grid_offsets(images: int, rows: int, cols: int, image: int, row: int, col: int) -> NDArray[np.int32]: ...
