"""compile, and single batches: the plans of a model, what goes into them and what comes out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import prod
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import compiling, optimizers, random
from fastcnn.algorithms import get_algorithm_policy
from fastcnn.averages import Averages, names_of
from fastcnn.batches import check_lengths, output_weights, prepare_input, shapes_of
from fastcnn.errors import Explained, explained
from fastcnn.graph import SymbolicTensor
from fastcnn.kernels import _cpu
from fastcnn.layers.base import Variable
from fastcnn.store import Store
from fastcnn.utils import flag, whole_number

if TYPE_CHECKING:
    from fastcnn.plan.plan import Plan

# Plans kept for reuse: the usual and the last, smaller batch, for training, testing and predicting.
MAX_PLANS = 8
LAYER_IS_TRAINED = attrgetter("layer.trainable")


class Stepper(Explained):
    """What of a model is about single batches."""

    def __init__(self):
        self.optimizer: optimizers.Optimizer | None = None
        self.losses: list[Any] = []
        self.metrics: list[list[Any]] = []
        self.weighted_metrics: list[list[Any]] = []
        self.log_names: list[str] = []
        self.loss_weights = [1.0]
        self._compiled: compiling.Choices | None = None
        self._recompute: bool | list[SymbolicTensor] = False
        self._store: Store | None = None
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.RLock()  # a plan has one set of buffers: Python threads take turns
        self._dropout_counter = np.zeros(2, np.uint64)

    # -- compile

    @explained
    def compile(self, optimizer="adam", loss=None, metrics=None, loss_weights=None,
                recompute: bool | Sequence[str] = False, weighted_metrics=None, run_eagerly: bool | None = False,
                steps_per_execution: int | None = 1, jit_compile: bool | str | None = "auto",
                auto_scale_loss: bool | None = True) -> None:
        """Choose how to train: an optimiser, a loss and metrics, by name or as objects.

        For several outputs, `loss`, `metrics`, `weighted_metrics` and `loss_weights` are lists with an entry for each,
        or dictionaries by the outputs' names (of their layers); an entry of the metrics may be a list. One loss by name
        serves all outputs; the loss None leaves an output untrained.

        Parameters
        ----------
        metrics, weighted_metrics : the former count all samples alike, the latter by `sample_weight` and
            `class_weight`. A name that both have becomes 'weighted_...' for the latter.
        recompute : train with less memory, in more time: give up activations after the forward pass, and compute them
            anew in the backward pass. True chooses which ones so that a step needs least memory, as `summary` shows;
            a list of names keeps the outputs of these layers (or models within the model), what is read beyond
            them, and all after the last of them. The results are the same bits. Layers written in NumPy are
            not run twice: what they read and write is kept.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss : of Keras, for programs that give them: a graph
            is always run as compiled code, one batch at a time, in float32. False, 1, any and any are taken.

        Raises
        ------
        TypeError, ValueError
            For unknown names, and where numbers or names do not fit the outputs.
        """
        where = f"{self.name}.compile"
        compiling.check_execution(run_eagerly, steps_per_execution, jit_compile, auto_scale_loss, where)
        self.optimizer = optimizers.get(optimizer, where)
        recompute = compiling.check_recompute(recompute, where)
        if loss is not None:
            compiling.check_names(loss, metrics, weighted_metrics, where)
        self._compiled = compiling.Choices(loss, metrics, loss_weights, recompute, weighted_metrics)
        self._dropout_counter[:] = random.next_seed(), 0
        self.losses = []
        self._reset_plans()
        if loss is not None and self.built:
            self._resolve()
        if self._store is not None:
            self._store.slots = {}

    def _resolve(self) -> None:
        """Losses and metrics for the outputs, once these are known."""
        if self._compiled is None:
            raise ValueError(f"{self.name} must be compiled first: model.compile(optimizer='adam', loss=...)")
        if self._compiled.loss is None:
            raise ValueError(f"{self.name}: compile was called without a loss; give loss=...")
        if not self.losses:
            where, outputs, choices = f"{self.name}.compile", self._outputs, self._compiled
            chosen = compiling.losses_of(outputs, choices.loss, where)
            self.metrics = compiling.metrics_of(outputs, choices.metrics, chosen, where)
            self.weighted_metrics = compiling.metrics_of(outputs, choices.weighted_metrics, chosen, where)
            self.loss_weights = compiling.loss_weights_of(outputs, choices.loss_weights, where)
            self._recompute = compiling.kept_tensors(self, choices.recompute, where)
            self.losses = chosen
            self.log_names = names_of(self)

    @property
    def metrics_names(self) -> list[str]:
        """What `evaluate` returns, by name; ValueError before the model is compiled and its shapes are known."""
        self._with_shapes()._resolve()
        return list(self.log_names)

    # -- plans

    def _reset_plans(self) -> None:
        self._plans.clear()

    def _plan(self, kind: str, n: int, weighted: bool = False) -> Plan:
        """The plan for a batch of n: kind is 'predict', 'predict_training', 'test' or 'train'."""
        variables = self._own_store().variables
        frozen = tuple(map(LAYER_IS_TRAINED, variables)) if kind in ("train", "predict_training") else None
        key = (kind, n, weighted, _cpu.isa(), get_algorithm_policy(), frozen)
        plan = self._plans.get(key)
        if plan is None:
            if kind == "train":
                self._fill_slots()
            plan = self._plans[key] = self._make_plan(kind, n, weighted)
            if len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan

    def _make_plan(self, kind: str, n: int, weighted: bool = False) -> Plan:
        from fastcnn.plan.plan import Plan  # the whole engine: many modules, which importing fastcnn leaves alone

        try:
            return Plan(self.graph, n, self._store, self.losses if kind in ("test", "train") else (),
                        self.loss_weights, self.optimizer if kind == "train" else None, kind == "predict_training",
                        weighted, self._dropout_counter, self._recompute)
        except MemoryError:
            largest = max((node.outputs[0] for node in self.graph.nodes), key=lambda y: prod(y.sample_shape))
            raise MemoryError(f"{self.name}: no memory for a batch of {n}: {largest.name} alone takes "
                              f"{4 * n * prod(largest.sample_shape) / 2**30:.3g} GiB; use a smaller batch_size, or "
                              f"smaller images") from None

    def measure(self, batch_size: int) -> tuple[str, dict[str, int], int]:
        """('training', bytes by use, bytes of weights, their gradients and the optimiser's moments) of a step at that
        batch size; ('prediction', ...) for a model without a loss."""
        batch_size = whole_number(batch_size, "batch_size", f"{self.name}.summary")
        self._own_store()
        trains = self._compiled is not None and self._compiled.loss is not None
        if trains:
            self._resolve()
            self._fill_slots()
        plan, stored = self._make_plan("train" if trains else "predict", batch_size), self._store.values.nbytes
        if not trains:
            return "prediction", plan.bytes, stored
        return "training", plan.bytes, (2 + len(self.optimizer.slots)) * stored - plan.updates.early_bytes

    def _own_store(self) -> Store:
        """The store that holds the weights of all present layers."""
        if self._store is not None and self._store.is_current(self.graph.layers):
            return self._store
        variables = self.weights
        if self._store is None or self._store.variables != variables:
            self._store = Store(variables)
            self._reset_plans()
        else:
            self._store.adopt()
        return self._store

    def slot_views(self) -> dict[str, dict[Variable, np.ndarray]]:
        """The optimiser's moments by name, of each weight, as views in the weight's shape."""
        store = self._own_store()
        self._fill_slots()
        return {name: {v: store.view(store.slots[name], v) for v in store.variables}
                for name in self.optimizer.slots}

    def _fill_slots(self) -> None:
        """Moment arrays of the optimiser, filled with its starting values unless they are there."""
        for name in self.optimizer.slots:
            if name not in self._store.slots:
                slot = np.full_like(self._store.values, self.optimizer.initial_slot(name))
                self._store.slots[name] = slot

    # -- single batches

    def _point(self, plan: Plan, xs, samples=None, first=0) -> None:
        for load, x in zip(plan.inputs, xs, strict=True):
            load.point_at(x, samples, first)

    def _give_targets(self, plan: Plan, ys, samples, weights) -> None:
        for i, (io, y) in enumerate(zip(plan.losses, ys, strict=True)):
            if io is None:
                continue
            io.set_targets(y, samples)
            if io.weights is not None:
                io.set_weights(weights[i][samples])

    def _penalty(self) -> float:
        penalty = 0.0
        for variable in self._store.variables:
            if variable.regularizer is not None and variable.trainable:
                penalty += float(variable.regularizer(variable.value))
        return penalty

    def _forward(self, xs, training: bool = False):
        """One forward pass over all samples at once; Keras takes `training` None for False."""
        training = training is not None and flag(training, "training", self.name)
        inputs = self.graph.inputs
        if len(xs) != len(inputs):
            raise ValueError(f"{self.name}: expected {len(inputs)} inputs, got {len(xs)}")
        xs = [prepare_input(x, t.shape, self.name) for x, t in zip(xs, inputs, strict=True)]
        if len(xs) > 1:
            check_lengths(self.name, x=xs)
        return self._run_forward(xs, training)

    def _run_forward(self, xs, training: bool = False):
        """The outputs for inputs that have been checked."""
        n = len(xs[0])
        if n == 0:
            return self._outputs.pack([np.zeros((0, *t.sample_shape), np.float32) for t in self.graph.outputs])
        if training and not self._dropout_counter.any():
            self._dropout_counter[0] = random.next_seed()
        with self._lock:
            plan = self._plan("predict_training" if training else "predict", n)
            self._point(plan, xs)
            plan.run()
            return self._outputs.pack([output.copy() for output in plan.outputs])

    def _prepare_inputs(self, x, where: str):
        """The inputs of a prediction, checked."""
        if self._graph is None:
            self.build(shapes_of(x, where))
        xs = [prepare_input(a, t.shape, place) for a, t, place in
              zip(self._inputs.unpack(x, f"{where}: x"), self.graph.inputs, self._inputs.places(where), strict=True)]
        if len(xs) > 1:
            check_lengths(where, x=xs)
        return xs

    def _batch(self, x, y, where: str):
        """Inputs and targets of a batch, checked."""
        if self._graph is None:
            self.build(shapes_of(x, where))
        if not self.losses:
            self._resolve()
        return self._prepare(x, y, where)

    def _prepare(self, x, y, where: str):
        graph, inputs, outputs = self.graph, self._inputs, self._outputs
        xs = [prepare_input(a, t.shape, place, check_finite=True) for a, t, place in
              zip(inputs.unpack(x, f"{where}: x"), graph.inputs, inputs.places(where), strict=True)]
        ys = [None if loss is None else loss.check_targets(a, t.shape, place) for loss, a, t, place in
              zip(self.losses, self._targets(y, where), graph.outputs, outputs.places(where), strict=True)]
        check_lengths(where, x=xs, y=ys)
        return xs, ys

    def _targets(self, y, where: str) -> list[Any]:
        """The targets of each output, None for those without a loss."""
        if y is None:
            raise ValueError(f"{where}: y is missing; give the targets after x")
        by_name = not isinstance(y, np.ndarray) and isinstance(y, Mapping)
        ys = (self._outputs.by_name(y, f"{where}: y", optional=True) if by_name else
              self._outputs.unpack(y, f"{where}: y"))
        for name, loss, a in zip(self._outputs.names, self.losses, ys, strict=True):
            if loss is not None and a is None:
                raise ValueError(f"{where}: y lacks the targets of output {name!r}, which has a loss")
            if loss is not None and (isinstance(a, (int, float)) or getattr(a, "ndim", 1) == 0):
                raise ValueError(f"{where}: y must be an array with the samples along its first axis, got a single "
                                 f"value")
        return [None if loss is None else a for loss, a in zip(self.losses, ys, strict=True)]

    @explained
    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict: bool = False):
        """One training step on one batch: the loss, or [loss, metric, ...], or a dictionary; weights as in `fit`."""
        where = f"{self.name}.train_on_batch"
        xs, ys = self._batch(x, y, where)
        return self._one_batch("train", xs, ys, sample_weight, class_weight, return_dict, where)

    @explained
    def test_on_batch(self, x, y=None, sample_weight=None, return_dict: bool = False):
        """Loss and metrics of one batch, without training."""
        where = f"{self.name}.test_on_batch"
        xs, ys = self._batch(x, y, where)
        return self._one_batch("test", xs, ys, sample_weight, None, return_dict, where)

    @explained
    def predict_on_batch(self, x):
        """The outputs for one batch, all of it at once; see `predict`."""
        return self._run_forward(self._prepare_inputs(x, f"{self.name}.predict_on_batch"))

    def _one_batch(self, kind, xs, ys, sample_weight, class_weight, return_dict, where):
        n = len(xs[0])
        if n == 0:
            raise ValueError(f"{where}: the batch holds no samples")
        return_dict = flag(return_dict, "return_dict", where)
        weights = output_weights(self._outputs, sample_weight, class_weight, ys, n, where)
        averages = Averages(self)
        self._run_batch(kind, xs, ys, slice(0, n), weights, averages)
        return returned_values(averages.logs(), return_dict)

    def _run_batch(self, kind, xs, ys, samples, weights, averages) -> None:
        """Run one batch of the samples named by a slice or by an array of indices."""
        is_slice = isinstance(samples, slice)
        n = samples.stop - samples.start if is_slice else len(samples)
        if n == 0:
            return
        with self._lock:
            plan = self._plan(kind, n, weights is not None)
            self._point(plan, xs, None if is_slice else samples, samples.start if is_slice else 0)
            self._give_targets(plan, ys, samples, weights)
            penalty = self._penalty()
            plan.run()
            averages.add(plan, penalty)


def returned_values(logs: dict[str, float], return_dict: bool) -> Any:
    """A dictionary, or its values; one alone is no list."""
    values = list(logs.values())
    return logs if return_dict else values if len(values) > 1 else values[0]
