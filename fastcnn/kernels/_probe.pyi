import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op

class FmaLoop(Op):
    flops: float
    def __init__(self, iterations: int, items: int) -> None: ...

class CopyLoop(Op):
    def __init__(self, source: NDArray[np.uint8], target: NDArray[np.uint8], items: int) -> None: ...
