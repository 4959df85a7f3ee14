from collections.abc import Sequence

from fastcnn.kernels._op import Op

class Series(Op):
    algorithm: str
    def __init__(self, ops: Sequence[Op], name: str = "series") -> None: ...
