"""Rules that divide by the size of past gradients."""

from __future__ import annotations

import numpy as np

from fastcnn.optimizers.base import Optimizer, Scalars, Slots, decay_rate
from fastcnn.schedules import LearningRateSchedule
from fastcnn.utils import flag


class RMSprop(Optimizer):
    """v = ρ v + (1-ρ) g², w -= lr g / √(v + ε) (Hinton, 2012).

    With momentum μ: m = μ m + lr g / √(v + ε) and w -= m. With `centered` the mean gradient's square is taken
    from v: a = ρ a + (1-ρ) g, and v - a² stands for v under the root.

    Parameters
    ----------
    rho : ρ, of the moving averages, in [0, 1).
    momentum : μ, in [0, 1].
    epsilon : ε, at least 0.
    centered : whether the gradient's variance takes the place of its mean square.

    The others are those of every `Optimizer`.
    """

    kernel: str | None = "rmsprop"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "rmsprop",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.rho = decay_rate(rho, "rho", name)
        self.momentum = self._number("momentum", momentum, high=1.0)
        self.epsilon = self._number("epsilon", epsilon)
        self.centered = flag(centered, "centered", name)
        used = {"velocity": True, "average_gradient": self.centered, "momentum": self.momentum > 0}
        self.slots = tuple(slot for slot, needed in used.items() if needed)
        self.kernel = "rmsprop" + "_centered" * self.centered + "_momentum" * (self.momentum > 0)

    def scalars(self) -> dict[str, float]:
        return {**super().scalars(), "rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon}

    def step(self, w: np.ndarray, g: np.ndarray, slots: Slots, scalars: Scalars) -> None:
        v = slots["velocity"]
        v[...] = self.rho * v + (1.0 - self.rho) * (g * g)
        spread = v
        if self.centered:
            a = slots["average_gradient"]
            a[...] = self.rho * a + (1.0 - self.rho) * g
            spread = v - a * a
        descent = scalars["learning_rate"] * g / np.sqrt(spread + self.epsilon)
        if self.momentum:
            m = slots["momentum"]
            m[...] = self.momentum * m + descent
            descent = m
        w -= descent


class Adagrad(Optimizer):
    """a = a + g², w -= lr g / √(a + ε) (Duchi et al., 2011).

    Parameters
    ----------
    initial_accumulator_value : a before the first step, at least 0.
    epsilon : ε, at least 0.

    The others are those of every `Optimizer`.
    """

    slots = ("accumulator",)
    kernel = "adagrad"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "adagrad",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.initial_accumulator_value = self._number("initial_accumulator_value", initial_accumulator_value)
        self.epsilon = self._number("epsilon", epsilon)

    def initial_slot(self, slot: str) -> float:
        return self.initial_accumulator_value

    def scalars(self) -> dict[str, float]:
        return {**super().scalars(), "epsilon": self.epsilon}

    def step(self, w: np.ndarray, g: np.ndarray, slots: Slots, scalars: Scalars) -> None:
        a = slots["accumulator"]
        a += g * g
        w -= scalars["learning_rate"] * g / np.sqrt(a + self.epsilon)


class Adadelta(Optimizer):
    """a = ρ a + (1-ρ) g², d = g √(u + ε) / √(a + ε), u = ρ u + (1-ρ) d², w -= lr d (Zeiler, 2012).

    Parameters
    ----------
    rho : ρ, of the moving averages, in [0, 1).
    epsilon : ε, at least 0.

    The others are those of every `Optimizer`.
    """

    slots = ("accumulated_grad", "accumulated_delta_var")
    kernel = "adadelta"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "adadelta",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.rho = decay_rate(rho, "rho", name)
        self.epsilon = self._number("epsilon", epsilon)

    def scalars(self) -> dict[str, float]:
        return {**super().scalars(), "rho": self.rho, "epsilon": self.epsilon}

    def step(self, w: np.ndarray, g: np.ndarray, slots: Slots, scalars: Scalars) -> None:
        a, u = slots["accumulated_grad"], slots["accumulated_delta_var"]
        a[...] = self.rho * a + (1.0 - self.rho) * (g * g)
        d = g * np.sqrt(u + self.epsilon) / np.sqrt(a + self.epsilon)
        u[...] = self.rho * u + (1.0 - self.rho) * (d * d)
        w -= scalars["learning_rate"] * d
