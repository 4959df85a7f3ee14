"""Optimizers: rules that turn gradients into smaller losses.

An optimizer here is a declaration: hyperparameters, the names of the moment arrays (`slots`) and the scalars
of the next step. `update` is the rule itself in NumPy, on flat arrays, as the readable definition; the engine
runs a compiled form of it where `kernel` names one.

Every step runs: clip the gradients, w -= w * weight_decay * learning_rate if weight decay is asked for, the
rule with t = iterations + 1, and iterations += 1 once all weights are done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import schedules
from .schedules import LearningRateSchedule
from .utils import Configurable, real_number, resolve, serialize

Slots = Mapping[str, np.ndarray]
Scalars = Mapping[str, float]


class Optimizer(Configurable):
    """Base class: a custom optimizer sets `slots` and defines `step`.

    Parameters
    ----------
    learning_rate : a number of at least 0, or a `LearningRateSchedule` of the step.
    weight_decay : rate of decoupled weight decay (Loshchilov & Hutter, 2019), or None.
    clipnorm : largest Euclidean norm of each weight's gradient, or None.
    clipvalue : largest absolute value of a gradient's elements, or None.
    global_clipnorm : largest Euclidean norm of all gradients together, or None.
    name : shown in messages.

    Attributes
    ----------
    iterations : steps done.
    slots : names of the moment arrays, each of the size of the weights, in the compiled rule's order.
    kernel : name of the compiled rule, or None.

    Raises
    ------
    TypeError, ValueError
        For a hyperparameter of the wrong type or range, or more than one kind of clipping.
    """

    slots: tuple[str, ...] = ()
    kernel: str | None = None

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "optimizer",
    ) -> None:
        self.name = name
        self.iterations = 0
        self._rate: float | LearningRateSchedule = 0.0
        self.learning_rate = learning_rate
        self.weight_decay = None if weight_decay is None else self._number("weight_decay", weight_decay)
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        chosen = {key: value for key, value in clips.items() if value is not None}
        if len(chosen) > 1:
            raise ValueError(f"{name}: set only one of clipnorm, clipvalue and global_clipnorm, got {chosen}")
        self.clipnorm = self._bound("clipnorm", clipnorm)
        self.clipvalue = self._bound("clipvalue", clipvalue)
        self.global_clipnorm = self._bound("global_clipnorm", global_clipnorm)

    def _bound(self, name: str, value: float | None) -> float | None:
        return None if value is None else self._number(name, value, open_low=True)

    def _number(self, name: str, value: Any, high: float = math.inf, open_low: bool = False) -> float:
        return real_number(value, name, self.name, low=0.0, high=high, open_low=open_low)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; a schedule is asked for its value at `iterations`."""
        if isinstance(self._rate, LearningRateSchedule):
            return float(self._rate(self.iterations))
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, (LearningRateSchedule, Mapping)):
            self._rate = schedules.get(value, self.name)
        elif isinstance(self._rate, LearningRateSchedule):
            raise TypeError(
                f"{self.name}: the learning rate follows {self._rate!r} and cannot be set to {value!r}; "
                "make the optimizer with a number as learning_rate"
            )
        else:
            self._rate = self._number("learning_rate", value)

    @property
    def has_schedule(self) -> bool:
        """Whether the learning rate follows a schedule, and so cannot be set to a number."""
        return isinstance(self._rate, LearningRateSchedule)

    def initial_slot(self, slot: str) -> float:
        """Return the number a moment array is filled with before the first step."""
        return 0.0

    def scalars(self) -> dict[str, float]:
        """Return the numbers the next step needs.

        ``decay`` is weight_decay * learning_rate (0 without weight decay), the fraction of every weight taken
        away before the rule.
        """
        rate = self.learning_rate
        return {"learning_rate": rate, "decay": rate * (self.weight_decay or 0.0)}

    def update(self, w: np.ndarray, g: np.ndarray, slots: Slots) -> None:
        """Do one step on flat arrays, in place, with clipped gradients `g`; `iterations` is left alone."""
        scalars = self.scalars()
        if scalars["decay"]:
            w -= w * scalars["decay"]
        self.step(w, g, slots, scalars)

    def step(self, w: np.ndarray, g: np.ndarray, slots: Slots, scalars: Scalars) -> None:
        """Apply the rule to `w` and the moments, in place."""
        raise NotImplementedError(f"{type(self).__name__} must define step(w, g, slots, scalars)")

    def clip(self, gradients: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the gradients, one array per weight, within the chosen bound."""
        if self.clipnorm is not None:
            return [g * _shrinkage(_norm([g]), self.clipnorm) for g in gradients]
        if self.global_clipnorm is not None:
            factor = _shrinkage(_norm(gradients), self.global_clipnorm)
            return [g * factor for g in gradients]
        if self.clipvalue is not None:
            return [np.clip(g, -self.clipvalue, self.clipvalue) for g in gradients]
        return list(gradients)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if isinstance(self._rate, LearningRateSchedule):
            config["learning_rate"] = serialize(self._rate)
        return config


class SGD(Optimizer):
    """Gradient descent, with momentum on request.

    w -= lr g; with momentum μ: m = μ m - lr g and w += m, or w += μ m - lr g with Nesterov's look-ahead
    (Sutskever et al., 2013).
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
        self.nesterov = bool(nesterov)
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


class Adam(Optimizer):
    """m = β₁ m + (1-β₁) g, v = β₂ v + (1-β₂) g², w -= α m / (√v + ε), α = lr √(1-β₂ᵗ) / (1-β₁ᵗ).

    Source: Kingma & Ba (2015), the form with the bias corrections folded into α (end of its section 2).
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
        self.beta_1 = _decay_rate(beta_1, "beta_1", name)
        self.beta_2 = _decay_rate(beta_2, "beta_2", name)
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


class RMSprop(Optimizer):
    """v = ρ v + (1-ρ) g², w -= lr g / √(v + ε) (Hinton, 2012).

    With momentum μ: m = μ m + lr g / √(v + ε) and w -= m. With `centered` the mean gradient's square is taken
    from v: a = ρ a + (1-ρ) g, and v - a² stands for v under the root.
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
        self.rho = _decay_rate(rho, "rho", name)
        self.momentum = self._number("momentum", momentum, high=1.0)
        self.epsilon = self._number("epsilon", epsilon)
        self.centered = bool(centered)
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
    """a = a + g², w -= lr g / √(a + ε), a starting at initial_accumulator_value (Duchi et al., 2011)."""

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
    """a = ρ a + (1-ρ) g², d = g √(u + ε) / √(a + ε), u = ρ u + (1-ρ) d², w -= lr d (Zeiler, 2012)."""

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
        self.rho = _decay_rate(rho, "rho", name)
        self.epsilon = self._number("epsilon", epsilon)

    def scalars(self) -> dict[str, float]:
        return {**super().scalars(), "rho": self.rho, "epsilon": self.epsilon}

    def step(self, w: np.ndarray, g: np.ndarray, slots: Slots, scalars: Scalars) -> None:
        a, u = slots["accumulated_grad"], slots["accumulated_delta_var"]
        a[...] = self.rho * a + (1.0 - self.rho) * (g * g)
        d = g * np.sqrt(u + self.epsilon) / np.sqrt(a + self.epsilon)
        u[...] = self.rho * u + (1.0 - self.rho) * (d * d)
        w -= scalars["learning_rate"] * d


def _decay_rate(value: Any, name: str, where: str) -> float:
    """A factor of [0, 1): at 1 nothing new would ever enter a moving average."""
    rate = real_number(value, name, where, low=0.0, high=1.0)
    if rate == 1.0:
        raise ValueError(f"{where}: {name} must be below 1, got {value!r}")
    return rate


def _norm(gradients: Sequence[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))


def _shrinkage(norm: float, limit: float) -> float:
    return limit / max(norm, limit)


_TABLE: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "nadam": Nadam,
}


def get(identifier: Any, where: str | None = None) -> Optimizer:
    """Return the optimizer meant by a name, an object, a class or a serialized form.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is something else.
    """
    return resolve("optimizer", identifier, _TABLE, Optimizer, where)
