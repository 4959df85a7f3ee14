"""One file per framework, each with a class that all have the same face: see `Runner`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.versus.nets import Batch, Net, Weights

# Adam's. Frameworks add epsilon before or after the bias correction; this small, that makes no difference.
LEARNING_RATE, EPSILON = 1e-3, 1e-10


class Runner(Protocol):
    """One network in one framework, its data resident in the framework's own form.

    Each call returns when the result is there. `epoch_loader` is left out where a framework has no loader.
    """

    version: str

    def loss(self, i: int) -> float:
        """Mean loss of batch i as in a test: running statistics in batch normalization."""

    def train(self, i: int) -> float:
        """One step of Adam on batch i; its loss before the step."""

    def predict(self, i: int) -> None:
        """The logits of batch i."""

    def predict_one(self, i: int) -> None:
        """The logits of the first sample of batch i."""

    def epoch(self, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """Train on all images once: shuffle, scale to 0...1, cut into batches, step.

        As one does when the data fits memory, whole batches taken at once.
        """

    def epoch_loader(self, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """The same through the framework's own data loader."""


# Name -> (module, class, what else its constructor takes).
RUNNERS: dict[str, tuple[str, str, dict]] = {
    "fastcnn": ("run_fastcnn", "FastCNN", {}),
    "fastcnn-direct": ("run_fastcnn", "FastCNN", {"algorithm": "direct"}),
    "keras": ("run_keras", "Keras", {}),
    "tf-function": ("run_keras", "TensorFlow", {}),
    "torch-eager": ("run_torch", "Torch", {}),
    "torch-channels-last": ("run_torch", "Torch", {"channels_last": True}),
    "torch-compile": ("run_torch", "Torch", {"channels_last": True, "compiled": True}),
    "jax": ("run_jax", "Jax", {}),
}


def is_own(name: str) -> bool:
    """Whether a runner is fastcnn itself."""
    return name.startswith("fastcnn")


def load(name: str) -> Callable[[Net, Weights, Sequence[Batch], int], Runner]:
    """What makes the runner of that name from (net, weights, batches, threads), its framework imported;
    ImportError when that is not installed."""
    module, kind, options = RUNNERS[name]
    return partial(getattr(import_module(f"{__name__}.{module}"), kind), **options)
