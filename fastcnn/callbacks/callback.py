"""The base of callbacks, and the simplest ones."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

from fastcnn.errors import Explained, unknown_name

Logs = dict[str, Any]

_BATCH_PHASES = ("train_batch", "test_batch", "predict_batch")
_PHASES = ("train", "epoch", "test", "predict", *_BATCH_PHASES)
_BATCH_HOOKS = tuple(f"on_{phase}_{edge}" for phase in _BATCH_PHASES for edge in ("begin", "end"))
_SHORT_HOOKS = ("on_batch_begin", "on_batch_end")  # Keras's older names of those of training
ALL_HOOKS = tuple(f"on_{phase}_{edge}" for phase in _PHASES for edge in ("begin", "end"))


class Callback(Explained):
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
        """Called before all hooks: the model at work."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called before all hooks: how the loop was started."""
        self.params = params

    @property
    def has_batch_hooks(self) -> bool:
        """Whether a hook of single batches is overridden; without any, the loop need not call them."""
        cls, own = type(self), vars(self)
        return any(hook in own or getattr(cls, hook) is not getattr(Callback, hook)
                   for hook in (*_BATCH_HOOKS, *_SHORT_HOOKS))

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called after the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before each epoch, numbered from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after each epoch, with its loss and metrics, also those of validation as 'val_...'."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each step of training."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each step, with the means of the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called before `evaluate` and each validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called after them, with the loss and the metrics."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each batch of a test."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each batch of a test, with the means so far."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called before `predict`."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called after `predict`."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each batch of `predict`."""


def _nothing() -> None:
    """A reference to no model."""


class History(Callback):
    """Keeps the logs of every epoch. It can be pickled, and keeps no model alive.

    Attributes
    ----------
    history : name -> list of one value per epoch.
    epoch : the epochs, counted from 0.
    model : the model at work; None once it is gone, and in a copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    @property
    def model(self) -> Any:
        """The model at work; None once it is gone, and in a copy."""
        return self._model()

    @model.setter
    def model(self, model: Any) -> None:
        # The model has its history: a strong reference would leave the memory of both to the garbage collector.
        self._model = _nothing if model is None else weakref.ref(model)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": _nothing}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.history, self.epoch = {}, []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """A callback made of functions, given as keywords named like the hooks: ``on_epoch_end=f``.

    Each is called with the arguments of its hook, such as ``f(epoch, logs)``.
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        super().__init__()
        for hook, function in hooks.items():
            if hook not in (*ALL_HOOKS, *_SHORT_HOOKS):
                raise unknown_name("hook", hook, ALL_HOOKS, "LambdaCallback")
            if function is not None and not callable(function):
                raise TypeError(f"LambdaCallback: {hook} must be a function, got {function!r}")
            if function is not None:
                setattr(self, hook, function)


class TerminateOnNaN(Callback):
    """Ends training at the first batch whose loss is not finite."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            print(f"Batch {batch}: the loss is {loss}, training ends")
            self.model.stop_training = True
