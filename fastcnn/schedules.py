"""Learning rates that change with the training step (counted from 0)."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from fastcnn.utils import Configurable, flag, real_number, resolve


class LearningRateSchedule(Configurable):
    """Base class: a function of the step."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of step `step`, 0 being the first."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step)")


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate ** (step / decay_steps).

    With `staircase` the exponent is rounded down, so the rate falls once every `decay_steps` steps.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        where = "ExponentialDecay"
        self.initial_learning_rate = _rate(initial_learning_rate, "initial_learning_rate", where)
        self.decay_steps = real_number(decay_steps, "decay_steps", where, low=0.0, open_low=True)
        self.decay_rate = real_number(decay_rate, "decay_rate", where, low=0.0, open_low=True)
        self.staircase = flag(staircase, "staircase", where)
        self.name = name

    def __call__(self, step: int) -> float:
        exponent = step / self.decay_steps
        if self.staircase:
            exponent = math.floor(exponent)
        return self.initial_learning_rate * self.decay_rate**exponent


class CosineDecay(LearningRateSchedule):
    """Half a cosine wave down, after an optional straight warm-up (Loshchilov & Hutter, 2017).

    Parameters
    ----------
    initial_learning_rate : rate of step 0.
    decay_steps : steps of the cosine, counted from the end of the warm-up.
    alpha : the rate at the end, as a fraction of the peak.
    warmup_target : the peak, reached on a straight line after `warmup_steps`; None for no warm-up.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        where = "CosineDecay"
        self.initial_learning_rate = _rate(initial_learning_rate, "initial_learning_rate", where)
        self.decay_steps = real_number(decay_steps, "decay_steps", where, low=0.0, open_low=True)
        self.alpha = real_number(alpha, "alpha", where, low=0.0)
        self.name = name
        self.warmup_target = None if warmup_target is None else _rate(warmup_target, "warmup_target", where)
        self.warmup_steps = real_number(warmup_steps, "warmup_steps", where, low=0.0)

    def __call__(self, step: int) -> float:
        start, peak, warmup = self.initial_learning_rate, self.warmup_target, self.warmup_steps
        if peak is None:
            peak, warmup = start, 0.0
        if step < warmup:
            return start + (peak - start) * step / warmup
        fraction = min((step - warmup) / self.decay_steps, 1.0)
        return peak * (self.alpha + (1.0 - self.alpha) * _cosine_fall(fraction))


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], values[1] up to boundaries[1], and so on."""

    def __init__(
        self, boundaries: Sequence[int], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        self.boundaries = list(boundaries)
        self.values = [_rate(value, "values", "PiecewiseConstantDecay") for value in values]
        self.name = name
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "PiecewiseConstantDecay: expected one value more than boundaries, "
                f"got {len(self.values)} values and {len(self.boundaries)} boundaries"
            )
        if any(b <= a for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"PiecewiseConstantDecay: boundaries must increase, got {self.boundaries}")

    def __call__(self, step: int) -> float:
        return self.values[bisect_left(self.boundaries, step)]


class OneCycle(LearningRateSchedule):
    """Half a cosine wave up, then one down far below the start (Smith & Topin, 2018).

    Parameters
    ----------
    max_learning_rate : the peak.
    total_steps : steps of the whole cycle; the rate stays at its last value afterwards.
    pct_start : fraction of the steps spent rising.
    div_factor : the start is max_learning_rate / div_factor.
    final_div_factor : the end is the start / final_div_factor.
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        name: str = "OneCycle",
    ) -> None:
        self.max_learning_rate = _rate(max_learning_rate, "max_learning_rate", "OneCycle")
        self.total_steps = real_number(total_steps, "total_steps", "OneCycle", low=0.0, open_low=True)
        self.pct_start = real_number(pct_start, "pct_start", "OneCycle", low=0.0, high=1.0)
        self.div_factor = real_number(div_factor, "div_factor", "OneCycle", low=0.0, open_low=True)
        self.final_div_factor = real_number(
            final_div_factor, "final_div_factor", "OneCycle", low=0.0, open_low=True
        )
        self.name = name

    def __call__(self, step: int) -> float:
        start = self.max_learning_rate / self.div_factor
        end = start / self.final_div_factor
        rising = self.pct_start * self.total_steps
        if step < rising:
            return self.max_learning_rate + (start - self.max_learning_rate) * _cosine_fall(step / rising)
        if step >= self.total_steps:
            return end
        fraction = (step - rising) / (self.total_steps - rising)
        return end + (self.max_learning_rate - end) * _cosine_fall(fraction)


def _cosine_fall(fraction: float) -> float:
    """From 1 at fraction 0 to 0 at fraction 1."""
    return 0.5 * (1.0 + math.cos(math.pi * fraction))


def _rate(value: Any, name: str, where: str) -> float:
    return real_number(value, name, where, low=0.0)


_TABLE: dict[str, type[LearningRateSchedule]] = {
    "exponential_decay": ExponentialDecay,
    "cosine_decay": CosineDecay,
    "piecewise_constant_decay": PiecewiseConstantDecay,
    "one_cycle": OneCycle,
}


def get(identifier: Any, where: str | None = None) -> LearningRateSchedule:
    """Return the schedule meant by an object or its serialized form.

    Raises
    ------
    TypeError, ValueError
        If `identifier` is neither, or names an unknown schedule.
    """
    return resolve("schedule", identifier, _TABLE, LearningRateSchedule, where)
