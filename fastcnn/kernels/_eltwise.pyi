from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Pads = tuple[tuple[int, int], tuple[int, int]]

def activations() -> list[str]: ...
def grad_needs(kind: str) -> str: ...
def default_param(kind: str) -> float: ...

class Activation(Op):
    def __init__(self, kind: str, x: Tensor, y: Tensor, param: float | None = None) -> None: ...

class ActivationGrad(Op):
    def __init__(
        self,
        kind: str,
        dy: Tensor,
        x: Tensor | None,
        y: Tensor | None,
        dx: Tensor,
        param: float | None = None,
    ) -> None: ...

class Softmax(Op):
    def __init__(self, x: Tensor, y: Tensor, log: bool = False) -> None: ...

class SoftmaxGrad(Op):
    def __init__(self, dy: Tensor, y: Tensor, dx: Tensor, log: bool = False) -> None: ...

class AddTensors(Op):
    def __init__(self, y: Tensor, a: Tensor, b: Tensor) -> None: ...

class Rescale(Op):
    def __init__(self, x: Tensor, y: Tensor, scale: float = 1, offset: float = 0) -> None: ...

class Copy(Op):
    def __init__(self, x: Tensor, y: Tensor) -> None: ...

class ZeroPad(Op):
    def __init__(self, x: Tensor, y: Tensor, pads: Pads) -> None: ...

class Crop(Op):
    def __init__(self, x: Tensor, y: Tensor, pads: Pads) -> None: ...

class BiasGrad(Op):
    def __init__(self, dy: Tensor, parts: NDArray) -> None: ...

class Reduce(Op):
    def __init__(self, parts: NDArray, out: NDArray) -> None: ...

class Dropout(Op):
    def __init__(
        self, x: Tensor, y: Tensor, rate: float, state: NDArray, stream: int, spatial: bool = False
    ) -> None: ...

class DropoutGrad(Dropout):
    def __init__(
        self, dy: Tensor, dx: Tensor, rate: float, state: NDArray, stream: int, spatial: bool = False
    ) -> None: ...
