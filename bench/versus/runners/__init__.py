"""One file per framework, each with a class that all have the same face: see `Runner`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from bench.versus.nets import Array, Batch, Net

# Adam's. Frameworks add epsilon before or after the bias correction; this small, that makes no difference.
LEARNING_RATE, EPSILON = 1e-3, 1e-10


class Runner(Protocol):
    """One network in one framework, its data resident in the framework's own form.

    Each call returns when the result is there.
    """

    version: str

    def loss(self, i: int) -> float:
        """Mean loss of batch i, without training."""

    def train(self, i: int) -> None:
        """One step of Adam on batch i."""

    def predict(self, i: int) -> None:
        """The logits of batch i."""

    def predict_one(self, i: int) -> None:
        """The logits of the first sample of batch i."""


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


def make(name: str, net: Net, weights: Sequence[Array], batches: Sequence[Batch], threads: int) -> Runner:
    """The runner of that name; ImportError when its framework is not installed."""
    module, kind, options = RUNNERS[name]
    return getattr(import_module(f"{__name__}.{module}"), kind)(net, weights, batches, threads, **options)
