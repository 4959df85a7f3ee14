from collections.abc import Iterable, Sequence

from numpy.typing import NDArray

from fastcnn.kernels._op import Op

Segments = Iterable[tuple[int, int, int, bool]]

BLOCK: int
SCALARS: int

def rules() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]: ...

class Rule:
    name: str
    size: int
    def __init__(self, rule: str, w: NDArray, slots: Sequence[NDArray], scalars: NDArray) -> None: ...

class Update(Op):
    def __init__(
        self,
        rule: str,
        w: NDArray,
        g: NDArray,
        slots: Sequence[NDArray],
        scalars: NDArray,
        segments: Segments,
        scale: NDArray | None = None,
    ) -> None: ...

class SquaredNorm(Op):
    def __init__(self, g: NDArray, segments: Segments) -> None: ...
    def per_variable(self, variables: int) -> NDArray: ...
