import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

DTYPES: tuple[np.dtype, ...]

class Load(Op):
    def __init__(self, x: Tensor, name: str = "load") -> None: ...
    def point_at(self, source: NDArray, samples: NDArray[np.intp] | None = None, first: int = 0) -> None: ...
