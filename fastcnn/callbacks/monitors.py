"""Callbacks that follow one entry of the logs."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.callbacks.callback import Callback, Logs
from fastcnn.errors import unknown_name
from fastcnn.utils import flag, whole_number

if TYPE_CHECKING:
    from pathlib import Path

_SMALLER_IS_BETTER = ("loss", "error", "mse", "mae", "crossentropy", "divergence", "hinge", "huber")
_LARGER_IS_BETTER = ("acc", "auc", "precision", "recall", "iou", "io_u", "f1")


class Monitor(Callback):
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


class EarlyStopping(Monitor):
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
        self.patience = whole_number(patience, "patience", "EarlyStopping", 0)
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = flag(restore_best_weights, "restore_best_weights", "EarlyStopping")
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


class ModelCheckpoint(Monitor):
    """Saves the model, or its weights, now and then.

    Parameters
    ----------
    filepath : file to write, ending in ``.safetensors``; ``{epoch:02d}``, ``{val_loss:.2f}`` and the like are filled in
        from the logs. Missing folders are made.
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
        from fastcnn.saving import checked_path  # here: slow to import

        self.filepath = str(checked_path(filepath, "ModelCheckpoint"))
        self.verbose = verbose
        self.save_best_only = flag(save_best_only, "save_best_only", "ModelCheckpoint")
        self.save_weights_only = flag(save_weights_only, "save_weights_only", "ModelCheckpoint")
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
        from pathlib import Path  # here: slow to import

        known = {**logs, "epoch": self._epoch + 1}
        try:
            return Path(self.filepath.format(**known))
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"ModelCheckpoint: filepath {self.filepath!r} asks for {error}, which is not among the logs: "
                f"{', '.join(known)}"
            ) from None
