"""fastcnn: convolutional neural networks trained on the CPU, near the limit of the machine."""

from fastcnn import (
    callbacks,
    data,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    ops,
    optimizers,
    reference,
    regularizers,
    schedules,
    utils,
)
from fastcnn.config import __version__, config_text, show_config
from fastcnn.errors import CheckpointError
from fastcnn.kernels._cpu import get_num_threads, set_num_threads
from fastcnn.layers import Input
from fastcnn.models import Model, Sequential, load_model
from fastcnn.random import seed

__all__ = [
    "CheckpointError", "Input", "Model", "Sequential", "__version__", "callbacks", "config_text", "data", "datasets",
    "get_num_threads", "initializers", "layers", "load_model", "losses", "metrics", "ops", "optimizers", "reference",
    "regularizers", "schedules", "seed", "set_num_threads", "show_config", "utils",
]
