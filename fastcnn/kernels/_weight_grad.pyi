import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor
from fastcnn.kernels._optim import Rule
from fastcnn.kernels._panels import Panel

GRAD_PIXELS: int
GRAD_UNITS: int

class WeightGrad(Op):
    algorithm: str
    def __init__(
        self,
        panel: Panel,
        dy: Tensor,
        dw: NDArray[np.float32],
        db: NDArray[np.float32] | None = None,
        groups: int = 1,
        by_channels: bool = False,
        copied: bool = False,
        update: Rule | None = None,
        name: str = "weight gradient",
    ) -> None: ...
