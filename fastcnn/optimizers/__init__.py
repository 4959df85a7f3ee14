"""Optimizers: rules that turn gradients into smaller losses.

An optimizer here is a declaration: hyperparameters, the names of the moment arrays (`slots`) and the scalars
of the next step. `update` is the rule itself in NumPy, on flat arrays, as the readable definition; the engine
runs a compiled form of it where `kernel` names one.

Every step runs: clip the gradients, w -= w * weight_decay * learning_rate if weight decay is asked for, the
rule with t = iterations + 1, and iterations += 1 once all weights are done.
"""

from __future__ import annotations

from typing import Any

from fastcnn.optimizers import schedules
from fastcnn.optimizers.adam import Adam, AdamW, Nadam
from fastcnn.optimizers.adaptive import Adadelta, Adagrad, RMSprop
from fastcnn.optimizers.base import Optimizer
from fastcnn.optimizers.sgd import SGD
from fastcnn.utils import resolve

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Nadam", "Optimizer", "RMSprop", "get", "schedules"]

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
