from numpy.typing import NDArray

from fastcnn.kernels._norm import Channels
from fastcnn.kernels._op import Op, Tensor

def sums_width(c: int) -> int: ...

class Moments(Op):
    def __init__(self, x: Tensor, parts: NDArray) -> None: ...

class GradSums(Op):
    def __init__(self, dy: Tensor, x: Tensor, parts: NDArray, channels: Channels) -> None: ...

class BatchStatistics(Op):
    def __init__(
        self,
        parts: NDArray,
        gamma: NDArray | None,
        beta: NDArray | None,
        epsilon: float,
        mean: NDArray,
        scale: NDArray,
        shift: NDArray,
        inverse: NDArray,
        rest: NDArray,
        moving: tuple[NDArray, NDArray] | None = None,
        momentum: float = 0,
    ) -> None: ...

class BatchNormGrad(Op):
    def __init__(
        self,
        parts: NDArray,
        scale: NDArray,
        inverse: NDArray,
        rest: NDArray,
        dgamma: NDArray | None,
        dbeta: NDArray | None,
        offset: NDArray,
        slope: NDArray,
    ) -> None: ...
