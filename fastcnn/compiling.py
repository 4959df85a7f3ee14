"""What the arguments of `compile` mean for each output of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastcnn import losses
from fastcnn import metrics as metrics_module
from fastcnn.errors import unknown_name
from fastcnn.graph import SymbolicTensor
from fastcnn.ports import Ports
from fastcnn.utils import flag, real_number, whole_number

if TYPE_CHECKING:
    from fastcnn.models import Model


class Choices(NamedTuple):
    """The arguments of `compile` that depend on the outputs, as given."""

    loss: Any
    metrics: Any
    loss_weights: Any
    recompute: bool | list[str]
    weighted_metrics: Any


def is_by_name(value: Any) -> bool:
    """Whether `value` is a dictionary of outputs, rather than the description of one object."""
    return isinstance(value, Mapping) and "class_name" not in value


def leaves(value: Any) -> list[Any]:
    """All losses or metrics in a value alone, in nested lists, or in dictionaries by output."""
    if is_by_name(value):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if value is None else [value]


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The same lists and dictionaries with `function` of every loss or metric in them."""
    if is_by_name(value):
        return {name: map_leaves(function, item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [map_leaves(function, item) for item in value]
    return None if value is None else function(value)


def check_names(loss: Any, metrics: Any, weighted_metrics: Any, where: str) -> None:
    """Unknown names should fail when a model is compiled, not at the first batch."""
    for one in leaves(loss):
        losses.get(one, where)
    for name, chosen in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
        if chosen is not None and not isinstance(chosen, (list, tuple)) and not is_by_name(chosen):
            raise TypeError(f"{where}: {name} must be a list, such as ['accuracy'], or a dictionary of lists by "
                            f"output, got {chosen!r}")
        for metric in leaves(chosen):
            if isinstance(metric, str) and metric not in ("accuracy", "acc"):
                metrics_module.get(metric, where=where)


def check_execution(run_eagerly: Any, steps_per_execution: Any, jit_compile: Any, auto_scale_loss: Any,
                    where: str) -> None:
    """ValueError or TypeError for values of Keras's arguments that mean what is not done here."""
    if run_eagerly is not None and flag(run_eagerly, "run_eagerly", where):
        raise ValueError(f"{where}: run_eagerly=True is not possible: a model is traced once and runs as compiled "
                         f"code; leave it out, and to see a layer's values call it, or a part of the model, on arrays")
    if steps_per_execution is not None and whole_number(steps_per_execution, "steps_per_execution", where) > 1:
        raise ValueError(f"{where}: steps_per_execution={steps_per_execution} is not possible: callbacks are called "
                         f"for every batch, at no cost; leave it out")
    if jit_compile not in (None, "auto"):
        flag(jit_compile, "jit_compile", where)
    if auto_scale_loss is not None:
        flag(auto_scale_loss, "auto_scale_loss", where)


def losses_of(outputs: Ports, loss: Any, where: str) -> list[Any]:
    """The loss of each output, None for outputs that are not trained."""
    if is_by_name(loss):
        chosen = outputs.by_name(loss, f"{where}: loss", hint="; give None for an output without a loss")
    elif isinstance(loss, (list, tuple)):
        chosen = list(loss)
    else:
        chosen = [loss] * len(outputs)
    if len(chosen) != len(outputs) or (len(outputs) > 1 and isinstance(loss, losses.Loss)):
        raise ValueError(f"{where}: the model has {len(outputs)} outputs; give a list of as many losses, or a "
                         f"dictionary by name, got {loss!r}")
    if all(one is None for one in chosen):
        raise ValueError(f"{where}: no output has a loss; give at least one")
    return [None if one is None else losses.get(one, where) for one in chosen]


def metrics_of(outputs: Ports, chosen: Any, of_losses: list[Any], where: str) -> list[list[Any]]:
    """The metrics of each output."""
    lists = _metrics_by_output(outputs, chosen, where)
    for name, loss, one in zip(outputs.names, of_losses, lists, strict=True):
        if loss is None and one:
            raise ValueError(f"{where}: output {name!r} has metrics but no loss, so it gets no targets; give it a "
                             f"loss, with weight 0 if it should not be trained")
    return [[metrics_module.get(metric, loss, tensor.shape, where) for metric in one]
            for one, loss, tensor in zip(lists, of_losses, outputs.tensors, strict=True)]


def _metrics_by_output(outputs: Ports, chosen: Any, where: str) -> list[list[Any]]:
    if is_by_name(chosen):
        per_output = outputs.by_name(chosen, f"{where}: metrics", optional=True)
    elif len(outputs) == 1 and not any(isinstance(one, (list, tuple)) for one in chosen or ()):
        per_output = [chosen]
    else:
        per_output = list(chosen or [None] * len(outputs))
    if len(per_output) != len(outputs):
        raise ValueError(f"{where}: the model has {len(outputs)} outputs; give a list with the metrics of each, such "
                         f"as [['accuracy'], []], or a dictionary by name, got {chosen!r}")
    return [list(one) if isinstance(one, (list, tuple)) else [] if one is None else [one] for one in per_output]


def loss_weights_of(outputs: Ports, weights: Any, where: str) -> list[float]:
    """The factor of each output's loss, 1 unless given."""
    if weights is None:
        return [1.0] * len(outputs)
    if isinstance(weights, Mapping):
        given = [1.0 if w is None else w for w in outputs.by_name(weights, f"{where}: loss_weights", optional=True)]
    else:
        given = list(weights) if isinstance(weights, (list, tuple, np.ndarray)) else [weights]
    if len(given) != len(outputs):
        raise ValueError(f"{where}: expected {len(outputs)} loss_weights, got {weights!r}")
    return [real_number(w, "every loss weight", where) for w in given]


def check_recompute(recompute: bool | Sequence[str], where: str) -> bool | list[str]:
    """True, False, or the names of layers; TypeError for anything else, ValueError for no names."""
    if isinstance(recompute, (bool, np.bool_)):
        return bool(recompute)
    if not isinstance(recompute, (list, tuple)) or not all(isinstance(name, str) for name in recompute):
        raise TypeError(f"{where}: recompute must be True, False, or a list with the names of the layers whose outputs "
                        f"are kept, got {recompute!r}")
    if not recompute:
        raise ValueError(f"{where}: recompute is an empty list; name the layers whose outputs are kept, or give True "
                         f"to have them chosen")
    return list(recompute)


def kept_tensors(model: Model, recompute: bool | list[str], where: str) -> bool | list[SymbolicTensor]:
    """The outputs of the layers and models named, wherever these are called; ValueError for an unknown name."""
    if isinstance(recompute, bool):
        return recompute
    parts = {part.name: part for part in [*model.models, *model.layers]}
    for name in recompute:
        if name not in parts:
            raise unknown_name("layer", name, parts, f"{where}: recompute")
    kept = []
    for part in (parts[name] for name in recompute):
        if part in model.layers:
            kept += [node.outputs[0] for node in model.graph.nodes if node.layer is part]
        else:
            ends = [tensor.node.layer for tensor in part.outputs if tensor.node is not None]
            kept += [node.outputs[0] for node in model.graph.nodes if part in node.models and node.layer in ends]
    return kept
