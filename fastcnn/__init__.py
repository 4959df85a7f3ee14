"""fastcnn: convolutional neural networks trained on the CPU, near the limit of the machine."""

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING

# In a checkout that was installed but not built in place, `python -m fastcnn` finds this folder first; the compiled
# modules are then those of the installed package.
__path__ = extend_path(__path__, __name__)

from fastcnn import (
    callbacks,
    data,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
    utils,
)
from fastcnn.algorithms import get_algorithm_policy, set_algorithm_policy
from fastcnn.config import __version__, config_text, show_config
from fastcnn.errors import CheckpointError
from fastcnn.kernels._cpu import get_num_threads, set_num_threads
from fastcnn.layers import Input
from fastcnn.models import Model, Sequential, clone_model, load_model
from fastcnn.random import seed

if TYPE_CHECKING:
    from fastcnn import activations, datasets, ops, plot, reference, zoo

__all__ = [
    "CheckpointError", "Input", "Model", "Sequential", "__version__", "activations", "callbacks", "clone_model",
    "config_text", "data", "datasets", "get_algorithm_policy", "get_num_threads", "initializers", "layers",
    "load_model", "losses", "metrics", "ops", "optimizers", "plot", "reference", "regularizers", "schedules", "seed",
    "set_algorithm_policy", "set_num_threads", "show_config", "utils", "zoo",
]

# Imported when first asked for: most programs use none.
_LAZY = ("activations", "datasets", "ops", "plot", "reference", "zoo")


def __getattr__(name: str):
    if name in _LAZY:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
