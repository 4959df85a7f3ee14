from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Clamp = tuple[float, float]

def sums_width(c: int) -> int: ...

class Channels:
    channels: int
    def __init__(self, mean: NDArray, scale: NDArray, shift: NDArray, clamp: Clamp = ...) -> None: ...

class Normalize(Op):
    def __init__(self, x: Tensor, y: Tensor, channels: Channels) -> None: ...

class InputGrad(Op):
    def __init__(
        self, dy: Tensor, x: Tensor, dx: Tensor, channels: Channels, offset: NDArray, slope: NDArray
    ) -> None: ...

class Moments(Op):
    def __init__(self, x: Tensor, parts: NDArray) -> None: ...

class GradSums(Op):
    def __init__(self, dy: Tensor, x: Tensor, parts: NDArray, channels: Channels) -> None: ...

class BatchStatistics(Op):
    def __init__(
        self,
        parts: NDArray,
        gamma: NDArray | None,
        epsilon: float,
        mean: NDArray,
        scale: NDArray,
        inverse: NDArray,
        moving: tuple[NDArray, NDArray] | None = None,
        momentum: float = 0,
    ) -> None: ...

class BatchNormGrad(Op):
    def __init__(
        self,
        parts: NDArray,
        scale: NDArray,
        inverse: NDArray,
        dgamma: NDArray | None,
        dbeta: NDArray | None,
        offset: NDArray,
        slope: NDArray,
    ) -> None: ...

class MovingScale(Op):
    def __init__(self, gamma: NDArray | None, variance: NDArray, epsilon: float, scale: NDArray) -> None: ...

class FoldNorm(MovingScale):
    def __init__(
        self,
        w: NDArray,
        b: NDArray | None,
        gamma: NDArray | None,
        beta: NDArray | None,
        mean: NDArray,
        variance: NDArray,
        epsilon: float,
        folded: NDArray,
        bias: NDArray,
    ) -> None: ...

class Standardize(Op):
    def __init__(
        self,
        mean: NDArray,
        variance: NDArray,
        source: NDArray,
        channels: tuple[NDArray, NDArray, NDArray],
        invert: bool = False,
    ) -> None: ...

class LayerNorm(Op):
    def __init__(self, x: Tensor, y: Tensor, gamma: NDArray, beta: NDArray, epsilon: float) -> None: ...

class LayerNormGrad(Op):
    def __init__(
        self,
        dy: Tensor,
        x: Tensor,
        dx: Tensor | None,
        dgamma: NDArray | None,
        dbeta: NDArray | None,
        gamma: NDArray,
        epsilon: float,
    ) -> None: ...

class GroupNorm(Op):
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        groups: int,
        gamma: NDArray,
        beta: NDArray,
        epsilon: float,
        clamp: Clamp = ...,
    ) -> None: ...

class GroupNormGrad(Op):
    def __init__(
        self,
        dy: Tensor,
        x: Tensor,
        dx: Tensor | None,
        dgamma: NDArray | None,
        dbeta: NDArray | None,
        groups: int,
        gamma: NDArray,
        beta: NDArray,
        epsilon: float,
        clamp: Clamp = ...,
    ) -> None: ...
