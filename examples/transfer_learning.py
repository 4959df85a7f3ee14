"""Transfer learning: what a network learns from the digits 0 to 4 helps it to tell 5 to 9 apart from a few examples.

1. A network is trained on the digits 0 to 4 and its weights are saved.
2. Another one, with new dense layers, loads what fits by name: the convolutions. They are frozen while the dense
   layers learn from a few images of 5 to 9; then they are thawed, and all is tuned at a lower learning rate.
3. The same network is trained on the same few images from scratch, for as many steps.

The dense layers are not worth keeping: they have learned what sets 0 to 4 apart, and with them the gain is gone.

    python examples/transfer_learning.py            # less than a minute on two cores
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn.datasets import mnist_5k
from fastcnn.optimizers import Adam

LOSS = "sparse_categorical_crossentropy"


def network(task: str) -> fc.Sequential:
    """Two convolutions with names that all tasks share, and dense layers named after theirs."""
    return fc.Sequential([
        L.Input((28, 28, 1)),
        L.Rescaling(1 / 255, name="scale"),
        L.Conv2D(32, 5, activation="relu", name="conv1"),
        L.MaxPooling2D(2),
        L.Conv2D(64, 3, activation="relu", name="conv2"),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dropout(0.5),
        L.Dense(128, activation="relu", name=f"hidden_{task}"),
        L.Dense(5, activation="softmax", name=f"digits_{task}"),
    ])


def digits(first: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images of the five digits from `first` on, with labels 0 to 4."""
    chosen = (y >= first) & (y < first + 5)
    return x[chosen], y[chosen] - first


def few(x: np.ndarray, y: np.ndarray, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`per_class` images of each class, chosen at random."""
    order = np.random.default_rng(seed).permutation(len(y))
    rows = np.concatenate([order[y[order] == label][:per_class] for label in range(5)])
    return x[rows], y[rows]


def fit(model: fc.Sequential, x: np.ndarray, y: np.ndarray, rate: float, steps: int) -> None:
    model.compile(Adam(rate), LOSS, metrics=["accuracy"])
    batch_size = min(32, len(x))
    model.fit(x, y, batch_size=batch_size, epochs=-(-steps * batch_size // len(x)), verbose=0)


def transferred(weights: Path, x: np.ndarray, y: np.ndarray, steps: int) -> fc.Sequential:
    """The saved convolutions under new dense layers, which learn alone first."""
    model = network("5_to_9")
    model.load_weights(weights, by_name=True)
    for name in ("conv1", "conv2"):
        model.get_layer(name).trainable = False
    fit(model, x, y, 1e-3, steps // 2)
    model.trainable = True
    fit(model, x, y, 3e-4, steps // 2)
    return model


def from_scratch(x: np.ndarray, y: np.ndarray, steps: int) -> fc.Sequential:
    model = network("5_to_9")
    fit(model, x, y, 1e-3, steps)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, nargs="+", default=[1, 2, 5, 10, 50], help="images of each new digit")
    parser.add_argument("--runs", type=int, default=4, help="choices of these images, averaged")
    parser.add_argument("--steps", type=int, default=100, help="training steps on them")
    options = parser.parse_args()
    start = time.perf_counter()
    fc.seed(0)
    (x_train, y_train), (x_test, y_test) = mnist_5k.load_data()
    old, new, test = digits(0, x_train, y_train), digits(5, x_train, y_train), digits(5, x_test, y_test)

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "digits_0_to_4.safetensors"
        model = network("0_to_4")
        model.compile("adam", LOSS, metrics=["accuracy"])
        model.fit(*old, epochs=8, verbose=0)
        accuracy = model.evaluate(*digits(0, x_test, y_test), verbose=0)[1]
        print(f"Trained on {len(old[0])} images of 0 to 4: accuracy {accuracy:.1%} on new images of them.\n")
        model.save_weights(weights)
        print(network("5_to_9").load_weights(weights, by_name=True), "\n")

        print(f"Accuracy on {len(test[0])} images of 5 to 9, mean and spread of {options.runs} choices of examples:")
        print("per digit   from scratch   with transfer")
        for count in options.per_class:
            results = []
            for run in range(options.runs):
                x, y = few(*new, count, run)
                models = from_scratch(x, y, options.steps), transferred(weights, x, y, options.steps)
                results.append([m.evaluate(*test, verbose=0)[1] for m in models])
            (a, b), (da, db) = np.mean(results, 0), np.std(results, 0)
            print(f"{count:9}   {a:6.1%} ± {da:4.1%}   {b:6.1%} ± {db:4.1%}", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} seconds")


if __name__ == "__main__":
    main()
