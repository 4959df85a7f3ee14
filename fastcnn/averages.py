"""What the batches of an epoch give: running means of the loss and the metrics, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.metrics import CategoricalAccuracy, Metric, SparseCategoricalAccuracy
from fastcnn.ports import distinct

if TYPE_CHECKING:
    from fastcnn.plan.losses import LossIO
    from fastcnn.plan.plan import Plan
    from fastcnn.steps import Stepper


class Averages:
    """Running means of the loss and the metrics over the batches of an epoch."""

    def __init__(self, model: Stepper):
        self.model = model
        self.penalty, self.samples, self.batches = 0.0, 0, 0

    def _start(self) -> None:
        """At the first batch: a model fed by an iterable has no losses and metrics before."""
        model = self.model
        self.output_losses = [0.0] * len(model.losses)
        for of_output in (*model.metrics, *model.weighted_metrics):
            for metric in of_output:
                metric.reset()

    def add(self, plan: Plan, penalty: float = 0.0) -> None:
        """Take in what a plan has just computed; `metrics` count all samples alike, `weighted_metrics` by weight."""
        model = self.model
        if self.batches == 0:
            self._start()
        self.samples += plan.n
        self.batches += 1
        self.penalty += penalty * plan.n
        for i, io in enumerate(plan.losses):
            if io is None:
                continue
            self.output_losses[i] += io.mean * plan.n
            for metric in model.metrics[i]:
                _update(metric, io, plan.outputs[i], None)
            for metric in model.weighted_metrics[i]:
                _update(metric, io, plan.outputs[i], io.sample_weight)

    def logs(self) -> dict[str, Any]:
        """The means by name; the loss comes with the penalties of the weights."""
        model, total, means = self.model, self.penalty / self.samples, []
        for loss, of_output, weight in zip(model.losses, self.output_losses, model.loss_weights, strict=True):
            if loss is not None:
                means.append(of_output / self.samples)
                total += weight * means[-1]
        values = [total, *means] if len(means) > 1 else [total]
        for metrics in (*model.metrics, *model.weighted_metrics):
            for metric in metrics:
                values.append(metric.result())
        return dict(zip(model.log_names, values, strict=True))


def _update(metric: Metric, io: LossIO, output: np.ndarray, weights: np.ndarray | None) -> None:
    if weights is not None:
        metric.update(io.read_only_targets, output, weights)
    elif _is_counted(metric, io):
        metric.total += io.right
        metric.weight += io.rows
    else:
        metric.update(io.read_only_targets, output)


def _is_counted(metric: Any, io: LossIO) -> bool:
    """Whether the loss kernel has counted what this metric asks for."""
    kind = SparseCategoricalAccuracy if io.sparse else CategoricalAccuracy
    return io.counts_correct and type(metric) is kind and getattr(metric, "ignore_class", None) == io.ignored


def names_of(model: Stepper) -> list[str]:
    """'loss', each output's loss if there are several, and the metrics, named as in Keras: a, a_1, weighted_a."""
    outputs = model._outputs.names
    trained = [name for name, loss in zip(outputs, model.losses, strict=True) if loss is not None]
    names = distinct(["loss", *(f"{name}_loss" for name in trained if len(trained) > 1),
                      *(prefix + name for prefix, name in _named(model, model.metrics))])
    for prefix, name in _named(model, model.weighted_metrics):
        names.append(f"{prefix}weighted_{name}" if prefix + name in names else prefix + name)
    return distinct(names)


def _named(model: Stepper, metrics: list[list[Any]]) -> Iterator[tuple[str, str]]:
    """The name of each metric, after its output's and a line if there are several outputs."""
    outputs = model._outputs.names
    for output, of_output in zip(outputs, metrics, strict=True):
        for metric in of_output:
            yield f"{output}_" if len(outputs) > 1 else "", metric.name
