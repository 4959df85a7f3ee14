import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Pair = tuple[int, int]

BAND_BYTES: int

class PlaneConv(Op):
    algorithm: str
    def __init__(
        self,
        x: Tensor,
        w: NDArray[np.float32],
        y: Tensor,
        bias: NDArray[np.float32] | None = None,
        origin: Pair = (0, 0),
        clamp: tuple[float, float] = ...,
        bands: int = 1,
        pooled: bool = False,
        arg: NDArray[np.uint8] | None = None,
        pool_relu: bool = False,
        name: str = "plane convolution",
    ) -> None: ...
