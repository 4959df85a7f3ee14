from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

class Loss(Op): ...

class SoftmaxCrossEntropy(Loss):
    def __init__(
        self,
        x: Tensor,
        loss_rows: NDArray,
        labels: NDArray | None = None,
        targets: NDArray | None = None,
        p: Tensor | None = None,
        dx: Tensor | None = None,
        weights: NDArray | None = None,
        correct: NDArray | None = None,
        scale: float | NDArray = 1.0,
        label_smoothing: float = 0,
        ignored: int | None = None,
    ) -> None: ...

class SigmoidBinaryCrossEntropy(Loss):
    def __init__(
        self,
        x: Tensor,
        loss_rows: NDArray,
        targets: NDArray,
        p: Tensor | None = None,
        dx: Tensor | None = None,
        weights: NDArray | None = None,
        correct: NDArray | None = None,
        scale: float | NDArray = 1.0,
        label_smoothing: float = 0,
    ) -> None: ...

class MeanSquaredError(Loss):
    def __init__(
        self,
        x: Tensor,
        loss_rows: NDArray,
        targets: NDArray,
        dx: Tensor | None = None,
        weights: NDArray | None = None,
        scale: float | NDArray = 1.0,
    ) -> None: ...

class MeanAbsoluteError(Loss):
    def __init__(
        self,
        x: Tensor,
        loss_rows: NDArray,
        targets: NDArray,
        dx: Tensor | None = None,
        weights: NDArray | None = None,
        scale: float | NDArray = 1.0,
    ) -> None: ...

class LossTotal(Op):
    def __init__(self, loss_rows: NDArray, totals: NDArray, correct: NDArray | None = None) -> None: ...
