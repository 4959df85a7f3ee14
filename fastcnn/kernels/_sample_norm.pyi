from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Clamp = tuple[float, float]

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
