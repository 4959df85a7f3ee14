"""Metrics, initializers and schedules, with arguments and data: the values that are compared with Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn import initializers, losses, metrics, schedules
from tests.curves import Results, frozen_random
from tests.layer_cases import Described, make

BATCHES, SAMPLES, CLASSES = 2, 40, 4
KERNEL, DENSE, VECTOR, WIDE = (3, 3, 4, 8), (20, 7), (30,), (2, 9)
VALUES = 60_000  # of an initializer
STEPS = list(range(25))


@dataclass(frozen=True)
class Metric:
    """A metric, the targets and predictions that it is given, and whether samples have weights."""

    metric: Described
    y_true: str = "one-hot"
    y_pred: str = "shares"
    weighted: bool = False


# ------------------------------------------------------------------------------------------ tables


def metric(kind: str, y_true: str = "one-hot", y_pred: str = "shares", weighted: bool = False, **words: Any) -> Metric:
    return Metric((kind, words), y_true, y_pred, weighted)


def each(kind: str, *shapes: tuple[int, ...], **words: Any) -> dict[str, tuple[Described, tuple[int, ...]]]:
    """An initializer for weights of some shapes."""
    details = "".join(f" {key}={value}" for key, value in words.items())
    return {f"{kind}{details} {shape}".replace(", ", ","): ((kind, words), shape) for shape in shapes}


METRICS = {
    "BinaryAccuracy": metric("BinaryAccuracy", "bits"),
    "BinaryAccuracy threshold": metric("BinaryAccuracy", "bits", "logits", weighted=True, threshold=0.0),
    "CategoricalAccuracy": metric("CategoricalAccuracy", weighted=True),
    "SparseCategoricalAccuracy": metric("SparseCategoricalAccuracy", "labels", "logits"),
    "TopKCategoricalAccuracy": metric("TopKCategoricalAccuracy", k=2),
    "SparseTopKCategoricalAccuracy": metric("SparseTopKCategoricalAccuracy", "labels", "logits", weighted=True, k=3),
    "Precision": metric("Precision", "bits"),
    "Precision threshold": metric("Precision", "bits", weighted=True, thresholds=0.3),
    "Precision of a class": metric("Precision", class_id=1, thresholds=0.3),
    "Recall": metric("Recall", "bits", weighted=True),
    "Recall threshold": metric("Recall", "bits", thresholds=0.2),
    "Recall of a class": metric("Recall", class_id=2, thresholds=0.3),
    "AUC": metric("AUC", "bits"),
    "AUC weighted": metric("AUC", "bits", weighted=True, num_thresholds=31),
    "AUC of logits": metric("AUC", "bits", "logits", from_logits=True),
    "ConfusionMatrix": metric("ConfusionMatrix", "labels", weighted=True, num_classes=CLASSES),
    "MeanIoU": metric("MeanIoU", "labels", "labels", num_classes=CLASSES),
    "MeanIoU of scores": metric("MeanIoU", "labels", weighted=True, num_classes=CLASSES, sparse_y_pred=False),
    "MeanIoU without a class": metric("MeanIoU", "labels", "labels", num_classes=CLASSES, ignore_class=1),
    "OneHotMeanIoU": metric("OneHotMeanIoU", num_classes=CLASSES),
    "MeanSquaredError": metric("MeanSquaredError", "numbers", "logits", weighted=True),
    "MeanAbsoluteError": metric("MeanAbsoluteError", "numbers", "logits"),
    "mean BinaryCrossentropy": metric("BinaryCrossentropy", "bits", label_smoothing=0.1),
    "mean CategoricalCrossentropy": metric("CategoricalCrossentropy", weighted=True),
    "mean SparseCategoricalCrossentropy": metric("SparseCategoricalCrossentropy", "labels", "logits", from_logits=True),
    "mean KLDivergence": metric("KLDivergence", "other shares"),
    "mean Hinge": metric("Hinge", "signs", "logits", weighted=True),
}

INITIALIZERS = {
    **each("Zeros", KERNEL), **each("Ones", DENSE), **each("Constant", VECTOR, value=0.3),
    **each("RandomNormal", DENSE), **each("RandomNormal", VECTOR, mean=0.2, stddev=0.3),
    **each("TruncatedNormal", DENSE), **each("TruncatedNormal", VECTOR, mean=0.2, stddev=0.3),
    **each("RandomUniform", DENSE), **each("RandomUniform", VECTOR, minval=-0.1, maxval=0.4),
    **each("VarianceScaling", KERNEL, VECTOR),
    **each("VarianceScaling", KERNEL, scale=3.0, mode="fan_out", distribution="uniform"),
    **each("VarianceScaling", DENSE, scale=0.5, mode="fan_avg", distribution="untruncated_normal"),
    **each("GlorotUniform", KERNEL, DENSE, VECTOR), **each("GlorotNormal", KERNEL, DENSE),
    **each("HeUniform", KERNEL, DENSE), **each("HeNormal", KERNEL, DENSE),
    **each("LecunUniform", KERNEL, DENSE), **each("LecunNormal", KERNEL, DENSE),
    **each("Orthogonal", DENSE, WIDE), **each("Orthogonal", KERNEL, gain=1.5),
}  # fmt: skip

WITHOUT_BOUNDS = ("RandomNormal", "untruncated", "Orthogonal")  # in the name: the largest value is a matter of chance

SCHEDULES: dict[str, Described] = {
    "ExponentialDecay": ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.6}),
    "ExponentialDecay staircase": ("ExponentialDecay", {
        "initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.6, "staircase": True}),
    "CosineDecay": ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 20}),
    "CosineDecay warm-up": ("CosineDecay", {
        "initial_learning_rate": 0.02, "decay_steps": 12, "alpha": 0.1, "warmup_target": 0.1, "warmup_steps": 6}),
    "PiecewiseConstantDecay": ("PiecewiseConstantDecay", {"boundaries": [3, 10], "values": [0.1, 0.03, 0.01]}),
}  # fmt: skip


# ------------------------------------------------------------------------------------------ values in fastcnn


def batches(name: str, case: Metric) -> list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Targets, predictions and weights of samples."""
    found = []
    for i in range(BATCHES):
        random = frozen_random(f"{name} {i}")
        shape = (SAMPLES, CLASSES)
        labels, others = random.randint(0, CLASSES, (2, SAMPLES))
        shares = random.uniform(0.0, 1.0, shape)
        kinds = {
            "labels": labels, "one-hot": np.eye(CLASSES)[labels], "bits": random.randint(0, 2, shape).astype(float),
            "signs": 2.0 * random.randint(0, 2, shape) - 1, "numbers": random.standard_normal(shape),
            "logits": random.standard_normal(shape), "shares": shares / shares.sum(-1, keepdims=True),
            "other shares": (shares / shares.sum(-1, keepdims=True))[::-1],
        }
        predictions = others if case.y_pred == "labels" else kinds[case.y_pred].astype(np.float32)
        found.append((kinds[case.y_true], predictions, random.uniform(0.2, 2.0, SAMPLES) if case.weighted else None))
    return found


def measure(name: str, case: Metric) -> np.ndarray:
    """The metric's result over all batches; a name that only losses have means the mean of one."""
    own = hasattr(metrics, case.metric[0])
    metric = make(metrics, case.metric) if own else metrics.MeanLoss(make(losses, case.metric))
    for batch in batches(name, case):
        metric.update(*batch)
    return np.asarray(metric.result())


def draws(shape: tuple[int, ...]) -> int:
    """How many weights of a shape give enough values."""
    return -(-VALUES // int(np.prod(shape)))


def initialize(description: Described, shape: tuple[int, ...]) -> np.ndarray:
    """All values of many weights."""
    make_weight, rng = make(initializers, description), np.random.default_rng(0)
    return np.concatenate([make_weight(shape, rng).ravel() for _ in range(draws(shape))])


def rates(description: Described) -> np.ndarray:
    schedule = make(schedules, description)
    return np.array([schedule(step) for step in STEPS])


# ------------------------------------------------------------------------------------------ for the twin


def describe() -> tuple[dict[str, Any], Results]:
    """(cases by kind and name, their arrays) as the twin wants them."""
    arrays: Results = {}
    described: dict[str, Any] = {"metrics": {}, "initializers": {}, "schedules": {}}
    for name, case in METRICS.items():
        described["metrics"][name] = {"metric": case.metric, "batches": BATCHES}
        for i, batch in enumerate(batches(name, case)):
            arrays.update({f"{name}/{key}/{i}": array for key, array in zip(
                ("y_true", "y_pred", "sample_weight"), batch, strict=True) if array is not None})
    for name, (initializer, shape) in INITIALIZERS.items():
        described["initializers"][name] = {"initializer": initializer, "shape": shape, "draws": draws(shape)}
    for name, schedule in SCHEDULES.items():
        described["schedules"][name] = {"schedule": schedule, "steps": STEPS}
    return described, arrays
