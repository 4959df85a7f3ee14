from collections.abc import Sequence

from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

KINDS: dict[str, int]

class _Merge(Op): ...

class Merge(_Merge):
    def __init__(self, kind: str, inputs: Sequence[Tensor], y: Tensor, clamp: tuple[float, float] = ...) -> None: ...

class MergeGrad(_Merge):
    def __init__(
        self, kind: str, dy: Tensor, inputs: Sequence[Tensor], y: Tensor, index: int, dx: Tensor
    ) -> None: ...

class Paste(Op):
    def __init__(self, part: Tensor, whole: Tensor, at: Sequence[int]) -> None: ...

class Cut(Op):
    def __init__(self, whole: Tensor, part: Tensor, at: Sequence[int]) -> None: ...

class PRelu(Op):
    def __init__(self, x: Tensor, slope: Tensor, y: Tensor) -> None: ...

class PReluGrad(PRelu):
    def __init__(self, dy: Tensor, x: Tensor, slope: Tensor, dx: Tensor) -> None: ...

class PReluSlopeGrad(PRelu):
    def __init__(self, dy: Tensor, x: Tensor, slope: Tensor, parts: NDArray) -> None: ...
