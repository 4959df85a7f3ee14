"""Gradient descent."""

from __future__ import annotations

import numpy as np

from fastcnn.optimizers.base import Optimizer, Scalars, Slots
from fastcnn.schedules import LearningRateSchedule
from fastcnn.utils import flag


class SGD(Optimizer):
    """Gradient descent, with momentum on request.

    w -= lr g; with momentum μ: m = μ m - lr g and w += m, or w += μ m - lr g with Nesterov's look-ahead
    (Sutskever et al., 2013).

    Parameters
    ----------
    momentum : μ, in [0, 1]; 0 is plain descent.
    nesterov : whether momentum looks ahead.

    The others are those of every `Optimizer`.
    """

    kernel: str | None = "sgd"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "sgd",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.momentum = self._number("momentum", momentum, high=1.0)
        self.nesterov = flag(nesterov, "nesterov", name)
        self.slots = ("momentum",) if self.momentum else ()
        self.kernel = "sgd" if not self.momentum else "sgd_nesterov" if self.nesterov else "sgd_momentum"

    def scalars(self) -> dict[str, float]:
        return {**super().scalars(), "momentum": self.momentum}

    def step(self, w: np.ndarray, g: np.ndarray, slots: Slots, scalars: Scalars) -> None:
        descent = scalars["learning_rate"] * g
        if not self.momentum:
            w -= descent
            return
        m = slots["momentum"]
        m[...] = self.momentum * m - descent
        w += self.momentum * m - descent if self.nesterov else m
