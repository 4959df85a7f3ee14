"""Train ResNet-20 on handwritten digits, with images moved, turned and zoomed at random.

The digits are the 5,000 of MNIST that come with the package, 4,000 to learn from; a border makes them as large as the
images of the paper, 32 x 32. Accuracy is printed for the 1,000 that training never saw.

    python examples/resnet20_mnist.py            # a minute or two on two cores
"""

from __future__ import annotations

import argparse
import time

import fastcnn as fc
from fastcnn import layers as L
from fastcnn import zoo
from fastcnn.datasets import mnist_5k


def make_model() -> fc.Sequential:
    """Images of 28 x 28 bytes to probabilities; the random layers do something in training only."""
    return fc.Sequential(
        [
            fc.Input((28, 28, 1)),
            L.Rescaling(1 / 255),
            L.ZeroPadding2D(2),
            L.RandomTranslation(0.1, 0.1, fill_mode="constant"),
            L.RandomRotation(0.03, fill_mode="constant"),
            L.RandomZoom(0.1, fill_mode="constant"),
            zoo.resnet20((32, 32, 1), classes=10),
        ]
    )


def main(epochs: int = 16, samples: int = 4000, batch_size: int = 64) -> float:
    """Train on the first `samples` digits; the accuracy on the test digits."""
    fc.seed(0)
    (x_train, y_train), test = mnist_5k.load_data()
    x_train, y_train = x_train[:samples], y_train[:samples]
    model = make_model()
    rate = fc.schedules.OneCycle(3e-3, total_steps=epochs * -(-len(x_train) // batch_size))
    model.compile(fc.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    model.fit(x_train, y_train, batch_size=batch_size, epochs=epochs, verbose=2)
    seconds = time.perf_counter() - start
    accuracy = model.evaluate(*test, return_dict=True, verbose=0)["accuracy"]
    print(f"{model.count_params():,} weights, {seconds:.1f} s of training, test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=16, help="passes over the digits (default: %(default)s)")
    main(parser.parse_args().epochs)
