"""compile, fit, evaluate, predict: the loops around plans."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from fastcnn import losses as losses_module
from fastcnn import metrics as metrics_module
from fastcnn import optimizers, random
from fastcnn.batches import (
    as_list,
    check_count,
    check_lengths,
    prepare_input,
    sample_weights,
    shapes_of,
    slices,
)
from fastcnn.callbacks import CallbackList, History
from fastcnn.data import Dataset
from fastcnn.kernels import _cpu
from fastcnn.layers.base import Variable
from fastcnn.plan.plan import Plan
from fastcnn.sources import ArraySource, IterableSource, Source, is_arrays
from fastcnn.store import Store

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
            self.output_losses[i] += io.mean * plan.n
            for metric in model.metrics[i]:
                if model._is_counted(metric, io):
                    metric.total += float(io.totals[1])
                    metric.weight += io.rows
                else:
                    metric.update(io.targets, plan.outputs[i])

    def logs(self) -> dict[str, float]:
        """'loss' and the metrics by name, as Keras names them."""
        model = self.model
        means = self.output_losses / self.samples
        names = model._output_names()
        logs = {"loss": float(means @ model.loss_weights + self.penalty / self.samples)}
        if len(means) > 1:
            logs.update({f"{name}_loss": float(mean) for name, mean in zip(names, means, strict=True)})
        for name, metrics in zip(names, model.metrics, strict=True):
            for metric in metrics:
                logs[metric.name if len(means) == 1 else f"{name}_{metric.name}"] = metric.result()
        return logs


class Trainer:
    """The training half of a model."""

    def __init__(self):
        self.optimizer: optimizers.Optimizer | None = None
        self.losses: list[Any] = []
        self.metrics: list[list[Any]] = []
        self.loss_weights = np.ones(1)
        self.stop_training = False
        self.history: History | None = None
        self._compiled: tuple[Any, Any, Any] | None = None
        self._store: Store | None = None
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.RLock()  # a plan has one set of buffers: Python threads take turns
        self._dropout_counter = np.zeros(2, np.uint64)

    # -- compile

    def compile(self, optimizer="adam", loss=None, metrics=None, loss_weights=None) -> None:
        """Choose how to train: an optimiser, a loss (one per output) and metrics, by name or as objects."""
        self.optimizer = optimizers.get(optimizer, f"{self.name}.compile")
        self._compiled = (loss, metrics, loss_weights)
        self._dropout_counter[:] = random.next_seed(), 0
        if loss is not None:
            self._check_names(loss, metrics)
        self.losses = []
        self._reset_plans()
        if self._store is not None:
            self._store.slots = {}

    def _check_names(self, loss, metrics) -> None:
        """Unknown names should fail here, not at the first batch."""
        if metrics is not None and not isinstance(metrics, (list, tuple)):
            raise TypeError(f"{self.name}.compile: metrics must be a list, such as ['accuracy'], got "
                            f"{metrics!r}")
        for one in loss if isinstance(loss, (list, tuple)) else [loss]:
            losses_module.get(one, f"{self.name}.compile")
        for metric in metrics or ():
            if isinstance(metric, str) and metric not in ("accuracy", "acc"):
                metrics_module.get(metric, where=f"{self.name}.compile")

    def _resolve(self) -> None:
        """Losses and metrics for the outputs, once these are known."""
        if self._compiled is None:
            raise ValueError(f"{self.name} must be compiled first: model.compile(optimizer='adam', loss=...)")
        loss, metrics, loss_weights = self._compiled
        if loss is None:
            raise ValueError(f"{self.name}: compile was called without a loss; give loss=...")
        if self.losses:
            return
        shapes = [t.shape for t in self.graph.outputs]
        where = f"{self.name}.compile"
        many = isinstance(loss, (list, tuple))
        if many and len(loss) != len(shapes) or not many and len(shapes) > 1 and isinstance(loss, losses_module.Loss):
            raise ValueError(f"{where}: the model has {len(shapes)} outputs; give a list of as many losses")
        self.losses = [losses_module.get(one, where) for one in (loss if many else [loss] * len(shapes))]
        self.loss_weights = np.ones(len(shapes)) if loss_weights is None else np.asarray(loss_weights, float)
        if self.loss_weights.shape != (len(shapes),):
            raise ValueError(f"{where}: expected {len(shapes)} loss_weights, got {loss_weights!r}")
        if len(shapes) > 1 and any(isinstance(metric, metrics_module.Metric) for metric in metrics or ()):
            raise ValueError(f"{where}: a metric object counts for one output; give a list of metrics for each "
                             f"of the {len(shapes)} outputs")
        per_output = metrics if metrics and isinstance(metrics[0], (list, tuple)) else [metrics or []] * len(shapes)
        self.metrics = [[metrics_module.get(m, one, shape, where) for m in chosen]
                        for chosen, one, shape in zip(per_output, self.losses, shapes, strict=True)]

    def _metrics_flat(self):
        return [metric for chosen in self.metrics for metric in chosen]

    def _output_names(self) -> list[str]:
        return [t.node.layer.name if t.node else t.name for t in self.graph.outputs]

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
        key = (kind, n, weighted, _cpu.isa(), tuple(v.trainable for v in variables) if kind == "train" else None)
        plan = self._plans.get(key)
        if plan is None:
            losses = self.losses if kind in ("test", "train") else ()
            plan = Plan(self.graph, n, self._store, losses, self.loss_weights,
                        self.optimizer if kind == "train" else None, kind == "predict_training", weighted,
                        self._dropout_counter)
            self._plans[key] = plan
            if len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan

    def _own_store(self) -> Store:
        """The store that holds the weights of all present layers."""
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
        for io, y in zip(plan.losses, ys, strict=True):
            io.set_targets(y, samples)
            if io.weights is not None:
                io.set_weights(weights[samples])

    def _penalty(self) -> float:
        return sum(float(v.regularizer(v.value)) for v in self.trainable_weights if v.regularizer is not None)

    def _forward(self, xs, training: bool = False):
        """One forward pass over all samples at once."""
        shapes = [t.shape for t in self.graph.inputs]
        if len(xs) != len(shapes):
            raise ValueError(f"{self.name}: expected {len(shapes)} inputs, got {len(xs)}")
        xs = [prepare_input(x, shape, self.name) for x, shape in zip(xs, shapes, strict=True)]
        n = check_lengths(xs, [f"input {i}" for i in range(len(xs))], self.name)
        if n == 0:
            outputs = [np.zeros((0, *t.sample_shape), np.float32) for t in self.graph.outputs]
            return outputs if self._many_outputs else outputs[0]
        if training and not self._dropout_counter.any():
            self._dropout_counter[0] = random.next_seed()
        with self._lock:
            plan = self._plan("predict_training" if training else "predict", n)
            self._point(plan, xs)
            plan.run()
            outputs = [output.copy() for output in plan.outputs]
        return outputs if self._many_outputs else outputs[0]

    def _batch(self, x, y, where: str):
        """Inputs and targets of a batch, checked."""
        self.build(shapes_of(x))
        self._resolve()
        return self._prepare(x, y, where)

    def _prepare(self, x, y, where: str):
        inputs, outputs = self.graph.inputs, self.graph.outputs
        xs = [prepare_input(a, t.shape, where, check_finite=True)
              for a, t in zip(as_list(x, len(inputs), f"{where}: x"), inputs, strict=True)]
        if y is None:
            raise ValueError(f"{where}: y is missing; give the targets after x")
        ys = as_list(y, len(outputs), f"{where}: y")
        check_lengths([*xs, *(np.asarray(a) for a in ys)],
                      [f"x[{i}]" if len(xs) > 1 else "x" for i in range(len(xs))]
                      + [f"y[{i}]" if len(ys) > 1 else "y" for i in range(len(ys))], where)
        ys = [loss.check_targets(a, t.shape, where) for loss, a, t in zip(self.losses, ys, outputs, strict=True)]
        return xs, ys

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
        epochs, initial_epoch = check_count(epochs, "epochs", where, 0), check_count(initial_epoch, "initial_epoch",
                                                                                   where, 0)
        source = self._source(x, y, batch_size, shuffle, validation_split, class_weight, sample_weight, where)
        validation = self._validation(source, validation_data, validation_split, where)
        params = {"epochs": epochs, "steps": source.steps, "verbose": verbose}
        calls = CallbackList(callbacks, add_history=True, verbose=verbose, model=self, params=params)
        self.stop_training = False
        calls.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            calls.on_epoch_begin(epoch)
            logs = self._train_epoch(source, calls, where if epoch == initial_epoch else
                                     f"{where}: epoch {epoch + 1} (a generator can be read only once; give a "
                                     f"Dataset or a list of batches)")
            if validation is not None:
                calls.on_test_begin()
                tested = self._test(validation, calls, f"{where}: validation")
                calls.on_test_end(tested)
                logs.update({f"val_{name}": value for name, value in tested.items()})
            calls.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        calls.on_train_end()
        self.history = calls.history
        return calls.history

    def _train_epoch(self, source: Source, calls: CallbackList, where: str) -> dict[str, float]:
        averages = Averages(self)
        for step, (xs, ys, samples, weights) in enumerate(source.batches()):
            if calls.has_batch_hooks:
                calls.on_train_batch_begin(step)
            self._run_batch("train", xs, ys, samples, weights, averages)
            if calls.has_batch_hooks and averages.batches:
                calls.on_train_batch_end(step, averages.logs())
            if self.stop_training:
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
        batch_size = check_count(batch_size, "batch_size", where)
        xs, ys = self._batch(x, y, where)
        weights = sample_weights(sample_weight, class_weight, ys[0], len(xs[0]), where)
        test_weights = sample_weights(sample_weight, None, ys[0], len(xs[0]), where)
        return ArraySource(xs, ys, weights, batch_size, shuffle, test_weights)

    def _validation(self, source, validation_data, split, where) -> Source | None:
        if validation_data is not None:
            if isinstance(validation_data, Dataset) or not is_arrays(validation_data):
                return IterableSource(self, validation_data, f"{where}: validation_data")
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ValueError(f"{where}: validation_data must be (x, y), (x, y, sample_weight) or a Dataset")
            xs, ys = self._batch(*validation_data[:2], f"{where}: validation_data")
            weights = sample_weights(validation_data[2] if len(validation_data) == 3 else None, None, ys[0], len(xs[0]),
                                     where)
            return ArraySource(xs, ys, weights, max(source.batch_size, 1), False)
        if not 0 <= split < 1:
            raise ValueError(f"{where}: validation_split must be in [0, 1), got {split}")
        return source.split_off(split) if split else None

    # -- evaluate and predict

    def evaluate(self, x, y=None, batch_size: int = 32, return_dict: bool = False, verbose="auto"):
        """Loss and metrics over the data: [loss, metric, ...], the loss alone without metrics, or a dict."""
        where = f"{self.name}.evaluate"
        source = self._source(x, y, batch_size, False, 0.0, None, None, where)
        calls = CallbackList(None, verbose=verbose, model=self, params={"steps": source.steps, "verbose": verbose})
        calls.on_test_begin()
        logs = self._test(source, calls, where)
        calls.on_test_end(logs)
        values = list(logs.values())
        return logs if return_dict else values if len(values) > 1 else values[0]

    def _test(self, source: Source, calls: CallbackList, where: str) -> dict[str, float]:
        averages = Averages(self)
        for step, (xs, ys, samples, weights) in enumerate(source.batches()):
            if calls.has_batch_hooks:
                calls.on_test_batch_begin(step)
            self._run_batch("test", xs, ys, samples, weights, averages)
            if calls.has_batch_hooks and averages.batches:
                calls.on_test_batch_end(step, averages.logs())
        if averages.batches == 0:
            raise ValueError(f"{where}: the data holds no samples")
        return averages.logs()

    def predict(self, x, batch_size: int = 32, verbose=0):
        """The outputs for all samples: an array, or a list of arrays for several outputs."""
        where = f"{self.name}.predict"
        batch_size = check_count(batch_size, "batch_size", where)
        if isinstance(x, Dataset) or not is_arrays(x):
            parts = [self.predict(batch[0] if isinstance(batch, tuple) else batch, batch_size) for batch in x]
            if not parts:
                raise ValueError(f"{where}: the data holds no samples")
            return ([np.concatenate(p) for p in zip(*parts, strict=True)] if self._many_outputs
                    else np.concatenate(parts))
        self.build(shapes_of(x))
        inputs = self.graph.inputs
        xs = [prepare_input(a, t.shape, where)
              for a, t in zip(as_list(x, len(inputs), f"{where}: x"), inputs, strict=True)]
        n = check_lengths(xs, [f"x[{i}]" for i in range(len(xs))], where)
        results = [np.empty((n, *t.sample_shape), np.float32) for t in self.graph.outputs]
        params = {"steps": -(-n // batch_size), "verbose": verbose}
        calls = CallbackList(None, verbose=verbose, model=self, params=params)
        calls.on_predict_begin()
        packed = set()  # plans that have seen these weights
        for step, (first, last) in enumerate(slices(n, batch_size)):
            with self._lock:
                plan = self._plan("predict", last - first)
                self._point(plan, xs, None, first)
                plan.run(repack=plan not in packed)
                packed.add(plan)
                for result, output in zip(results, plan.outputs, strict=True):
                    result[first:last] = output
            if calls.has_batch_hooks:
                calls.on_predict_batch_end(step)
        calls.on_predict_end()
        return results if self._many_outputs else results[0]
