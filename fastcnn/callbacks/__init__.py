"""Callbacks: objects told what happens during training, evaluation and prediction.

Every hook gets `logs`, a dictionary of the loss and metrics so far. A callback may add to the logs of
`on_epoch_end`; the callbacks after it, and the history, see the addition.
"""

from fastcnn.callbacks.callback import Callback, History, LambdaCallback, TerminateOnNaN
from fastcnn.callbacks.callback_list import CallbackList
from fastcnn.callbacks.csv_logger import CSVLogger
from fastcnn.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from fastcnn.callbacks.monitors import EarlyStopping, ModelCheckpoint
from fastcnn.callbacks.progress import ProgressBar
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
