from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Array = NDArray[np.float32]
Pads = Sequence[Sequence[int]]

class DepthwiseConv(Op):
    def __init__(
        self,
        x: Tensor,
        w: Array,
        bias: Array | None,
        y: Tensor,
        strides: Sequence[int],
        pads: Pads,
        dilation: Sequence[int],
        lo: float,
        hi: float,
    ) -> None: ...

class DepthwiseInputGrad(Op):
    def __init__(
        self, dy: Tensor, w: Array, dx: Tensor, strides: Sequence[int], pads: Pads, dilation: Sequence[int]
    ) -> None: ...

class DepthwiseWeightGrad(Op):
    def __init__(
        self,
        x: Tensor,
        dy: Tensor,
        parts: Array,
        db_parts: Array | None,
        kernel_size: Sequence[int],
        strides: Sequence[int],
        pads: Pads,
        dilation: Sequence[int],
    ) -> None: ...
