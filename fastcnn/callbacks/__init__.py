"""Callbacks: objects told what happens during training, evaluation and prediction.

Every hook gets `logs`, a dictionary of the loss and metrics so far. A callback may add to the logs of
`on_epoch_end`; the callbacks after it, and the history, see the addition.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fastcnn.callbacks.callback import Callback, History, LambdaCallback, TerminateOnNaN
from fastcnn.callbacks.callback_list import CallbackList
from fastcnn.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from fastcnn.callbacks.monitors import EarlyStopping, ModelCheckpoint
from fastcnn.callbacks.progress import ProgressBar

if TYPE_CHECKING:
    from fastcnn.callbacks.csv_logger import CSVLogger
    from fastcnn.callbacks.tensorboard import TensorBoard

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]

# Imported when first asked for: what writes files needs modules that are slow to import.
_LAZY = {"CSVLogger": "csv_logger", "TensorBoard": "tensorboard"}


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
