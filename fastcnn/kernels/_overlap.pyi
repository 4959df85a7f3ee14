import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor
from fastcnn.kernels._panels import Panel

Pair = tuple[int, int]

BAND_BYTES: int

class OverlapWeights:
    packed_size: int
    def __init__(self, w: NDArray[np.float32], packed: NDArray[np.float32] | None = None) -> None: ...

class PackOverlap(Op):
    def __init__(self, weights: OverlapWeights, name: str = "pack") -> None: ...

class OverlapInputGrad(Op):
    algorithm: str
    def __init__(
        self,
        dy: Tensor,
        weights: OverlapWeights,
        dx: Tensor,
        padding: Pair = (0, 0),
        bands: int = 1,
        name: str = "input gradient",
    ) -> None: ...

class OverlapWeightGrad(Op):
    algorithm: str
    def __init__(
        self,
        panel: Panel,
        dy: Tensor,
        dw: NDArray[np.float32],
        db: NDArray[np.float32] | None = None,
        name: str = "weight gradient",
    ) -> None: ...
