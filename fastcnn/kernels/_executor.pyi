from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op

class Stage:
    ops: list[Op]
    items: int
    group: int
    chunk: int
    barrier: bool
    descending: bool
    def __init__(
        self, ops: Iterable[Op], items: int, group: int = 1, chunk: int | None = None, barrier: bool = True,
        descending: bool = False
    ) -> None: ...
    @property
    def groups(self) -> int: ...

class Program:
    n_stages: int
    n_ops: int
    scratch: int
    local: int
    groups: int
    stages: list[Stage]
    times: NDArray[np.int64] | None
    def __init__(self, stages: Sequence[Stage], local: int = 0, serial: bool = False) -> None: ...
    @property
    def threads(self) -> int: ...
    def run(self, first: int = 0, last: int | None = None) -> None: ...

def run_op(op: Op) -> None: ...
