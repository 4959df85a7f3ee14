import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

DTYPES: tuple[np.dtype, ...]

def all_finite(source: NDArray[np.float32]) -> bool: ...

def class_labels(source: NDArray, classes: int, ignored: int | None = None) -> NDArray[np.int32] | None: ...

class Load(Op):
    def __init__(self, x: Tensor, name: str = "load") -> None: ...
    def point_at(self, source: NDArray, samples: NDArray[np.intp] | None = None, first: int = 0) -> None: ...
