"""The logs of training as event files for TensorBoard."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from fastcnn.callbacks.callback import Callback, Logs
from fastcnn.callbacks.events import EventWriter
from fastcnn.errors import writing
from fastcnn.utils import flag


class TensorBoard(Callback):
    """Writes the logs for TensorBoard: look at them with ``tensorboard --logdir logs``.

    The folder ``train`` in `log_dir` gets ``epoch_loss``, ``epoch_learning_rate`` and the metrics of every epoch, and
    ``batch_loss`` and so on if asked for; ``validation`` gets the same names from the ``val_`` entries. Values that are
    not single numbers, such as a confusion matrix, are left out.

    Parameters
    ----------
    log_dir : folder for the files.
    update_freq : ``'epoch'``, ``'batch'``, or a number of batches after which the averages so far are written too.
    write_steps_per_second : also write the training steps per second of every epoch.

    Raises
    ------
    ValueError
        For another `update_freq`.
    OSError
        When training begins, or goes on, and the files cannot be written.
    """

    neutral = {"histogram_freq": (0,), "write_graph": (True, False), "write_images": (False,), "profile_batch": (0,),
               "embeddings_freq": (0,), "embeddings_metadata": (None,)}

    def __init__(self, log_dir: str | Path = "logs", update_freq: str | int = "epoch",
                 write_steps_per_second: bool = False) -> None:
        super().__init__()
        frequency = 1 if update_freq == "batch" else update_freq
        if frequency != "epoch" and (not isinstance(frequency, int) or isinstance(frequency, bool) or frequency < 1):
            raise ValueError(f"TensorBoard: update_freq must be 'epoch', 'batch' or a number of batches, got "
                             f"{update_freq!r}")
        self.log_dir = Path(log_dir)
        self.update_freq = update_freq
        self.write_steps_per_second = flag(write_steps_per_second, "write_steps_per_second", "TensorBoard")
        self._every = frequency if isinstance(frequency, int) else 0
        self._writers: dict[str, EventWriter] = {}
        self._start, self._first_step = 0.0, 0

    @property
    def has_batch_hooks(self) -> bool:
        return self._every > 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._writer("train")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._start, self._first_step = time.perf_counter(), self._step

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self._step % self._every == 0:
            self._write("train", "batch", logs or {}, self._step)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = dict(logs or {})
        validation = {name.removeprefix("val_"): logs.pop(name) for name in list(logs) if name.startswith("val_")}
        logs.setdefault("learning_rate", self.model.optimizer.learning_rate)
        if self.write_steps_per_second:
            logs["steps_per_second"] = (self._step - self._first_step) / (time.perf_counter() - self._start)
        self._write("train", "epoch", logs, epoch)
        if validation:
            self._write("validation", "epoch", validation, epoch)
        with self._writing():
            for writer in self._writers.values():
                writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    @property
    def _step(self) -> int:
        return self.model.optimizer.iterations

    def _write(self, part: str, prefix: str, logs: Logs, step: int) -> None:
        writer = self._writer(part)
        with self._writing():
            writer.scalars({f"{prefix}_{name}": float(value) for name, value in logs.items() if np.ndim(value) == 0},
                           step)

    def _writer(self, part: str) -> EventWriter:
        if part not in self._writers:
            with self._writing():
                self._writers[part] = EventWriter(self.log_dir / part)
        return self._writers[part]

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self.log_dir, "TensorBoard", "give a log_dir in which folders and files can be made")
