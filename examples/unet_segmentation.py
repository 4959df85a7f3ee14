"""Semantic segmentation with U-Net: which pixels of a noisy picture belong to which digit?

The pictures are made here: a few of the handwritten digits that come with the package, pasted on 64 x 64 pixels of
noise. A pixel's class is 0 for the background, or 1 more than the digit whose ink it shows. Printed is the mean over
these 11 classes of intersection over union, on pictures of digits that training never saw.

    python examples/unet_segmentation.py                         # about two minutes on two cores
    python examples/unet_segmentation.py --picture masks.png     # and draw some predictions (needs matplotlib)
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import fastcnn as fc
from fastcnn import zoo
from fastcnn.datasets import mnist_5k

SIZE, DIGIT, PER_PICTURE, NOISE = 64, 28, 3, 0.25
CLASSES = 11  # the background and ten digits


def make_pictures(count: int, digits: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 64, 64, 1) and classes of their pixels (count, 64, 64); later digits lie over earlier ones."""
    rng = np.random.default_rng(seed)
    x = NOISE * rng.standard_normal((count, SIZE, SIZE, 1))
    y = np.zeros((count, SIZE, SIZE), np.int64)
    for picture, classes in zip(x[..., 0], y, strict=True):
        for i in rng.integers(0, len(digits), PER_PICTURE):
            top, left = rng.integers(0, SIZE - DIGIT + 1, 2)
            place = slice(top, top + DIGIT), slice(left, left + DIGIT)
            ink = digits[i, ..., 0] > 100
            classes[place][ink] = labels[i] + 1
            picture[place] = np.where(ink, digits[i, ..., 0] / 255 + picture[place] / 2, picture[place])
    return x.astype(np.float32), y


def train(x: np.ndarray, y: np.ndarray, epochs: int, width: int, batch_size: int = 8) -> fc.Model:
    """A U-Net that has seen the pictures so many times."""
    model = zoo.unet((SIZE, SIZE, 1), CLASSES, width, depth=3, batch_norm=True)
    rate = fc.schedules.OneCycle(3e-3, total_steps=epochs * -(-len(x) // batch_size))
    model.compile(fc.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=2)
    return model


def mean_iou(y: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes of intersection over union."""
    metric = fc.metrics.MeanIoU(CLASSES)
    metric.update(y, predicted)
    return float(metric.result())


def draw(path: Path, x: np.ndarray, y: np.ndarray, predicted: np.ndarray) -> None:
    """Pictures, their classes and the predicted ones, a column each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 * len(x), 5), layout="constrained")
    axes = figure.subplots(3, len(x), subplot_kw={"xticks": [], "yticks": []})
    for column, images in zip(axes.T, zip(x[..., 0], y, predicted, strict=True), strict=True):
        column[0].imshow(images[0], cmap="gray")
        for place, classes in zip(column[1:], images[1:], strict=True):
            place.imshow(np.ma.masked_equal(classes, 0), cmap="tab10", vmin=1, vmax=10, interpolation="nearest")
    for place, title in zip(axes[:, 0], ("picture", "truth", "U-Net"), strict=True):
        place.set_ylabel(title)
    figure.savefig(path, dpi=100)


def main(pictures: int = 2000, epochs: int = 9, width: int = 16, picture: Path | None = None) -> float:
    """Train, and test on a fifth as many pictures; their mean intersection over union."""
    fc.seed(0)
    training, testing = mnist_5k.load_data()
    x, y = make_pictures(pictures, *training, seed=1)
    x_test, y_test = make_pictures(pictures // 5, *testing, seed=2)
    start = time.perf_counter()
    model = train(x, y, epochs, width)
    seconds = time.perf_counter() - start
    predicted = model.predict(x_test).argmax(axis=-1)
    iou = mean_iou(y_test, predicted)
    print(f"{model.count_params():,} weights, {seconds:.0f} s of training, mean IoU of {CLASSES} classes {iou:.3f}")
    if picture is not None:
        draw(picture, x_test[:6], y_test[:6], predicted[:6])
    return iou


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000, help="to learn from (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=9, help="passes over them (default: %(default)s)")
    parser.add_argument("--width", type=int, default=16, help="of the network (default: %(default)s)")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="where to draw some predictions")
    main(**vars(parser.parse_args()))
