"""Learning rates over the steps, at values worked out by hand."""

from __future__ import annotations

import math

import pytest

from fastcnn import schedules
from fastcnn.schedules import CosineDecay, ExponentialDecay, OneCycle, PiecewiseConstantDecay


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (ExponentialDecay(0.1, 10, 0.25), {0: 0.1, 5: 0.05, 10: 0.025, 20: 0.00625}),
        (ExponentialDecay(0.1, 10, 0.25, staircase=True),
         {0: 0.1, 9: 0.1, 10: 0.025, 19: 0.025, 20: 0.00625}),
        (PiecewiseConstantDecay([3, 5], [1.0, 0.5, 0.1]), {0: 1.0, 3: 1.0, 4: 0.5, 5: 0.5, 6: 0.1, 99: 0.1}),
        (CosineDecay(1.0, 100), {0: 1.0, 25: 0.5 + math.sqrt(0.125), 50: 0.5, 100: 0.0, 500: 0.0}),
        (CosineDecay(2.0, 100, alpha=0.1), {0: 2.0, 50: 1.1, 100: 0.2, 101: 0.2}),
        (CosineDecay(0.2, 100, warmup_target=1.0, warmup_steps=10),
         {0: 0.2, 5: 0.6, 10: 1.0, 60: 0.5, 110: 0.0}),
        (CosineDecay(0.2, 100, warmup_steps=10), {0: 0.2, 50: 0.1}),  # no target, no warm-up
        (OneCycle(1.0, 100, pct_start=0.2, div_factor=10, final_div_factor=10),
         {0: 0.1, 10: 0.55, 20: 1.0, 60: 0.505, 100: 0.01, 200: 0.01}),
        (OneCycle(1.0, 10, pct_start=0.0), {0: 1.0, 10: 0.04 / 1e4}),
        (OneCycle(1.0, 10, pct_start=1.0), {0: 0.04, 5: 0.52}),
    ],
    ids=repr,
)  # fmt: skip
def test_rates(schedule, rates):
    for step, rate in rates.items():
        assert schedule(step) == pytest.approx(rate, abs=1e-12), step


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ExponentialDecay(0.1, 0, 0.5), "ExponentialDecay: decay_steps must be above 0"),
        (lambda: ExponentialDecay(-0.1, 10, 0.5), "initial_learning_rate must be at least 0"),
        (lambda: CosineDecay(0.1, -5), "decay_steps must be above 0"),
        (lambda: PiecewiseConstantDecay([1], [1.0]), "one value more than boundaries, got 1 values and 1"),
        (lambda: PiecewiseConstantDecay([5, 3], [1, 2, 3]), r"boundaries must increase, got \[5, 3\]"),
        (lambda: OneCycle(1.0, 10, pct_start=2), "pct_start must be at least 0 and at most 1"),
    ],
)
def test_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_schedule_of_ones_own():
    class Inverse(schedules.LearningRateSchedule):
        def __call__(self, step):
            return 1.0 / (step + 1)

    inverse = Inverse()
    assert schedules.get(inverse) is inverse
    assert schedules.get({"class_name": "CosineDecay", "config": CosineDecay(1.0, 9).get_config()})(9) == 0.0
