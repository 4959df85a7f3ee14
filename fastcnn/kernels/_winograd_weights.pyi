import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op

class WinogradWeights:
    def __init__(
        self,
        w: NDArray[np.float32],
        m: int,
        transposed: bool = False,
        turned: bool = False,
        packed: NDArray[np.float32] | None = None,
        whole: bool = False,
    ) -> None: ...
    @property
    def packed_size(self) -> int: ...

class PackWinograd(Op):
    def __init__(self, weights: WinogradWeights, name: str = "pack") -> None: ...
