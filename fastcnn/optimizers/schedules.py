"""The schedules of `fastcnn.schedules`, where Keras has them."""

from fastcnn.schedules import CosineDecay, ExponentialDecay, LearningRateSchedule, OneCycle, PiecewiseConstantDecay

__all__ = ["CosineDecay", "ExponentialDecay", "LearningRateSchedule", "OneCycle", "PiecewiseConstantDecay"]
