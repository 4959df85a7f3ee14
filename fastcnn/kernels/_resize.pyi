from collections.abc import Sequence

from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

INTERPOLATIONS: tuple[str, ...]

def half_pixel_table(inputs: int, times: int) -> tuple[NDArray, NDArray, NDArray]: ...

class Upsample(Op):
    def __init__(self, x: Tensor, y: Tensor, size: tuple[int, int], interpolation: str = "nearest") -> None: ...

class UpsampleGrad(Upsample):
    def __init__(self, dy: Tensor, dx: Tensor, size: tuple[int, int], interpolation: str = "nearest") -> None: ...

class Permute(Op):
    def __init__(self, x: Tensor, y: Tensor, order: Sequence[int]) -> None: ...
