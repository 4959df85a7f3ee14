from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Clamp = tuple[float, float]

class Channels:
    channels: int
    def __init__(self, mean: NDArray, scale: NDArray, shift: NDArray, clamp: Clamp = ...) -> None: ...

class Normalize(Op):
    def __init__(self, x: Tensor, y: Tensor, channels: Channels) -> None: ...

class InputGrad(Op):
    def __init__(
        self, dy: Tensor, x: Tensor, dx: Tensor, channels: Channels, offset: NDArray, slope: NDArray
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
