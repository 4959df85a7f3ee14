"""compile, fit, evaluate, predict: the loops around plans."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import compiling, optimizers, random
from fastcnn import metrics as metrics_module
from fastcnn.algorithms import get_algorithm_policy
from fastcnn.batches import check_lengths, output_weights, prepare_input, shapes_of, slices
from fastcnn.callbacks import CallbackList, History
from fastcnn.data import Dataset
from fastcnn.graph import SymbolicTensor
from fastcnn.kernels import _cpu
from fastcnn.layers.base import Variable
from fastcnn.ports import distinct
from fastcnn.sources import ArraySource, IterableSource, Source, batches_of, inputs_of, is_arrays, number_of_batches
from fastcnn.store import Store
from fastcnn.utils import flag, real_number, whole_number

if TYPE_CHECKING:
    from fastcnn.plan.plan import Plan

# Plans kept for reuse: the usual and the last, smaller batch, for training, testing and predicting.
MAX_PLANS = 8


class Averages:
    """Running means of the loss and the metrics over the batches of an epoch."""

    def __init__(self, model: Trainer):
        self.model = model
        self.penalty, self.samples, self.batches = 0.0, 0, 0

    def _start(self) -> None:
        """At the first batch: a model fed by an iterable has no losses and metrics before."""
        self.output_losses = np.zeros(len(self.model.losses))
        for metric in self.model._metrics_flat():
            metric.reset()

    def add(self, plan: Plan, penalty: float = 0.0) -> None:
        """Take in what a plan has just computed; metrics count all samples alike, whatever their weights."""
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
                if model._is_counted(metric, io):
                    metric.total += float(io.totals[1])
                    metric.weight += io.rows
                else:
                    metric.update(io.read_only_targets, plan.outputs[i])

    def logs(self) -> dict[str, float]:
        """'loss', each output's loss if there are several, and the metrics by name, as Keras names them: a, a_1."""
        model = self.model
        means = self.output_losses / self.samples
        names = model._outputs.names
        logs = [("loss", float(means @ model.loss_weights + self.penalty / self.samples))]
        trained = [i for i, loss in enumerate(model.losses) if loss is not None]
        if len(trained) > 1:
            logs += [(f"{names[i]}_loss", float(means[i])) for i in trained]
        for name, metrics in zip(names, model.metrics, strict=True):
            logs += [(metric.name if len(means) == 1 else f"{name}_{metric.name}", metric.result())
                     for metric in metrics]
        return dict(zip(distinct([name for name, _ in logs]), (value for _, value in logs), strict=True))


class Trainer:
    """The training half of a model."""

    def __init__(self):
        self.optimizer: optimizers.Optimizer | None = None
        self.losses: list[Any] = []
        self.metrics: list[list[Any]] = []
        self.loss_weights = np.ones(1)
        self.stop_training = False
        self.history: History | None = None
        self._compiled: tuple[Any, Any, Any, bool | list[str]] | None = None
        self._recompute: bool | list[SymbolicTensor] = False
        self._store: Store | None = None
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.RLock()  # a plan has one set of buffers: Python threads take turns
        self._dropout_counter = np.zeros(2, np.uint64)

    # -- compile

    def compile(self, optimizer="adam", loss=None, metrics=None, loss_weights=None,
                recompute: bool | Sequence[str] = False) -> None:
        """Choose how to train: an optimiser, a loss and metrics, by name or as objects.

        For several outputs, `loss`, `metrics` and `loss_weights` are lists with an entry for each, or dictionaries
        by the outputs' names (of their layers); an entry of `metrics` may be a list. One loss by name serves all
        outputs; the loss None leaves an output untrained.

        Parameters
        ----------
        recompute : train with less memory, in more time: give up activations after the forward pass, and compute them
            anew in the backward pass. True chooses which ones so that a step needs least memory, as `summary` shows;
            a list of names keeps the outputs of these layers (or models within the model), what is read beyond
            them, and all after the last of them. The results are the same bits. Layers written in NumPy are
            not run twice: what they read and write is kept.

        Raises
        ------
        TypeError, ValueError
            For unknown names, and where numbers or names do not fit the outputs.
        """
        where = f"{self.name}.compile"
        self.optimizer = optimizers.get(optimizer, where)
        recompute = compiling.check_recompute(recompute, where)
        if loss is not None:
            compiling.check_names(loss, metrics, where)
        self._compiled = (loss, metrics, loss_weights, recompute)
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
        loss, metrics, loss_weights, recompute = self._compiled
        if loss is None:
            raise ValueError(f"{self.name}: compile was called without a loss; give loss=...")
        if not self.losses:
            where, outputs = f"{self.name}.compile", self._outputs
            chosen = compiling.losses_of(outputs, loss, where)
            self.metrics = compiling.metrics_of(outputs, metrics, chosen, where)
            self.loss_weights = compiling.loss_weights_of(outputs, loss_weights, where)
            self._recompute = compiling.kept_tensors(self, recompute, where)
            self.losses = chosen

    def _metrics_flat(self):
        return [metric for chosen in self.metrics for metric in chosen]

    @staticmethod
    def _is_counted(metric, io) -> bool:
        """Whether the loss kernel has counted what this metric asks for."""
        kinds = (metrics_module.SparseCategoricalAccuracy if io.sparse else metrics_module.CategoricalAccuracy)
        return (io.counts_correct and type(metric) is kinds
                and getattr(metric, "ignore_class", None) == io.ignored)

    # -- plans

    def _reset_plans(self) -> None:
        self._plans.clear()

    def _plan(self, kind: str, n: int, weighted: bool = False) -> Plan:
        """The plan for a batch of n: kind is 'predict', 'predict_training', 'test' or 'train'."""
        variables = self._own_store().variables
        if kind == "train":
            self._fill_slots()
        frozen = tuple(v.layer.trainable for v in variables) if kind in ("train", "predict_training") else None
        key = (kind, n, weighted, _cpu.isa(), get_algorithm_policy(), frozen)
        plan = self._plans.get(key)
        if plan is None:
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

    def measure(self, batch_size: int) -> tuple[str, dict[str, int]]:
        """('training', bytes by use) of a step at that batch size; ('prediction', ...) for a model without a loss.

        Weights, gradients and the optimiser's moments are not counted.
        """
        batch_size = whole_number(batch_size, "batch_size", f"{self.name}.summary")
        self._own_store()
        trains = self._compiled is not None and self._compiled[0] is not None
        if trains:
            self._resolve()
            self._fill_slots()
        return ("training" if trains else "prediction",
                self._make_plan("train" if trains else "predict", batch_size).bytes)

    def stored_bytes(self) -> int:
        """Of weights, and for a model with a loss of their gradients and the optimiser's moments."""
        store = self._own_store()
        trains = self._compiled is not None and self._compiled[0] is not None
        return store.values.nbytes * (2 + len(self.optimizer.slots) if trains else 1)

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
        return sum(float(v.regularizer(v.value)) for v in self._store.variables
                   if v.regularizer is not None and v.trainable)

    def _forward(self, xs, training: bool = False):
        """One forward pass over all samples at once; Keras takes `training` None for False."""
        training = training is not None and flag(training, "training", self.name)
        inputs = self.graph.inputs
        if len(xs) != len(inputs):
            raise ValueError(f"{self.name}: expected {len(inputs)} inputs, got {len(xs)}")
        xs = [prepare_input(x, t.shape, self.name) for x, t in zip(xs, inputs, strict=True)]
        if len(xs) > 1:
            check_lengths(xs, [f"input {i}" for i in range(len(xs))], self.name)
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
        self.build(shapes_of(x, where))
        xs = [prepare_input(a, t.shape, place) for a, t, place in
              zip(self._inputs.unpack(x, f"{where}: x"), self.graph.inputs, self._inputs.places(where), strict=True)]
        if len(xs) > 1:
            check_lengths(xs, [f"x[{i}]" for i in range(len(xs))], where)
        return xs

    def _batch(self, x, y, where: str):
        """Inputs and targets of a batch, checked."""
        self.build(shapes_of(x, where))
        self._resolve()
        return self._prepare(x, y, where)

    def _prepare(self, x, y, where: str):
        inputs, places = self.graph.inputs, self._inputs.places(where)
        xs = [prepare_input(a, t.shape, place, check_finite=True)
              for a, t, place in zip(self._inputs.unpack(x, f"{where}: x"), inputs, places, strict=True)]
        ys = self._targets(y, where)
        named = {f"x[{i}]" if len(xs) > 1 else "x": a for i, a in enumerate(xs)}
        named.update({f"y[{i}]" if len(ys) > 1 else "y": np.asarray(a) for i, a in enumerate(ys) if a is not None})
        check_lengths(list(named.values()), list(named), where)
        ys = [None if loss is None else loss.check_targets(a, t.shape, place) for loss, a, t, place in
              zip(self.losses, ys, self.graph.outputs, self._outputs.places(where), strict=True)]
        return xs, ys

    def _targets(self, y, where: str) -> list[Any]:
        """The targets of each output, None for those without a loss."""
        if y is None:
            raise ValueError(f"{where}: y is missing; give the targets after x")
        ys = (self._outputs.by_name(y, f"{where}: y", optional=True) if isinstance(y, Mapping) else
              self._outputs.unpack(y, f"{where}: y"))
        for name, loss, a in zip(self._outputs.names, self.losses, ys, strict=True):
            if loss is not None and a is None:
                raise ValueError(f"{where}: y lacks the targets of output {name!r}, which has a loss")
        return [None if loss is None else a for loss, a in zip(self.losses, ys, strict=True)]

    def train_on_batch(self, x, y):
        """One training step on one batch: the loss, or [loss, metric, ...]."""
        xs, ys = self._batch(x, y, f"{self.name}.train_on_batch")
        return self._one_batch("train", xs, ys)

    def test_on_batch(self, x, y):
        """Loss and metrics of one batch, without training."""
        xs, ys = self._batch(x, y, f"{self.name}.test_on_batch")
        return self._one_batch("test", xs, ys)

    def _one_batch(self, kind, xs, ys):
        if len(xs[0]) == 0:
            raise ValueError(f"{self.name}.{kind}_on_batch: the batch holds no samples")
        averages = Averages(self)
        self._run_batch(kind, xs, ys, slice(0, len(xs[0])), None, averages)
        values = list(averages.logs().values())
        return values if len(values) > 1 else values[0]

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

    # -- fit

    def fit(self, x, y=None, batch_size: int = 32, epochs: int = 1, validation_data=None,
            validation_split: float = 0.0, shuffle: bool = True, callbacks=None, verbose="auto",
            initial_epoch: int = 0, class_weight=None, sample_weight=None) -> History:
        """Train on arrays, a `Dataset`, or an iterable of (x, y) batches, for `epochs` passes over them.

        For several inputs or outputs, `x`, `y` and `sample_weight` are lists of arrays in order, or dictionaries by
        name: of the `Input`, or of the layer that makes the output.

        Returns
        -------
        History
            `.history` maps 'loss', each metric and their 'val_' forms to a list with one number per epoch.

        Raises
        ------
        ValueError, TypeError
            For data that does not fit the model or the loss; nothing has been trained then.
        """
        where = f"{self.name}.fit"
        epochs = whole_number(epochs, "epochs", where, 0)
        initial_epoch = whole_number(initial_epoch, "initial_epoch", where, 0)
        source = self._source(x, y, batch_size, shuffle, validation_split, class_weight, sample_weight, where)
        validation = self._validation(source, validation_data, validation_split, where)
        params = {"epochs": epochs, "steps": source.steps, "verbose": verbose}
        calls = CallbackList(callbacks, add_history=True, verbose=verbose, model=self, params=params)
        self.stop_training = False
        self.history = calls.history  # at once: after Ctrl-C it holds the epochs that were done
        with calls:
            self._fit(range(initial_epoch, epochs), source, validation, calls, where)
        return calls.history

    def _fit(self, epochs: range, source: Source, validation: Source | None, calls: CallbackList, where: str) -> None:
        """The loop over the epochs."""
        calls.on_train_begin()
        logs: dict[str, float] = {}
        for epoch in epochs:
            calls.on_epoch_begin(epoch)
            logs = self._epoch("train", source, calls, where if epoch == epochs.start else
                                     f"{where}: epoch {epoch + 1} (a generator can be read only once; give a "
                                     f"Dataset or a list of batches)")
            if validation is not None:
                calls.on_test_begin()
                tested = self._epoch("test", validation, calls, f"{where}: validation")
                calls.on_test_end(tested)
                logs.update({f"val_{name}": value for name, value in tested.items()})
            calls.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        calls.on_train_end(logs)

    def _epoch(self, kind: str, source: Source, calls: CallbackList, where: str) -> dict[str, float]:
        """One pass over the data: kind is 'train' or 'test'. Returns the logs."""
        averages = Averages(self)
        begin, end = getattr(calls, f"on_{kind}_batch_begin"), getattr(calls, f"on_{kind}_batch_end")
        for step, (xs, ys, samples, weights) in enumerate(source.batches()):
            if calls.has_batch_hooks:
                begin(step)
            self._run_batch(kind, xs, ys, samples, weights, averages)
            if calls.has_batch_hooks and averages.batches:
                end(step, averages.logs())
            if kind == "train" and self.stop_training:
                break
        if averages.batches == 0:
            raise ValueError(f"{where}: the data holds no samples")
        return averages.logs()

    def _source(self, x, y, batch_size, shuffle, split, class_weight, sample_weight, where) -> Source:
        if isinstance(x, Dataset) or not is_arrays(x):
            for name, given in (("y", y), ("sample_weight", sample_weight), ("class_weight", class_weight)):
                if given is not None:
                    raise ValueError(f"{where}: {name} cannot be given when x yields the batches")
            if split:
                raise ValueError(f"{where}: validation_split needs arrays; give validation_data")
            return IterableSource(self, x, where)
        batch_size = whole_number(batch_size, "batch_size", where)
        xs, ys = self._batch(x, y, where)
        weights = output_weights(self._outputs, sample_weight, class_weight, ys, len(xs[0]), where)
        test_weights = output_weights(self._outputs, sample_weight, None, ys, len(xs[0]), where)
        return ArraySource(xs, ys, weights, batch_size, flag(shuffle, "shuffle", where), test_weights)

    def _validation(self, source, validation_data, split, where) -> Source | None:
        if validation_data is not None:
            if isinstance(validation_data, Dataset) or not is_arrays(validation_data):
                return IterableSource(self, validation_data, f"{where}: validation_data")
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ValueError(f"{where}: validation_data must be (x, y), (x, y, sample_weight) or a Dataset")
            xs, ys = self._batch(*validation_data[:2], f"{where}: validation_data")
            weights = output_weights(self._outputs, validation_data[2] if len(validation_data) == 3 else None, None, ys,
                                     len(xs[0]), where)
            return ArraySource(xs, ys, weights, max(source.batch_size, 1), False)
        if not 0 <= real_number(split, "validation_split", where) < 1:
            raise ValueError(f"{where}: validation_split must be in [0, 1), got {split}")
        return source.split_off(split) if split else None

    # -- evaluate and predict

    def evaluate(self, x, y=None, batch_size: int = 32, return_dict: bool = False, verbose="auto", sample_weight=None,
                 callbacks=None):
        """Loss and metrics over the data: [loss, metric, ...], the loss alone without metrics, or a dict."""
        where = f"{self.name}.evaluate"
        return_dict = flag(return_dict, "return_dict", where)
        source = self._source(x, y, batch_size, False, 0.0, None, sample_weight, where)
        params = {"steps": source.steps, "verbose": verbose}
        with CallbackList(callbacks, verbose=verbose, model=self, params=params) as calls:
            calls.on_test_begin()
            logs = self._epoch("test", source, calls, where)
            calls.on_test_end(logs)
        values = list(logs.values())
        return logs if return_dict else values if len(values) > 1 else values[0]

    def predict(self, x, batch_size: int = 32, verbose=0, callbacks=None):
        """The outputs for all samples: an array, or for several outputs a list, or a dictionary by name.

        A callback's `on_predict_batch_end` gets those of the batch as `logs["outputs"]`.
        """
        where = f"{self.name}.predict"
        batch_size = whole_number(batch_size, "batch_size", where)
        is_iterable = isinstance(x, Dataset) or not is_arrays(x)
        xs = [] if is_iterable else self._prepare_inputs(x, where)
        if not is_iterable and len(xs[0]) <= batch_size and verbose == 0 and callbacks is None:
            return self._run_forward(xs)
        steps = number_of_batches(x) if is_iterable else -(-len(xs[0]) // batch_size)
        params = {"steps": steps, "verbose": verbose}
        with CallbackList(callbacks, verbose=verbose, model=self, params=params) as calls:
            calls.on_predict_begin()
            outputs = (self._predict_iterable(x, batch_size, calls, where) if is_iterable else
                       self._predict_arrays(xs, batch_size, calls))
            calls.on_predict_end()
        return outputs

    def _predict_iterable(self, batches, batch_size: int, calls: CallbackList, where: str):
        parts = []
        for step, batch in enumerate(batches_of(batches, where)):
            calls.on_predict_batch_begin(step)
            parts.append(self.predict(inputs_of(batch, self), batch_size))
            calls.on_predict_batch_end(step, {"outputs": parts[-1]})
        if not parts:
            raise ValueError(f"{where}: the data holds no samples")
        lists = [self._outputs.unpack(part, where) for part in parts]
        return self._outputs.pack([np.concatenate(p) for p in zip(*lists, strict=True)])

    def _predict_arrays(self, xs, batch_size: int, calls: CallbackList):
        n = len(xs[0])
        results = [np.empty((n, *t.sample_shape), np.float32) for t in self.graph.outputs]
        packed = set()  # plans that have seen these weights
        for step, (first, last) in enumerate(slices(n, batch_size)):
            if calls.has_batch_hooks:
                calls.on_predict_batch_begin(step)
            with self._lock:
                plan = self._plan("predict", last - first)
                self._point(plan, xs, None, first)
                plan.run(repack=plan not in packed)
                packed.add(plan)
                for result, output in zip(results, plan.outputs, strict=True):
                    result[first:last] = output
            if calls.has_batch_hooks:
                calls.on_predict_batch_end(step, {"outputs": self._outputs.pack([r[first:last] for r in results])})
        return self._outputs.pack(results)
