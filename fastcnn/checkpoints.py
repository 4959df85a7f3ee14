"""Models to and from files: weights, architecture and training state.

A file holds the arrays 'layer/weight' and, with the training state, 'slots/momentum/layer/weight' for each
moment of the optimiser. Its metadata are

weights : the names of the weights, in the model's order.
architecture : the layers with their configurations, and how they are connected.
training : the arguments of `compile`, the optimiser's steps, and the state of the dropout streams.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import isfunction
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import layers, losses, metrics, optimizers, random
from fastcnn.compiling import is_by_name, map_leaves
from fastcnn.config import __version__
from fastcnn.errors import CheckpointError
from fastcnn.graph import SymbolicTensor
from fastcnn.layers.base import Layer, Variable, reserve_name
from fastcnn.saving import load_file, match_weights, save_file, to_json
from fastcnn.transfer import LoadReport, load_fitting
from fastcnn.utils import Configurable, flag, serialize

if TYPE_CHECKING:
    from fastcnn.models import Model, Sequential
    from fastcnn.ports import Ports

Config = dict[str, Any]
Arrays = Mapping[str, np.ndarray]
# What reading a description that was damaged, or belongs to an unknown class, may raise.
BAD_DESCRIPTION = (KeyError, IndexError, TypeError, ValueError, AttributeError)


def save_model(model: Model, path: Any, include_optimizer: bool = True) -> None:
    """Write weights, architecture and, if asked for and the model is compiled, the training state.

    Raises
    ------
    ValueError
        When the model has no shapes yet, or `path` another suffix than '.safetensors'.
    TypeError
        When the configuration of a layer is not JSON.
    FileNotFoundError, OSError
        When the file cannot be written; a file that was there before is unchanged.
    """
    include_optimizer = flag(include_optimizer, "include_optimizer", f"{model.name}.save")
    arrays = _weight_arrays(model)
    metadata = {"version": __version__, "weights": list(arrays), "architecture": describe(model)}
    training = describe_training(model) if include_optimizer else None
    if training is not None:
        metadata["training"] = training
        arrays.update(_slot_arrays(model))
    save_file(path, arrays, metadata, f"{model.name}.save")


def save_weights(model: Model, path: Any) -> None:
    """Write the weights alone; the errors are those of `save_model`."""
    arrays = _weight_arrays(model)
    save_file(path, arrays, {"version": __version__, "weights": list(arrays)}, f"{model.name}.save_weights")


def load_weights(model: Model, path: Any, by_name: bool = False, skip_mismatch: bool = False) -> LoadReport:
    """Overwrite the weights with those of a file: by name, or in order if names differ but all shapes agree.

    Parameters
    ----------
    by_name, skip_mismatch : load the layers that fit and leave the others alone, see `transfer.load_fitting`.

    Raises
    ------
    ValueError
        When the model has no shapes yet.
    FileNotFoundError, CheckpointError
        When there is no such file, it is damaged, or its weights do not fit; the model is unchanged then.
    """
    by_name, skip_mismatch = (flag(value, what, f"{model.name}.load_weights") for value, what in
                              ((by_name, "by_name"), (skip_mismatch, "skip_mismatch")))
    _weight_arrays(model)  # before reading the file: a model without shapes cannot take weights
    arrays, metadata = load_file(path, f"{model.name}.load_weights")
    saved = _saved_weights(path, arrays, metadata)
    if by_name or skip_mismatch:
        return load_fitting(model.weights, saved, by_name, skip_mismatch, path)
    _assign(model.weights, saved, path)
    return LoadReport([variable.path for variable in model.weights])


def load_model(path: Any, custom_objects: Mapping[str, type] | None = None, compile: bool = True) -> Model:
    """The model in a file that `save_model` wrote; the global random generator is left as it was.

    Parameters
    ----------
    custom_objects : class name -> class, for layers, losses, metrics, optimisers and the like that are not
        part of this package.
    compile : whether to restore the training state.

    Raises
    ------
    FileNotFoundError, CheckpointError
        When there is no such file, or it is damaged, holds weights alone, or names a class that is not known.
    TypeError
        When `custom_objects` does not map names to classes.
    """
    custom_objects, compile = dict(custom_objects or {}), flag(compile, "compile", "load_model")
    for name, cls in custom_objects.items():
        if not isinstance(cls, type):
            raise TypeError(f"load_model: custom_objects[{name!r}] must be a class, got {cls!r}")
    arrays, metadata = load_file(path, "load_model")
    if "architecture" not in metadata:
        raise CheckpointError(f"'{path}' holds weights without an architecture; build the model and call "
                              f"model.load_weights({str(path)!r})")
    with _unchanged_generator():
        try:
            model = rebuild(metadata["architecture"], custom_objects)
        except BAD_DESCRIPTION as error:
            raise CheckpointError(f"'{path}': the model cannot be rebuilt: {error}. Its weights can still be "
                                  f"read: build the model and call model.load_weights") from error
        _assign(model.weights, _saved_weights(path, arrays, metadata), path)
        if compile and "training" in metadata:
            _restore_training(model, metadata["training"], arrays, custom_objects, path)
    return model


# ------------------------------------------------------------------------------------------ architecture


def describe(model: Model) -> Config:
    """The architecture of a model as JSON values.

    A stack of layers is described as one; any other model, a traced subclass included, as the graph it is.
    """
    from fastcnn.models import Sequential

    graph = model.graph
    if isinstance(model, Sequential) and all(isinstance(layer, Layer) for layer in model._stack):
        return {"class_name": "Sequential", "name": model.name,
                "input_shape": list(graph.inputs[0].sample_shape),
                "layers": [_describe_layer(layer) for layer in model._stack]}
    tensors = [*graph.inputs, *(node.outputs[0] for node in graph.nodes)]
    number = {tensor: i for i, tensor in enumerate(tensors)}
    return {
        "class_name": "Model", "name": model.name,
        "inputs": [{"shape": list(tensor.sample_shape), "name": tensor.name} for tensor in graph.inputs],
        "layers": [_describe_layer(layer) for layer in graph.layers],
        "nodes": [{"layer": graph.layers.index(node.layer),
                   "inputs": [number[tensor] for tensor in node.inputs]} for node in graph.nodes],
        "outputs": [number[tensor] for tensor in graph.outputs],
        "input_form": _form(model._inputs), "output_form": _form(model._outputs),
    }


def _form(ports: Ports) -> Config:
    """How inputs or outputs are handed over, and by which names."""
    return {"kind": ports.kind, "names": ports.names}


def _in_form(tensors: Sequence[SymbolicTensor], form: Config) -> Any:
    for tensor, name in zip(tensors, form["names"], strict=True):
        tensor.name = name
    return (dict(zip(form["names"], tensors, strict=True)) if form["kind"] == "dict" else
            list(tensors) if form["kind"] == "list" else tensors[0])


def rebuild(architecture: Config, custom_objects: Mapping[str, type]) -> Model:
    """A new model from what `describe` returned, with new weights."""
    made = [_make_layer(entry, custom_objects) for entry in architecture["layers"]]
    if architecture["class_name"] == "Sequential":
        return _rebuild_stack(architecture, made)
    return _rebuild_graph(architecture, made)


def classes_in(model: Model) -> dict[str, type]:
    """The classes of the layers, and of the initialisers and the like that they hold, by name."""
    objects = [thing for layer in model.graph.layers for thing in (layer, *vars(layer).values())]
    return {type(thing).__name__: type(thing) for thing in objects if isinstance(thing, (Layer, Configurable))}


def _rebuild_stack(architecture: Config, made: Sequence[Layer]) -> Sequential:
    from fastcnn.models import Sequential

    model = Sequential(name=architecture["name"])
    model.add(SymbolicTensor((None, *architecture["input_shape"]), name="input"))
    for layer in made:
        model.add(layer)
    return model


def _rebuild_graph(architecture: Config, made: Sequence[Layer]) -> Model:
    from fastcnn.models import Model

    inputs = [SymbolicTensor((None, *entry["shape"]), name=entry["name"]) for entry in architecture["inputs"]]
    tensors = list(inputs)
    for node in architecture["nodes"]:
        sources = [tensors[i] for i in node["inputs"]]
        tensors.append(made[node["layer"]](sources if len(sources) > 1 else sources[0]))
    outputs = [tensors[i] for i in architecture["outputs"]]
    return Model(_in_form(inputs, architecture["input_form"]), _in_form(outputs, architecture["output_form"]),
                 name=architecture["name"])


def _describe_layer(layer: Layer) -> Config:
    description = layers.serialize(layer)
    to_json(description["config"], f"{layer.name}: what get_config returns")
    return {**description, "trainable": bool(layer.trainable)}


def _make_layer(entry: Config, custom_objects: Mapping[str, type]) -> Layer:
    config = {key: _revive(value, custom_objects) for key, value in entry["config"].items()}
    own = {name: cls for name, cls in custom_objects.items() if issubclass(cls, Layer)}
    layer = layers.deserialize({"class_name": entry["class_name"], "config": config}, own)
    layer.trainable = entry["trainable"]
    reserve_name(layer.name)
    return layer


def _revive(value: Any, custom_objects: Mapping[str, type]) -> Any:
    """`value` with the descriptions of custom initialisers, losses and the like replaced by the objects."""
    if isinstance(value, list):
        return [_revive(item, custom_objects) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _revive(item, custom_objects) for key, item in value.items()}
    cls: Any = custom_objects.get(value.get("class_name"))
    return value if cls is None or issubclass(cls, Layer) else cls.from_config(value.get("config", {}))


# ------------------------------------------------------------------------------------------ training state


def describe_training(model: Model) -> Config | None:
    """The arguments of `compile` and how far training has come, as JSON; None for a model not compiled.

    Metrics that are functions are left out, and so is everything if the loss or the optimiser cannot be
    described: a warning says so.
    """
    if model.optimizer is None or model._compiled is None:
        return None
    chosen = model._compiled
    try:
        return {
            "optimizer": serialize(model.optimizer), "loss": map_leaves(_describe_loss, chosen.loss),
            "metrics": map_leaves(_describe_metric, _without_functions(chosen.metrics, model.name)),
            "weighted_metrics": map_leaves(_describe_metric, _without_functions(chosen.weighted_metrics, model.name)),
            "loss_weights": map_leaves(float, chosen.loss_weights), "recompute": chosen.recompute,
            "iterations": int(model.optimizer.iterations),
            "dropout": [int(word) for word in model._dropout_counter],
        }
    except (TypeError, AttributeError) as error:
        warnings.warn(f"{model.name}.save: the training state is left out, as {error}; keep each constructor "
                      f"argument of a custom loss, metric or optimiser in an attribute of its name",
                      stacklevel=5)
        return None


def _describe_loss(loss: Any) -> Any:
    return loss if isinstance(loss, str) else serialize(losses.get(loss))


def _describe_metric(metric: Any) -> Any:
    return metric if isinstance(metric, str) else serialize(metrics.get(metric))


def _without_functions(chosen: Any, name: str) -> Any:
    if is_by_name(chosen):
        return {output: _without_functions([one] if callable(one) else one, name) for output, one in chosen.items()}
    if not isinstance(chosen, (list, tuple)):
        return chosen
    kept = []
    for metric in chosen:
        if isinstance(metrics.get(metric) if isfunction(metric) else metric, metrics.FunctionMetric):
            warnings.warn(f"{name}.save: the metric {metric!r} is a function, which a file cannot hold; "
                          f"it is left out", stacklevel=6)
        else:
            kept.append(_without_functions(metric, name))
    return kept


def _slot_arrays(model: Model) -> dict[str, np.ndarray]:
    """The optimiser's moments by name; none before the first step."""
    if model.optimizer is None or not model.optimizer.iterations:
        return {}
    return {_slot_name(slot, variable): view for slot, views in model.slot_views().items()
            for variable, view in views.items()}


def _slot_name(slot: str, variable: Variable) -> str:
    return f"slots/{slot}/{variable.path}"


def _restore_training(model: Model, training: Config, arrays: Arrays, custom_objects: Mapping[str, type],
                      path: Any) -> None:
    try:
        rule, loss, chosen = (_revive(training[key], custom_objects)
                              for key in ("optimizer", "loss", "metrics"))
        weighted = _revive(training.get("weighted_metrics"), custom_objects)  # which older files do not hold
        optimizer = optimizers.get(rule)
        optimizer.iterations = int(training["iterations"])
        model.compile(optimizer, loss, map_leaves(_make_metric, chosen), training["loss_weights"],
                      training.get("recompute", False), map_leaves(_make_metric, weighted))
        model._dropout_counter[:] = training["dropout"]
    except (*BAD_DESCRIPTION, OverflowError) as error:
        raise CheckpointError(f"'{path}': the training state cannot be restored: {error}. For a class of "
                              f"your own pass custom_objects={{'Name': Class}}.") from error
    if optimizer.iterations:
        _restore_slots(model, arrays, path)


def _make_metric(metric: Any) -> Any:
    return metric if isinstance(metric, str) else metrics.get(metric)


def _restore_slots(model: Model, arrays: Arrays, path: Any) -> None:
    views = {_slot_name(slot, variable): view for slot, of_slot in model.slot_views().items()
             for variable, view in of_slot.items()}
    saved = {name: array for name, array in arrays.items() if name in views}
    match_weights(saved, {name: view.shape for name, view in views.items()}, where=path)
    for name, view in views.items():
        view[...] = saved[name]


# ------------------------------------------------------------------------------------------ weights


def _weight_arrays(model: Model) -> dict[str, np.ndarray]:
    """The weights by name; ValueError for a model without shapes, or two weights of one name."""
    weights = [variable for layer in model.graph.layers for variable in layer.variables]
    arrays = {variable.path: variable.value for variable in weights}
    if len(arrays) < len(weights):
        raise ValueError(f"{model.name}: two weights have the same name 'layer/weight'; rename a layer")
    return arrays


def _saved_weights(path: Any, arrays: Arrays, metadata: Config) -> dict[str, np.ndarray]:
    """The weights of a file, in the order of the model that was saved."""
    try:
        return {name: arrays[name] for name in metadata["weights"]}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"'{path}' lacks arrays that it should hold ({error}); restore it from a copy "
                              f"or save it again") from error


def _assign(variables: Sequence[Variable], saved: Arrays, path: Any) -> None:
    wanted = {variable.path: variable.shape for variable in variables}
    if wanted.keys() != saved.keys() and [_last(name) for name in saved] == [_last(name) for name in wanted]:
        saved = dict(zip(wanted, saved.values(), strict=True))  # layers of other names: by their order
    match_weights(saved, wanted, where=path)
    for variable in variables:
        variable.assign(saved[variable.path])


def _last(path: str) -> str:
    """'kernel' of 'conv2d/kernel'."""
    return path.rsplit("/", 1)[-1]


@contextmanager
def _unchanged_generator() -> Iterator[None]:
    """Initial weights that are overwritten at once should not use up random numbers."""
    bits = random.generator().bit_generator
    state = bits.state
    try:
        yield
    finally:
        bits.state = state
