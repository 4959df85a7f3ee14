import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor
from fastcnn.kernels._panels import Panel

BAND_BYTES: int

def most_channels() -> int: ...

class PooledWeightGrad(Op):
    algorithm: str
    def __init__(
        self,
        panel: Panel,
        dy: Tensor,
        arg: NDArray[np.uint8],
        dw: NDArray[np.float32],
        db: NDArray[np.float32] | None = None,
        name: str = "weight gradient",
    ) -> None: ...
