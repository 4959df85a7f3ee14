"""The logs of training as a table in a file."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from fastcnn.callbacks.callback import Callback, Logs
from fastcnn.errors import writing
from fastcnn.utils import flag


class CSVLogger(Callback):
    """Writes the logs of every epoch as a line of a CSV file, under a line of names.

    Parameters
    ----------
    filename : file to write.
    separator : character between values.
    append : go on with an existing file, in its columns, rather than overwrite it.

    Raises
    ------
    OSError
        When training begins, or goes on, and the file cannot be written.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = Path(filename)
        self.separator = separator
        self.append = flag(append, "append", "CSVLogger")
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns = self._existing_columns() if self.append else None
        if self._columns is None:
            with self._opened("w"):
                pass

    def _existing_columns(self) -> list[str] | None:
        if not self.filename.exists():
            return None
        with self._opened("r+") as file:  # not "r": that it can be written should be known before the first epoch
            return next(csv.reader(file, delimiter=self.separator), None)

    @contextmanager
    def _opened(self, mode: str) -> Iterator[TextIO]:
        with (writing(self.filename, "CSVLogger", "give a file name in a folder that exists and allows new files"),
              open(self.filename, mode, newline="") as file):
            yield file

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        row = {"epoch": epoch, **(logs or {})}
        with self._opened("a") as file:
            if self._columns is None:
                self._columns = ["epoch", *sorted(logs or {})]
                csv.writer(file, delimiter=self.separator).writerow(self._columns)
            csv.DictWriter(
                file, self._columns, restval="NA", extrasaction="ignore", delimiter=self.separator
            ).writerow(row)
