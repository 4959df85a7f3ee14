"""Models: a graph of layers, and everything one does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import summaries
from fastcnn.arrays import as_float32
from fastcnn.batches import as_array, shapes_of
from fastcnn.errors import explained, unknown_name
from fastcnn.graph import Graph, SymbolicTensor
from fastcnn.layers import InputLayer
from fastcnn.layers.base import Layer, Variable, assign_all, unique_name
from fastcnn.ports import Ports
from fastcnn.training import Trainer
from fastcnn.utils import whole_number

if TYPE_CHECKING:
    from fastcnn import profiling
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

    neutral = {"overwrite": (True,), "line_length": (None,), "positions": (None,), "expand_nested": (False,),
               "show_trainable": (False,), "layer_range": (None,), "trainable": (True,), "dtype": (None, "float32")}

    def __init__(self, inputs=None, outputs=None, name: str | None = None):
        super().__init__()
        self.name = name or unique_name(type(self).__name__)
        self._graph: Graph | None = None
        self._tracing = False
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
        ports = Ports(inputs, "inputs", self.name), Ports(outputs, "outputs", self.name)
        try:
            graph = Graph(ports[0].tensors, ports[1].tensors)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        names = [layer.name for layer in graph.layers]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{self.name}: layer names must differ, but these appear twice: {sorted(twice)}; "
                             f"give them others with name=")
        self._graph, (self._inputs, self._outputs) = graph, ports
        self.losses = []  # chosen anew: what 'accuracy' means depends on the output
        self._reset_plans()

    def build(self, input_shape) -> None:
        """Trace `call` for inputs of this shape (None for the batch); a list or a dictionary for several inputs."""
        if self._graph is not None:
            return
        if self._tracing:
            raise ValueError(f"{self.name}: call uses the model itself; a model cannot be a part of itself")
        if isinstance(input_shape, Mapping):
            argument: Any = {name: SymbolicTensor((None, *shape[1:]), name=name) for name, shape in input_shape.items()}
        elif isinstance(input_shape, list):
            argument = [SymbolicTensor((None, *shape[1:]), name=f"input {i}") for i, shape in enumerate(input_shape)]
        else:
            argument = SymbolicTensor((None, *input_shape[1:]), name="input")
        self._tracing = True
        try:
            outputs = self.call(argument)
        finally:
            self._tracing = False
        self._set_graph(argument, outputs)

    @property
    def graph(self) -> Graph:
        """The layers' calls in order; ValueError before the shapes are known."""
        return self._with_shapes()._graph

    def _with_shapes(self) -> Model:
        """This model, once it has a graph; ValueError before."""
        if self._graph is None:
            raise ValueError(f"{self.name} has no shapes yet: give its first layer an input_shape, or call fit, "
                             f"predict or build((None, height, width, channels)) first")
        return self

    @property
    def built(self) -> bool:
        """Whether the shapes are known."""
        return self._graph is not None

    @property
    def layers(self) -> list[Layer]:
        """The layers, each once, in the order of computation."""
        return [layer for layer in self.graph.layers if not isinstance(layer, InputLayer)]

    @explained
    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer | Model:
        """The layer of that name or position; by name also a model that is a part of this one."""
        if (name is None) == (index is None):
            raise ValueError(f"{self.name}.get_layer: give either a name or an index")
        if index is not None:
            index = whole_number(index, "index", f"{self.name}.get_layer", -len(self.layers))
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(f"{self.name}.get_layer: index {index} of {len(self.layers)} layers")
            return self.layers[index]
        found = {layer.name: layer for layer in [*self.models, *self.layers]}
        if hasattr(name, "__index__"):
            raise TypeError(f"{self.name}.get_layer: name must be a string, got {name!r}; write index={name!r}")
        if name not in found:
            raise unknown_name("layer", name, found, self.name)
        return found[name]

    @property
    def models(self) -> list[Model]:
        """The models that are parts of this one, each once."""
        return list(dict.fromkeys(model for node in self.graph.nodes for model in node.models))

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs, for graphs that share some of this model's layers."""
        return list(self.graph.inputs)

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs."""
        return list(self.graph.outputs)

    @property
    def input(self):
        """The symbolic input; a list or a dictionary if the model was made with one."""
        return self._with_shapes()._inputs.pack(self.inputs)

    @property
    def output(self):
        """The symbolic output; a list or a dictionary if the model was made with one."""
        return self._with_shapes()._outputs.pack(self.outputs)

    @property
    def input_names(self) -> list[str]:
        """By which dictionaries of inputs are read."""
        return list(self._with_shapes()._inputs.names)

    @property
    def output_names(self) -> list[str]:
        """By which dictionaries of targets, losses and metrics are read, and the logs named."""
        return list(self._with_shapes()._outputs.names)

    @property
    def input_shape(self):
        """The shape of the input, None for the batch; a list or a dictionary if the model was made with one."""
        return self._with_shapes()._inputs.pack([tensor.shape for tensor in self.inputs])

    @property
    def output_shape(self):
        """The shape of the output, likewise."""
        return self._with_shapes()._outputs.pack([tensor.shape for tensor in self.outputs])

    def __call__(self, x, training: bool = False):
        """On arrays: one forward pass. On symbolic tensors: the model's layers as part of a larger graph."""
        by_name, several = isinstance(x, Mapping), isinstance(x, (list, tuple))
        values = x.values() if by_name else x if several else [x]
        if any(isinstance(value, SymbolicTensor) for value in values):
            return self._inline(x)
        arrays = {n: as_array(a, self.name) for n, a in x.items()} if by_name else \
            [as_array(a, self.name) for a in x] if several else as_array(x, self.name)
        self.build(shapes_of(arrays, self.name))
        return self._forward(self._inputs.unpack(arrays, f"{self.name}: x"), training)

    def _inline(self, x):
        """The nodes of this model once more, with `x` for its inputs."""
        if self._graph is None:
            self.build({n: t.shape for n, t in x.items()} if isinstance(x, Mapping) else
                       [t.shape for t in x] if isinstance(x, (list, tuple)) else x.shape)
        tensors = self._inputs.by_name(x, self.name) if isinstance(x, Mapping) else \
            list(x) if isinstance(x, (list, tuple)) else [x]
        if len(tensors) != len(self._inputs):
            raise ValueError(f"{self.name}: expected {len(self._inputs)} inputs, got {len(tensors)}")
        for tensor, own, name in zip(tensors, self.inputs, self._inputs.names, strict=True):
            if not isinstance(tensor, SymbolicTensor):
                raise TypeError(f"{self.name}: input {name!r} is {type(tensor).__name__}, among symbolic tensors; "
                                f"arrays enter a graph as an Input")
            if tensor.sample_shape != own.sample_shape:
                raise ValueError(f"{self.name}: input {name!r} has shape {own.shape}, got {tensor.name} of shape "
                                 f"{tensor.shape}; a model within a model takes the shape it was made for")
        known = dict(zip(self.inputs, tensors, strict=True))
        for node in self.graph.nodes:
            sources = [known[t] for t in node.inputs]
            made = node.layer(sources if len(sources) > 1 else sources[0])
            made.node.models = (*node.models, self)
            node.layer.nodes.remove(made.node)  # layer.output stays the one in the layer's own model
            known[node.outputs[0]] = made
        outputs = [known[t] for t in self.outputs]
        if len(outputs) == 1 and outputs[0] not in tensors:
            outputs[0].name = self.name
        return self._outputs.pack(outputs)

    # -- weights

    @property
    def weights(self) -> list[Variable]:
        """The weights of all layers in order, kernel before bias."""
        return [v for layer in self.layers for v in layer.variables]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes."""
        return [v for v in self.weights if v.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The other weights: of frozen layers, and moving averages."""
        return [v for v in self.weights if not v.trainable]

    variables, trainable_variables, non_trainable_variables = weights, trainable_weights, non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether any layer trains; setting it sets all layers."""
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    def count_params(self) -> int:
        """How many numbers the weights hold."""
        return sum(v.value.size for v in self._with_shapes().weights)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in layer order, kernel before bias."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Overwrite all weights; ValueError when the number of arrays or a shape does not fit."""
        assign_all(self._with_shapes().weights, weights, f"{self.name}.set_weights")

    # -- looking and keeping

    @explained
    def summary(self, batch_size: int = 32, print_fn=print) -> None:
        """Print layers, output shapes, parameters, FLOPs, connections, and the memory of a step at `batch_size`."""
        print_fn(summaries.summary(self, batch_size))

    @explained
    def profile(self, x, y=None, batch_size: int | None = None, repeats: int = 20) -> profiling.Profile:
        """Where the time of a training step on (x, y) goes, by layer and pass; without y, that of a prediction.

        The model is afterwards what it was before. See `fastcnn.profiling`.
        """
        from fastcnn import profiling  # slow to import, and most programs never ask

        return profiling.profile(self, x, y, batch_size, repeats)

    @explained
    def save(self, path, include_optimizer: bool = True) -> None:
        """Write weights, architecture and (unless told otherwise) the training state to one .safetensors file."""
        from fastcnn import checkpoints  # slow to import

        checkpoints.save_model(self, path, include_optimizer)

    @explained
    def save_weights(self, path) -> None:
        """Write the weights to a .safetensors file."""
        from fastcnn import checkpoints  # slow to import

        checkpoints.save_weights(self, path)

    @explained
    def load_weights(self, path, by_name: bool = False, skip_mismatch: bool = False) -> LoadReport:
        """Read weights that `save_weights` or `save` wrote; `CheckpointError` when they do not fit this model.

        With `by_name`, only layers that have their weights in the file, under the same names, are loaded; with
        `skip_mismatch`, layers whose weights have other shapes there are left as they are, with a warning. The report
        says what was loaded and what was not, and why: print it.
        """
        from fastcnn import checkpoints  # slow to import

        return checkpoints.load_weights(self, path, by_name, skip_mismatch)

    def __reduce_ex__(self, protocol):
        raise TypeError(f"{self.name}: a model cannot be pickled or copied; keep it with model.save(path), and get "
                        f"another one with fastcnn.load_model(path)")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Sequential(Model):
    """A stack of layers, each fed by the one before it.

    The shapes follow from `input_shape` of the first layer, from an `Input` as the first element, or from the first
    data the model sees.
    """

    def __init__(self, layers: Sequence[Layer] | None = None, name: str | None = None):
        super().__init__(name=name)
        self._stack: list[Layer | Model] = []
        self._input: SymbolicTensor | None = None
        self._tops: list[SymbolicTensor] = []  # what each element of the stack gives
        if isinstance(layers, (Layer, Model, SymbolicTensor)):
            raise TypeError(f"{self.name}: layers must be a list, got {layers!r}; write [...] around it")
        for layer in layers or ():
            self.add(layer)

    @explained
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
        if layer is self or self in parts_of(layer):
            raise ValueError(f"{self.name}.add: a model cannot be a part of itself")
        shape = getattr(layer, "given_input_shape", None)
        if isinstance(layer, Model) and layer.built and len(layer.inputs) == 1:
            shape = layer.inputs[0].sample_shape
        if not self._stack and self._input is None and shape is not None:
            self._input = SymbolicTensor((None, *shape), name=f"{layer.name} input")
        self._stack.append(layer)
        try:
            self._rebuild()
        except Exception:
            self._shorten()
            raise

    @explained
    def pop(self) -> None:
        """Take the top layer off."""
        if not self._stack:
            raise ValueError(f"{self.name}.pop: there are no layers")
        self._shorten()
        self._graph = None
        self._rebuild()

    def _shorten(self) -> None:
        self._stack.pop()
        del self._tops[len(self._stack):]

    def _rebuild(self) -> None:
        if self._input is not None and self._stack:
            for layer in self._stack[len(self._tops):]:
                self._tops.append(layer(self._tops[-1] if self._tops else self._input))
            self._set_graph(self._input, self._tops[-1])

    def build(self, input_shape) -> None:
        if self._graph is None:
            if not self._stack:
                raise ValueError(f"{self.name} has no layers; add some first")
            if isinstance(input_shape, (list, dict)):
                input_shape = list(input_shape.values() if isinstance(input_shape, dict) else input_shape)
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


def parts_of(layer: Layer | Model) -> list[Layer | Model]:
    """The elements of a stack, of the stacks in it, and so on; none for other layers and models."""
    own = getattr(layer, "_stack", [])
    return [*own, *(part for element in own for part in parts_of(element))]


def run_layer(layer: Layer, inputs: Sequence[Any], training: bool) -> np.ndarray:
    """One forward pass of a single layer on arrays."""
    if any(isinstance(x, Model) for x in inputs):
        raise TypeError(f"{layer.name}: called on a model; call it on the model's output, or add both to a Sequential")
    arrays = [as_float32(x, np.ndim(x), f"{layer.name}: input") for x in inputs]
    symbolic = [SymbolicTensor((None, *a.shape[1:])) for a in arrays]
    argument = symbolic if len(symbolic) > 1 else symbolic[0]
    output = layer(argument)
    layer.nodes.remove(output.node)  # what a graph knows of the layer is not changed by trying it
    return Model(argument, output, name=f"{layer.name} alone")._forward(arrays, training)


def clone_model(model: Model) -> Model:
    """A new model of the same architecture and names, with new weights; it is not compiled.

    A stack of layers becomes one, any other model the graph that it is. Layers of your own are made by their
    `from_config`, from what `get_config` returns.

    Raises
    ------
    TypeError
        For anything but a model, and for a layer whose configuration is not JSON.
    ValueError
        When the model has no shapes yet, or a layer cannot be made from its configuration.
    """
    from fastcnn import checkpoints  # slow to import

    if not isinstance(model, Model):
        raise TypeError(f"clone_model: expected a Model, got {model!r}")
    return checkpoints.rebuild(checkpoints.describe(model), checkpoints.classes_in(model))


def load_model(path, custom_objects: dict[str, Any] | None = None, compile: bool = True) -> Model:
    """The model that `Model.save` wrote to `path`: architecture, weights and, where saved, the training state.

    With `compile` False the training state is left out.

    Raises
    ------
    FileNotFoundError, CheckpointError
        When there is no such file, or it is damaged, foreign, or names a layer that is not known (give your own layer
        classes as `custom_objects={'Name': Class}`).
    """
    from fastcnn import checkpoints  # slow to import

    return checkpoints.load_model(path, custom_objects, compile)
