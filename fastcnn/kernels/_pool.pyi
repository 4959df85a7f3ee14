from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

class Pool(Op): ...

class MaxPool(Pool):
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        pool: Pair,
        strides: Pair,
        pads: Pads = ...,
        arg: NDArray | None = None,
        *,
        minimum: bool = False,
        relu: bool = False,
    ) -> None: ...

class MaxPoolGrad(Pool):
    def __init__(
        self, dy: Tensor, dx: Tensor, arg: NDArray, pool: Pair, strides: Pair, pads: Pads = ...
    ) -> None: ...

class AvgPool(Pool):
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        pool: Pair,
        strides: Pair,
        pads: Pads = ...,
        *,
        count_include_pad: bool = False,
    ) -> None: ...

class AvgPoolGrad(Pool):
    def __init__(
        self,
        dy: Tensor,
        dx: Tensor,
        pool: Pair,
        strides: Pair,
        pads: Pads = ...,
        *,
        count_include_pad: bool = False,
    ) -> None: ...

class GlobalMaxPool(MaxPool):
    def __init__(self, x: Tensor, y: Tensor, arg: NDArray | None = None) -> None: ...

class GlobalMaxPoolGrad(MaxPoolGrad):
    def __init__(self, dy: Tensor, dx: Tensor, arg: NDArray) -> None: ...

class GlobalAvgPool(AvgPool):
    def __init__(self, x: Tensor, y: Tensor) -> None: ...

class GlobalAvgPoolGrad(AvgPoolGrad):
    def __init__(self, dy: Tensor, dx: Tensor) -> None: ...
