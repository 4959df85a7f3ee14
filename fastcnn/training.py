"""fit, evaluate, predict: the loops over batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcnn.averages import Averages
from fastcnn.batches import output_weights, slices
from fastcnn.callbacks import CallbackList, History
from fastcnn.errors import explained
from fastcnn.sources import (
    ArraySource,
    IterableSource,
    Source,
    at_most,
    batches_of,
    default_batch_size,
    inputs_of,
    is_arrays,
    number_of_batches,
    tell,
    warn_of_end,
)
from fastcnn.steps import Stepper, returned_values
from fastcnn.utils import flag, optional_number, real_number, whole_number


class Trainer(Stepper):
    """The training half of a model."""

    def __init__(self):
        super().__init__()
        self.stop_training = False
        self.history: History | None = None

    # -- fit

    @explained
    def fit(self, x, y=None, batch_size: int | None = None, epochs: int = 1, validation_data=None,
            validation_split: float = 0.0, shuffle: bool = True, callbacks=None, verbose="auto",
            initial_epoch: int = 0, class_weight=None, sample_weight=None, steps_per_epoch: int | None = None,
            validation_steps: int | None = None, validation_batch_size: int | None = None,
            validation_freq: int | Sequence[int] = 1) -> History:
        """Train on arrays, a `Dataset`, or an iterable of (x, y) batches, for `epochs` passes over them.

        For several inputs or outputs, `x`, `y` and `sample_weight` are lists of arrays in order, or dictionaries by
        name: of the `Input`, or of the layer that makes the output. An object with items by number and a length, as
        Keras's PyDataset, is an iterable; its methods `on_epoch_begin` and `on_epoch_end` are called if it has them.

        Parameters
        ----------
        batch_size : of arrays: 32 by default, or with `steps_per_epoch` as many as give that number of batches.
        steps_per_epoch : batches in an epoch. The next one goes on from there, so that a generator may be endless. As
            in Keras, an epoch also ends where a pass over the data ends, with a warning if there was more to come;
            what cannot be read again then ends the training.
        validation_steps, validation_batch_size : the same for the validation, which starts anew each time if it can.
        validation_freq : validate after every so many epochs, or after the epochs in a list, counted from 1.

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
        steps = optional_number(steps_per_epoch, "steps_per_epoch", where)
        test_steps = optional_number(validation_steps, "validation_steps", where)
        is_validated = _validated_epochs(validation_freq, where)
        source = self._source(x, y, batch_size, shuffle, class_weight, sample_weight, steps, where)
        test_size = optional_number(validation_batch_size, "validation_batch_size", where) or batch_size
        validation = self._validation(source, validation_data, validation_split, test_size, test_steps, where)
        params = {"epochs": epochs, "steps": source.steps, "verbose": verbose}
        calls = CallbackList(callbacks, add_history=True, verbose=verbose, model=self, params=params)
        self.stop_training = False
        self.history = calls.history  # at once: after Ctrl-C it holds the epochs that were done
        with calls:
            self._fit(range(initial_epoch, epochs), source, validation, is_validated, calls)
        return calls.history

    def _fit(self, epochs: range, source: Source, validation: Source | None, is_validated: Callable[[int], bool],
             calls: CallbackList) -> None:
        """The loop over the epochs."""
        calls.on_train_begin()
        logs: dict[str, float] = {}
        for epoch in epochs:
            calls.on_epoch_begin(epoch)
            trained = self._epoch("train", source, calls)
            if not trained and source.limit is not None and epoch > epochs.start:
                break  # a generator has ended, and the source has warned of it
            _check_some(trained, source, epoch, epochs)
            logs = trained
            if validation is not None and is_validated(epoch + 1):
                calls.on_test_begin()
                tested = self._epoch("test", validation, calls)
                _check_some(tested, validation, epoch, epochs)
                calls.on_test_end(tested)
                logs.update({f"val_{name}": value for name, value in tested.items()})
            calls.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        calls.on_train_end(logs)

    def _epoch(self, kind: str, source: Source, calls: CallbackList) -> dict[str, float]:
        """One epoch of training, or one test from the start: kind is 'train' or 'test'. The logs, {} for no data."""
        averages = Averages(self)
        begin, end = getattr(calls, f"on_{kind}_batch_begin"), getattr(calls, f"on_{kind}_batch_end")
        source.on_epoch_begin()
        for step, (xs, ys, samples, weights) in enumerate(source.epoch(anew=kind == "test")):
            if calls.has_batch_hooks:
                begin(step)
            self._run_batch(kind, xs, ys, samples, weights, averages)
            if calls.has_batch_hooks and averages.batches:
                end(step, averages.logs())
            if kind == "train" and self.stop_training:
                break
        source.on_epoch_end()
        return averages.logs() if averages.batches else {}

    def _source(self, x, y, batch_size, shuffle, class_weight, sample_weight, steps, where) -> Source:
        batch_size = optional_number(batch_size, "batch_size", where)
        shuffle = flag(shuffle, "shuffle", where)
        if not is_arrays(x):
            for name, given in (("y", y), ("sample_weight", sample_weight)):
                if given is not None:
                    raise ValueError(f"{where}: {name} cannot be given when x yields the batches")
            return IterableSource(self, x, class_weight, shuffle, steps, where)
        xs, ys = self._batch(x, y, where)
        weights = output_weights(self._outputs, sample_weight, class_weight, ys, len(xs[0]), where)
        test_weights = output_weights(self._outputs, sample_weight, None, ys, len(xs[0]), where)
        return ArraySource(xs, ys, weights, batch_size, shuffle, steps, where, test_weights)

    def _validation(self, source, data, split, batch_size, steps, where) -> Source | None:
        if data is None:
            if not 0 <= real_number(split, "validation_split", where) < 1:
                raise ValueError(f"{where}: validation_split must be in [0, 1), got {split}")
            return source.split_off(split, batch_size, steps) if split else None
        where = f"{where}: validation_data"
        if not is_arrays(data):
            return IterableSource(self, data, None, False, steps, where)
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise ValueError(f"{where} must be (x, y), (x, y, sample_weight) or a Dataset")
        return self._source(*data[:2], batch_size, False, None, data[2] if len(data) == 3 else None, steps, where)

    # -- evaluate and predict

    @explained
    def evaluate(self, x, y=None, batch_size: int | None = None, return_dict: bool = False, verbose="auto",
                 sample_weight=None, callbacks=None, steps: int | None = None):
        """Loss and metrics over the data: [loss, metric, ...], the loss alone without metrics, or a dict.

        With `steps`, over so many batches, from the first; `batch_size` is as in `fit`.
        """
        where = f"{self.name}.evaluate"
        return_dict = flag(return_dict, "return_dict", where)
        steps = optional_number(steps, "steps", where)
        source = self._source(x, y, batch_size, False, None, sample_weight, steps, where)
        params = {"steps": source.steps, "verbose": verbose}
        with CallbackList(callbacks, verbose=verbose, model=self, params=params) as calls:
            calls.on_test_begin()
            logs = self._epoch("test", source, calls)
            _check_some(logs, source)
            calls.on_test_end(logs)
        return returned_values(logs, return_dict)

    @explained
    def predict(self, x, batch_size: int | None = None, verbose=0, callbacks=None, steps: int | None = None):
        """The outputs for all samples: an array, or for several outputs a list, or a dictionary by name.

        With `steps`, for so many batches, from the first; `batch_size` is as in `fit`. A callback's
        `on_predict_batch_end` gets those of the batch as `logs["outputs"]`.
        """
        where = f"{self.name}.predict"
        steps = optional_number(steps, "steps", where)
        batch_size = optional_number(batch_size, "batch_size", where)
        is_iterable = not is_arrays(x)
        xs = [] if is_iterable else self._prepare_inputs(x, where)
        n = 0 if is_iterable else len(xs[0])
        batch_size = batch_size or default_batch_size(n, steps)
        if not is_iterable and n <= batch_size and steps is None and verbose == 0 and callbacks is None:
            return self._run_forward(xs)
        known = number_of_batches(x) if is_iterable else -(-n // batch_size)
        params = {"steps": steps or known, "verbose": verbose}
        with CallbackList(callbacks, verbose=verbose, model=self, params=params) as calls:
            calls.on_predict_begin()
            outputs = (self._predict_iterable(x, steps, calls, where) if is_iterable else
                       self._predict_arrays(xs, batch_size, steps, calls, where))
            calls.on_predict_end()
        return outputs

    def _predict_iterable(self, iterable, steps: int | None, calls: CallbackList, where: str):
        parts = []
        tell(iterable, "on_epoch_begin")
        batches = batches_of(iterable, where)
        for step, batch in enumerate(batches if steps is None else at_most(steps, batches, where)):
            calls.on_predict_batch_begin(step)
            parts.append(self._run_forward(self._prepare_inputs(inputs_of(batch, self), where)))
            calls.on_predict_batch_end(step, {"outputs": parts[-1]})
        tell(iterable, "on_epoch_end")
        if not parts:
            raise ValueError(f"{where}: the data holds no samples")
        lists = [self._outputs.unpack(part, where) for part in parts]
        return self._outputs.pack([np.concatenate(p) for p in zip(*lists, strict=True)])

    def _predict_arrays(self, xs, batch_size: int, steps: int | None, calls: CallbackList, where: str):
        n = len(xs[0])
        if steps is not None:
            if n <= (steps - 1) * batch_size:
                warn_of_end(-(-n // batch_size), steps, where)
            n = min(n, steps * batch_size)
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


def _check_some(logs: dict[str, float], source: Source, epoch: int = 0, epochs: range = range(1)) -> None:
    """ValueError for an epoch without any data."""
    if not logs:
        hint = "" if epoch == epochs.start else (f": epoch {epoch + 1} (a generator can be read only once; give a "
                                                 f"Dataset or a list of batches)")
        raise ValueError(f"{source.where}{hint}: the data holds no samples")


def _validated_epochs(frequency: Any, where: str) -> Callable[[int], bool]:
    """Whether to validate after an epoch, counted from 1."""
    if isinstance(frequency, (list, tuple)):
        chosen = {whole_number(epoch, "every epoch in validation_freq", where) for epoch in frequency}
        return chosen.__contains__
    every = whole_number(frequency, "validation_freq", where)
    return lambda epoch: epoch % every == 0
