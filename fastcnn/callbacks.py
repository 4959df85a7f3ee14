"""Callbacks: objects told what happens during training, evaluation and prediction.

Every hook gets `logs`, a dictionary of the loss and metrics so far. A callback may add to the logs of
`on_epoch_end`; the callbacks after it, and the history, see the addition.
"""

from __future__ import annotations

import csv
import inspect
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .errors import unknown_name

Logs = dict[str, Any]

_BATCH_PHASES = ("train_batch", "test_batch", "predict_batch")
_PHASES = ("train", "epoch", "test", "predict", *_BATCH_PHASES)
_BATCH_HOOKS = tuple(f"on_{phase}_{edge}" for phase in _BATCH_PHASES for edge in ("begin", "end"))
_ALL_HOOKS = tuple(f"on_{phase}_{edge}" for phase in _PHASES for edge in ("begin", "end"))


class Callback:
    """Base class: override the hooks of interest.

    Attributes
    ----------
    model : the model at work; set ``self.model.stop_training = True`` to end training.
    params : ``'epochs'``, ``'steps'`` (batches per epoch, or None) and ``'verbose'``.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    @property
    def has_batch_hooks(self) -> bool:
        """Whether a hook of single batches is overridden; without any, the loop need not call them."""
        cls, own = type(self), vars(self)
        return any(hook in own or getattr(cls, hook) is not getattr(Callback, hook) for hook in _BATCH_HOOKS)

    def on_train_begin(self, logs: Logs | None = None) -> None: ...

    def on_train_end(self, logs: Logs | None = None) -> None: ...

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None: ...

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None: ...

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_test_begin(self, logs: Logs | None = None) -> None: ...

    def on_test_end(self, logs: Logs | None = None) -> None: ...

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_predict_begin(self, logs: Logs | None = None) -> None: ...

    def on_predict_end(self, logs: Logs | None = None) -> None: ...

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...


class History(Callback):
    """Keeps the logs of every epoch.

    Attributes
    ----------
    history : name -> list of one value per epoch.
    epoch : the epochs, counted from 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.history, self.epoch = {}, []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class CallbackList:
    """Calls the same hook of several callbacks, in order: it has all the hooks of a `Callback`.

    Parameters
    ----------
    callbacks : one callback, several, or None.
    add_history : append a `History` unless there is one; it is then found in `history`.
    verbose : a `ProgressBar` of this verbosity is appended unless it is 0 or there is one.
    model, params : given to every callback.

    Attributes
    ----------
    has_batch_hooks : whether any callback wants the hooks of single batches.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None = None,
        add_history: bool = False,
        verbose: int | str = 0,
        model: Any = None,
        params: dict[str, Any] | None = None,
    ) -> None:
        given = () if callbacks is None else (callbacks,) if isinstance(callbacks, Callback) else callbacks
        self.callbacks = [_checked(callback) for callback in given]
        if verbose != 0 and self._find(ProgressBar) is None:
            self.callbacks.append(ProgressBar(verbose))
        if add_history and self._find(History) is None:
            self.callbacks.append(History())
        self.history: Any = self._find(History)
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params or {})
        self.has_batch_hooks = any(callback.has_batch_hooks for callback in self.callbacks)

    def _find(self, kind: type[Callback]) -> Callback | None:
        return next((c for c in self.callbacks if isinstance(c, kind)), None)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in _ALL_HOOKS:
            raise AttributeError(f"CallbackList has no attribute {name!r}")
        return partial(self._call, name)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)


def _checked(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    hint = f"; write {callback.__name__}()" if isinstance(callback, type) else ""
    raise TypeError(f"callbacks: expected fastcnn.callbacks.Callback objects, got {callback!r}{hint}")


class LambdaCallback(Callback):
    """A callback made of functions, given as keywords named like the hooks: ``on_epoch_end=f``.

    Each is called with the arguments of its hook, such as ``f(epoch, logs)``.
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        super().__init__()
        for hook, function in hooks.items():
            if hook not in _ALL_HOOKS:
                raise unknown_name("hook", hook, _ALL_HOOKS, "LambdaCallback")
            if function is not None:
                setattr(self, hook, function)


class TerminateOnNaN(Callback):
    """Ends training at the first batch whose loss is not finite."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            print(f"Batch {batch}: the loss is {loss}, training ends")
            self.model.stop_training = True


_SMALLER_IS_BETTER = ("loss", "error", "mse", "mae", "crossentropy", "divergence", "hinge", "huber")
_LARGER_IS_BETTER = ("acc", "auc", "precision", "recall", "iou", "io_u", "f1")


class _Monitor(Callback):
    """A callback that follows one entry of the epoch's logs."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        super().__init__()
        self.monitor = monitor
        self.mode = self._direction(mode)
        self.min_delta = abs(float(min_delta))
        self.worst = math.inf if self.mode == "min" else -math.inf
        self._warned = False

    def _direction(self, mode: str) -> str:
        where = type(self).__name__
        if mode not in ("auto", "min", "max"):
            raise unknown_name("mode", mode, ("auto", "min", "max"), where)
        if mode != "auto":
            return mode
        for direction, words in (("min", _SMALLER_IS_BETTER), ("max", _LARGER_IS_BETTER)):
            if any(word in self.monitor for word in words):
                return direction
        raise ValueError(
            f"{where}: cannot tell whether {self.monitor!r} should fall or rise; "
            "pass mode='min' or mode='max'"
        )

    def current(self, logs: Logs | None) -> float | None:
        """Return the monitored value; if it is missing, warn the first time and return None."""
        logs = logs or {}
        if self.monitor not in logs and not self._warned:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__} monitors {self.monitor!r}, which is not among the logs: "
                f"{', '.join(logs) or 'none'}",
                stacklevel=3,
            )
        return logs.get(self.monitor)

    def improves(self, value: float, reference: float) -> bool:
        """Whether `value` is better than `reference` by more than `min_delta`."""
        gain = reference - value if self.mode == "min" else value - reference
        return gain > self.min_delta


class EarlyStopping(_Monitor):
    """Ends training once the monitored value has stopped improving.

    Parameters
    ----------
    monitor : entry of the epoch's logs.
    min_delta : smallest change that counts as an improvement.
    patience : epochs without improvement before training ends.
    mode : ``'min'``, ``'max'``, or ``'auto'`` to tell by the name.
    baseline : a value to beat; an improvement short of it does not restart the patience.
    restore_best_weights : end with the weights of the best epoch.
    start_from_epoch : epochs to wait before looking at all.

    Attributes
    ----------
    best, best_epoch, stopped_epoch : value and epoch of the best result, and the last epoch (0: not stopped).
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best = self.worst
        self.best_epoch = self.stopped_epoch = self.wait = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        current = self.current(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        improved = self.improves(current, self.best)
        if improved:
            self.best, self.best_epoch = current, epoch
            if self.baseline is None or self.improves(current, self.baseline):
                self.wait = 0
        if self.restore_best_weights and (improved or self.best_weights is None):
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        if not improved and self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
            if self.verbose:
                print(f"Weights of epoch {self.best_epoch + 1} restored")


class ModelCheckpoint(_Monitor):
    """Saves the model, or its weights, now and then.

    Parameters
    ----------
    filepath : file to write; ``{epoch:02d}``, ``{val_loss:.2f}`` and the like are filled in from the logs.
        Missing folders are made.
    monitor, mode : see `EarlyStopping`; they matter with `save_best_only`.
    save_best_only : save only if the monitored value is the best so far.
    save_weights_only : call ``model.save_weights`` rather than ``model.save``.
    save_freq : ``'epoch'``, or a number of batches.
    initial_value_threshold : value that counts as the best before the first epoch.
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode if save_best_only else "min")
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f"ModelCheckpoint: save_freq must be 'epoch' or a number of batches, got {save_freq!r}"
            )
        self.filepath = str(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = self.worst if initial_value_threshold is None else initial_value_threshold
        self._epoch = self._batches = 0

    @property
    def has_batch_hooks(self) -> bool:
        return self.save_freq != "epoch"

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if isinstance(self.save_freq, int) and self._batches % self.save_freq == 0:
            self._save({"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._epoch = epoch
            self._save(logs or {})

    def _save(self, logs: Logs) -> None:
        if self.save_best_only and not self._is_best(logs):
            return
        path = self._path(logs)
        path.parent.mkdir(parents=True, exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(str(path))
        if self.verbose:
            print(f"Epoch {self._epoch + 1}: saved {path}")

    def _is_best(self, logs: Logs) -> bool:
        current = self.current(logs)
        if current is None:
            return True  # better an unneeded file than no model at the end
        if not self.improves(current, self.best):
            return False
        self.best = current
        return True

    def _path(self, logs: Logs) -> Path:
        known = {**logs, "epoch": self._epoch + 1}
        try:
            return Path(self.filepath.format(**known))
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"ModelCheckpoint: filepath {self.filepath!r} asks for {error}, which is not among the logs: "
                f"{', '.join(known)}"
            ) from None


class ReduceLROnPlateau(_Monitor):
    """Lowers the learning rate once the monitored value has stopped improving.

    Parameters
    ----------
    monitor, mode, min_delta : see `EarlyStopping`.
    factor : the new rate is the old one times this, a number of (0, 1).
    patience : epochs without improvement before the rate falls.
    cooldown : epochs to wait after it fell before counting again.
    min_lr : the rate never falls below this.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if not 0.0 < factor < 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must lie between 0 and 1, got {factor!r}")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best = self.worst
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = self.model.optimizer.learning_rate
        current = self.current(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improves(current, self.best):
            self.best, self.wait = current, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        if optimizer.learning_rate <= self.min_lr:
            return
        optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate lowered to {optimizer.learning_rate:.6g}")


class LearningRateScheduler(Callback):
    """Sets the learning rate of each epoch to ``schedule(epoch, learning_rate)`` or ``schedule(epoch)``."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose
        try:
            inspect.signature(schedule).bind(0, 0.0)
            self._takes_rate = True
        except TypeError:
            self._takes_rate = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        rate = self.schedule(epoch, optimizer.learning_rate) if self._takes_rate else self.schedule(epoch)
        if not isinstance(rate, (int, float, np.number)):
            raise TypeError(f"LearningRateScheduler: the schedule must return a number, got {rate!r}")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate set to {float(rate):.6g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class CSVLogger(Callback):
    """Writes the logs of every epoch as a line of a CSV file, under a line of names.

    Parameters
    ----------
    filename : file to write.
    separator : character between values.
    append : go on with an existing file, in its columns, rather than overwrite it.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = Path(filename)
        self.separator = separator
        self.append = append
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns = self._existing_columns() if self.append else None
        if self._columns is None:
            self.filename.write_text("")

    def _existing_columns(self) -> list[str] | None:
        if not self.filename.exists():
            return None
        with open(self.filename, newline="") as file:
            return next(csv.reader(file, delimiter=self.separator), None)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        row = {"epoch": epoch, **(logs or {})}
        with open(self.filename, "a", newline="") as file:
            if self._columns is None:
                self._columns = ["epoch", *sorted(logs or {})]
                csv.writer(file, delimiter=self.separator).writerow(self._columns)
            csv.DictWriter(
                file, self._columns, restval="NA", extrasaction="ignore", delimiter=self.separator
            ).writerow(row)


class ProgressBar(Callback):
    """Shows how work goes on: a moving bar on a terminal or in a notebook, else one line per epoch.

    Parameters
    ----------
    verbose : 0 shows nothing, 1 and ``'auto'`` a bar where one can move, 2 a line per epoch.
    """

    def __init__(self, verbose: int | str = "auto") -> None:
        super().__init__()
        if verbose not in (0, 1, 2, "auto"):
            raise ValueError(f"verbose must be 0, 1, 2 or 'auto', got {verbose!r}")
        self.verbose = verbose
        self.uses_bar = verbose in (1, "auto") and _is_interactive()
        self._bar: Any = None
        self._training = False
        self._start = 0.0

    @property
    def has_batch_hooks(self) -> bool:
        return self.uses_bar

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._training = True

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._begin(f"Epoch {epoch + 1}/{self.params.get('epochs', '?')}")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._advance(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._end(logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._training = False
        self._close()

    def on_test_begin(self, logs: Logs | None = None) -> None:
        if not self._training:
            self._begin("Evaluate")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if not self._training:
            self._advance(logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        if not self._training:
            self._end(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._begin("Predict")

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._advance(None)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._end(None)

    def _begin(self, title: str) -> None:
        self._title, self._start = title, time.perf_counter()
        if self.uses_bar:
            from tqdm.auto import tqdm  # only here, as it takes long to import

            self._close()
            self._bar = tqdm(desc=title, total=self.params.get("steps"), unit="batch", file=sys.stdout)

    def _advance(self, logs: Logs | None) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_format_logs(logs), refresh=False)
            self._bar.update()

    def _end(self, logs: Logs | None) -> None:
        text = _format_logs(logs)
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._close()
        elif self.verbose:
            seconds = f"{time.perf_counter() - self._start:.1f}s"
            print(" - ".join(part for part in (self._title, seconds, text) if part), flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _is_interactive() -> bool:
    """Whether a bar can move: standard output is a terminal, or this is a notebook."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def _format_logs(logs: Logs | None) -> str:
    numbers = ((key, value) for key, value in (logs or {}).items() if np.ndim(value) == 0)
    return " - ".join(f"{key}: {_format(value)}" for key, value in numbers)


def _format(value: float) -> str:
    return f"{value:.3e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
