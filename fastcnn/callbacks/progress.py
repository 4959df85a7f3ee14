"""The progress of training, as the user sees it."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from fastcnn.callbacks.callback import Callback, Logs


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

    def break_off(self) -> None:
        """Leave the bar as it is, and the line, after an error in the loop."""
        self._training = False
        self._close()

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
    return (sys.stdout is not None and sys.stdout.isatty()) or "ipykernel" in sys.modules


def _format_logs(logs: Logs | None) -> str:
    numbers = ((key, value) for key, value in (logs or {}).items() if np.ndim(value) == 0)
    return " - ".join(f"{key}: {_format(value)}" for key, value in numbers)


def _format(value: float) -> str:
    return f"{value:.3e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
