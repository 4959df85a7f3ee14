from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastcnn.kernels._op import Op, Tensor

Bounds = tuple[float, float]

FILL_MODES: dict[str, int]
INTERPOLATIONS: tuple[str, ...]

class Affine(Op):
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        matrix: Sequence[float],
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        fill_value: float = 0,
    ) -> None: ...

class RandomAffine(Affine):
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        state: NDArray[np.uint64],
        stream: int,
        flips: tuple[bool, bool] = (False, False),
        turn: Bounds = (0, 0),
        zoom: tuple[Bounds, Bounds | None] = ((1, 1), None),
        shift: tuple[Bounds, Bounds] = ((0, 0), (0, 0)),
        whole: bool = False,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        fill_value: float = 0,
        seed: int | None = None,
    ) -> None: ...

class RandomBrightness(Op):
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        state: NDArray[np.uint64],
        stream: int,
        delta: Bounds,
        limits: Bounds,
        seed: int | None = None,
    ) -> None: ...

class RandomContrast(RandomBrightness):
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        state: NDArray[np.uint64],
        stream: int,
        factor: Bounds,
        limits: Bounds,
        seed: int | None = None,
    ) -> None: ...
