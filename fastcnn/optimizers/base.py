"""The base of optimizers: learning rate, weight decay, clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn import schedules
from fastcnn.schedules import LearningRateSchedule
from fastcnn.utils import Configurable, real_number, serialize

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

    neutral = {"amsgrad": (False,), "use_ema": (False,), "ema_momentum": (0.99,), "ema_overwrite_frequency": (None,),
               "loss_scale_factor": (None,), "gradient_accumulation_steps": (None,)}
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


def decay_rate(value: Any, name: str, where: str) -> float:
    """A factor of [0, 1): at 1 nothing new would ever enter a moving average."""
    rate = real_number(value, name, where, low=0.0, high=1.0)
    if rate == 1.0:
        raise ValueError(f"{where}: {name} must be below 1, got {value!r}")
    return rate


def _norm(gradients: Sequence[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))


def _shrinkage(norm: float, limit: float) -> float:
    return limit / max(norm, limit)
