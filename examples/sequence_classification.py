"""Classify sequences with Conv1D: handwritten digits read from top to bottom, one row of pixels per step.

A digit of 28 x 28 pixels is a sequence of 28 steps with 28 features. Causal convolutions with growing dilation see
ever more of the rows above and never one below, as for a signal that arrives over time. The digits are the 5,000 of
MNIST that come with the package; accuracy is printed for the 1,000 that training never saw.

    python examples/sequence_classification.py
"""

from __future__ import annotations

import time

import fastcnn as fc
from fastcnn import layers as L
from fastcnn.datasets import mnist_5k


def make_model() -> fc.Sequential:
    """Three causal convolutions reach 15 rows back; the largest response over all steps decides."""
    model = fc.Sequential(
        [
            fc.Input((28, 28)),
            L.Conv1D(64, 3, padding="causal", activation="relu"),
            L.Conv1D(64, 3, padding="causal", dilation_rate=2, activation="relu"),
            L.Conv1D(128, 3, padding="causal", dilation_rate=4, activation="relu"),
            L.GlobalMaxPooling1D(),
            L.Dropout(0.3),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main(epochs: int = 12, samples: int = 4000) -> float:
    """Train on the first `samples` digits; the accuracy on the test digits."""
    fc.seed(0)
    (x_train, y_train), (x_test, y_test) = (
        (images[..., 0] / 255.0, labels) for images, labels in mnist_5k.load_data()
    )
    model = make_model()
    start = time.perf_counter()
    model.fit(x_train[:samples], y_train[:samples], batch_size=64, epochs=epochs, verbose=2)
    seconds = time.perf_counter() - start
    accuracy = model.evaluate(x_test, y_test, return_dict=True, verbose=0)["accuracy"]
    print(f"{model.count_params():,} weights, {seconds:.1f} s of training, test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
