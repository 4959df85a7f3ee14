"""Adam and what has become of it."""

from __future__ import annotations

import math

import numpy as np

from fastcnn.optimizers.base import Optimizer, Scalars, Slots, decay_rate
from fastcnn.schedules import LearningRateSchedule


class Adam(Optimizer):
    """m = β₁ m + (1-β₁) g, v = β₂ v + (1-β₂) g², w -= α m / (√v + ε), α = lr √(1-β₂ᵗ) / (1-β₁ᵗ).

    Source: Kingma & Ba (2015), the form with the bias corrections folded into α (end of its section 2).

    Parameters
    ----------
    beta_1, beta_2 : β₁ and β₂, of the moving averages of the gradient and of its square, in [0, 1).
    epsilon : ε, at least 0.

    The others are those of every `Optimizer`.
    """

    slots = ("momentum", "velocity")
    kernel: str | None = "adam"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "adam",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.beta_1 = decay_rate(beta_1, "beta_1", name)
        self.beta_2 = decay_rate(beta_2, "beta_2", name)
        self.epsilon = self._number("epsilon", epsilon)

    def scalars(self) -> dict[str, float]:
        t = self.iterations + 1
        common = super().scalars()
        alpha = common["learning_rate"] * math.sqrt(1.0 - self.beta_2**t) / (1.0 - self.beta_1**t)
        rates = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**common, "alpha": alpha, **rates}

    def step(self, w: np.ndarray, g: np.ndarray, slots: Slots, scalars: Scalars) -> None:
        m, v = slots["momentum"], slots["velocity"]
        m += (1.0 - self.beta_1) * (g - m)
        v += (1.0 - self.beta_2) * (g * g - v)
        w -= scalars["alpha"] * m / (np.sqrt(v) + self.epsilon)


class AdamW(Adam):
    """Adam with decoupled weight decay by default (Loshchilov & Hutter, 2019)."""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "adamw",
    ) -> None:
        if weight_decay is None:
            raise ValueError(f"{name}: weight_decay must be a number, got None; use Adam for none")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, weight_decay, clipnorm, clipvalue, global_clipnorm, name
        )


class Nadam(Adam):
    """Adam with Nesterov's look-ahead (Dozat, 2016).

    With μₜ = β₁ (1 - 0.96ᵗ / 2) and πₜ = μ₁ ... μₜ, and m and v as in Adam:
    w -= lr (μₜ₊₁ m / (1 - πₜ₊₁) + (1 - μₜ) g / (1 - πₜ)) / (√(v / (1 - β₂ᵗ)) + ε).
    """

    kernel = "nadam"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "nadam",
    ) -> None:
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, weight_decay, clipnorm, clipvalue, global_clipnorm, name
        )
        self._product = (0, 1.0)  # t and its product of μ: kept, as it takes t factors to find anew

    def scalars(self) -> dict[str, float]:
        t = self.iterations + 1
        now, ahead, product = self._mu(t), self._mu(t + 1), self._mu_product(t)
        common = super().scalars()
        return {
            **common,
            "momentum_factor": common["learning_rate"] * ahead / (1.0 - product * ahead),
            "gradient_factor": common["learning_rate"] * (1.0 - now) / (1.0 - product),
            "velocity_factor": 1.0 / (1.0 - self.beta_2**t),
        }

    def _mu(self, t: int) -> float:
        return self.beta_1 * (1.0 - 0.5 * 0.96**t)

    def _mu_product(self, t: int) -> float:
        done, product = self._product if self._product[0] <= t else (0, 1.0)
        for i in range(done + 1, t + 1):
            product *= self._mu(i)
        self._product = (t, product)
        return product

    def step(self, w: np.ndarray, g: np.ndarray, slots: Slots, scalars: Scalars) -> None:
        m, v = slots["momentum"], slots["velocity"]
        m += (1.0 - self.beta_1) * (g - m)
        v += (1.0 - self.beta_2) * (g * g - v)
        step = scalars["momentum_factor"] * m + scalars["gradient_factor"] * g
        w -= step / (np.sqrt(v * scalars["velocity_factor"]) + self.epsilon)
