from collections.abc import Sequence

from numpy.typing import NDArray

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

class Tensor:
    owner: NDArray | None
    images: int
    def __init__(
        self, shape: Sequence[int], view: NDArray | None = None, halo: Pads = ..., offset: int = 0
    ) -> None: ...
    @property
    def shape(self) -> tuple[int, int, int, int]: ...

class Op:
    scratch: int
    items: int
    name: str
