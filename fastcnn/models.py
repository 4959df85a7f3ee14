"""Models: a graph of layers, and everything one does with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import checkpoints, summaries
from fastcnn.arrays import as_float32
from fastcnn.errors import unknown_name
from fastcnn.graph import Graph, SymbolicTensor
from fastcnn.layers import InputLayer
from fastcnn.layers.base import Layer, Variable, unique_name
from fastcnn.training import Trainer
from fastcnn.transfer import LoadReport


class Model(Trainer):
    """Layers from inputs to outputs.

    `Model(inputs, outputs)` takes symbolic tensors made by `Input` and layer calls. A subclass defines
    `call(self, x)` instead, which is run once, with a symbolic tensor, when the shape of the data is known; what it
    builds is a graph like any other.

    Raises
    ------
    TypeError, ValueError
        When inputs or outputs are not symbolic tensors, or an output does not follow from the inputs.
    """

    def __init__(self, inputs=None, outputs=None, name: str | None = None):
        super().__init__()
        self.name = name or unique_name(type(self).__name__)
        self._graph: Graph | None = None
        if (inputs is None) != (outputs is None):
            raise TypeError(f"{self.name}: give both inputs and outputs, or neither and define call(self, x)")
        if inputs is not None:
            self._set_graph(inputs, outputs)

    def __getattr__(self, name: str):
        if "_plans" not in vars(self):
            raise AttributeError(f"{type(self).__name__}.__init__ must call super().__init__() first")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    # -- the graph

    def call(self, x):
        """What a subclass does with its symbolic input(s)."""
        raise NotImplementedError(f"{type(self).__name__} must be given inputs and outputs, or define call(self, x)")

    def _set_graph(self, inputs, outputs) -> None:
        self._many_inputs, self._many_outputs = (isinstance(t, (list, tuple)) for t in (inputs, outputs))
        inputs = list(inputs) if self._many_inputs else [inputs]
        outputs = list(outputs) if self._many_outputs else [outputs]
        for role, tensors in (("inputs", inputs), ("outputs", outputs)):
            for tensor in tensors:
                if not isinstance(tensor, SymbolicTensor):
                    raise TypeError(f"{self.name}: {role} must be symbolic tensors (from Input and layer calls), "
                                    f"got {type(tensor).__name__}")
        try:
            self._graph = Graph(inputs, outputs)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        names = [layer.name for layer in self._graph.layers]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{self.name}: layer names must differ, but these appear twice: {sorted(twice)}")
        self.losses = []  # chosen anew: what 'accuracy' means depends on the output
        self._reset_plans()

    def build(self, input_shape) -> None:
        """Trace `call` for inputs of this shape (None for the batch); a list of shapes for several inputs."""
        if self._graph is None:
            many = isinstance(input_shape, list)
            symbolic = [SymbolicTensor((None, *shape[1:]), name=f"input {i}")
                        for i, shape in enumerate(input_shape if many else [input_shape])]
            argument = symbolic if many else symbolic[0]
            self._set_graph(argument, self.call(argument))

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            raise ValueError(f"{self.name} has no shapes yet: give its first layer an input_shape, or call fit, "
                             f"predict or build((None, height, width, channels)) first")
        return self._graph

    @property
    def built(self) -> bool:
        return self._graph is not None

    @property
    def layers(self) -> list[Layer]:
        """The layers, each once, in the order of computation."""
        return [layer for layer in self.graph.layers if not isinstance(layer, InputLayer)]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or position."""
        if (name is None) == (index is None):
            raise ValueError(f"{self.name}.get_layer: give either a name or an index")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(f"{self.name}.get_layer: index {index} of {len(self.layers)} layers")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise unknown_name("layer", name, [layer.name for layer in self.layers], self.name)

    @property
    def input_shape(self):
        shapes = [tensor.shape for tensor in self.graph.inputs]
        return shapes if self._many_inputs else shapes[0]

    @property
    def output_shape(self):
        shapes = [tensor.shape for tensor in self.graph.outputs]
        return shapes if self._many_outputs else shapes[0]

    def __call__(self, x, training: bool = False):
        """On arrays: one forward pass. On symbolic tensors: the model's layers as part of a larger graph."""
        tensors = list(x) if isinstance(x, (list, tuple)) else [x]
        if any(isinstance(t, SymbolicTensor) for t in tensors):
            return self._inline(tensors)
        arrays = [np.asarray(t) for t in tensors]
        self.build([a.shape for a in arrays] if isinstance(x, (list, tuple)) else arrays[0].shape)
        return self._forward(arrays, training)

    def _inline(self, tensors: Sequence[SymbolicTensor]):
        self.build([t.shape for t in tensors] if len(tensors) > 1 else tensors[0].shape)
        graph = self.graph
        if len(tensors) != len(graph.inputs):
            raise ValueError(f"{self.name}: expected {len(graph.inputs)} inputs, got {len(tensors)}")
        known = dict(zip(graph.inputs, tensors, strict=True))
        for node in graph.nodes:
            sources = [known[t] for t in node.inputs]
            known[node.outputs[0]] = node.layer(sources if len(sources) > 1 else sources[0])
        outputs = [known[t] for t in graph.outputs]
        return outputs if self._many_outputs else outputs[0]

    # -- weights

    @property
    def weights(self) -> list[Variable]:
        return [v for layer in self.layers for v in layer.variables]

    @property
    def trainable_weights(self) -> list[Variable]:
        return [v for v in self.weights if v.trainable]

    @property
    def trainable(self) -> bool:
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    def count_params(self) -> int:
        return sum(v.value.size for v in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in layer order, kernel before bias."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Overwrite all weights; ValueError when the number of arrays or a shape does not fit."""
        weights, own = list(weights), self.weights
        if len(weights) != len(own):
            raise ValueError(f"{self.name}.set_weights: expected {len(own)} arrays, got {len(weights)}")
        for variable, value in zip(own, weights, strict=True):
            if np.shape(value) != variable.shape:
                raise ValueError(f"{self.name}.set_weights: {variable.path} has shape {variable.shape}, "
                                 f"got {np.shape(value)}")
        for variable, value in zip(own, weights, strict=True):
            variable.assign(value)

    # -- looking and keeping

    def summary(self, batch_size: int = 32, print_fn=print) -> None:
        """Print layers, output shapes, parameters, FLOPs and the activations' memory at `batch_size`."""
        print_fn(summaries.summary(self, batch_size))

    def save(self, path, include_optimizer: bool = True) -> None:
        """Write weights, architecture and (unless told otherwise) the training state to one .safetensors file."""
        checkpoints.save_model(self, path, include_optimizer)

    def save_weights(self, path) -> None:
        """Write the weights to a .safetensors file."""
        checkpoints.save_weights(self, path)

    def load_weights(self, path, by_name: bool = False, skip_mismatch: bool = False) -> LoadReport:
        """Read weights that `save_weights` or `save` wrote; `CheckpointError` when they do not fit this model.

        With `by_name`, only layers that have their weights in the file, under the same names, are loaded; with
        `skip_mismatch`, layers whose weights have other shapes there are left as they are, with a warning. The report
        says what was loaded and what was not, and why: print it.
        """
        return checkpoints.load_weights(self, path, by_name, skip_mismatch)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Sequential(Model):
    """A stack of layers, each fed by the one before it.

    The shapes follow from `input_shape` of the first layer, from an `Input` as the first element, or from the first
    data the model sees.
    """

    def __init__(self, layers: Sequence[Layer] | None = None, name: str | None = None):
        super().__init__(name=name)
        self._stack: list[Layer] = []
        self._input: SymbolicTensor | None = None
        for layer in layers or ():
            self.add(layer)

    def add(self, layer) -> None:
        """Put a layer (or an `Input`) on top."""
        if isinstance(layer, SymbolicTensor):
            if self._stack or self._input is not None or layer.node is not None:
                raise ValueError(f"{self.name}.add: an Input must come first")
            self._input = layer
            return
        if not isinstance(layer, (Layer, Model)):
            hint = f"; write {layer.__name__}(...)" if isinstance(layer, type) else ""
            raise TypeError(f"{self.name}.add: expected a layer, got {layer!r}{hint}")
        if layer in self._stack:
            raise ValueError(f"{self.name}.add: {layer.name} is already in the stack")
        shape = getattr(layer, "given_input_shape", None)
        if not self._stack and self._input is None and shape is not None:
            self._input = SymbolicTensor((None, *shape), name=f"{layer.name} input")
        self._stack.append(layer)
        try:
            self._rebuild()
        except Exception:
            self._stack.pop()
            raise

    def pop(self) -> None:
        """Take the top layer off."""
        if not self._stack:
            raise ValueError(f"{self.name}.pop: there are no layers")
        self._stack.pop()
        self._graph = None
        self._rebuild()

    def _rebuild(self) -> None:
        if self._input is not None and self._stack:
            top = self._graph.outputs[0] if self._graph and len(self._stack) > 1 else self._input
            for layer in self._stack[-1:] if top is not self._input else self._stack:
                top = layer(top)
            self._set_graph(self._input, top)

    def build(self, input_shape) -> None:
        if self._graph is None:
            if not self._stack:
                raise ValueError(f"{self.name} has no layers; add some first")
            if isinstance(input_shape, list):
                if len(input_shape) > 1:
                    raise ValueError(f"{self.name}: a stack of layers has one input, got a list of "
                                     f"{len(input_shape)}; for samples use numpy.stack, for several inputs "
                                     f"Model(inputs, outputs)")
                input_shape = input_shape[0]
            self._input = SymbolicTensor((None, *input_shape[1:]), name="input")
            self._rebuild()

    @property
    def layers(self) -> list[Layer]:
        return [layer for element in self._stack
                for layer in (element.layers if isinstance(element, Model) else [element])]


def run_layer(layer: Layer, inputs: Sequence[Any], training: bool) -> np.ndarray:
    """One forward pass of a single layer on arrays."""
    arrays = [as_float32(x, np.ndim(x), f"{layer.name}: input") for x in inputs]
    symbolic = [SymbolicTensor((None, *a.shape[1:])) for a in arrays]
    argument = symbolic if len(symbolic) > 1 else symbolic[0]
    return Model(argument, layer(argument), name=f"{layer.name} alone")._forward(arrays, training)


def load_model(path, custom_objects: dict[str, Any] | None = None) -> Model:
    """The model that `Model.save` wrote: architecture, weights and, where saved, the training state.

    Raises
    ------
    FileNotFoundError, CheckpointError
        When there is no such file, or it is damaged, foreign, or names a layer that is not known (give your own layer
        classes as `custom_objects={'Name': Class}`).
    """
    return checkpoints.load_model(path, custom_objects)
