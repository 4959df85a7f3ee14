"""Remove noise from images with Conv2DTranspose: down to 7 x 7 pixels, and up again.

Handwritten digits (the 5,000 of MNIST that come with the package) get random pixels added; the network learns to give
back the clean ones, each pixel a chance of ink. Printed is the mean squared error on the 1,000 digits that training
never saw, of the noisy and of the cleaned images.

    python examples/denoising_autoencoder.py
"""

from __future__ import annotations

import numpy as np

import fastcnn as fc
from fastcnn import layers as L
from fastcnn.datasets import mnist_5k


def make_model() -> fc.Sequential:
    """Strided convolutions forget what is not needed to draw the digit again."""
    model = fc.Sequential(
        [
            fc.Input((28, 28, 1)),
            L.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            L.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            L.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
            L.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu"),
            L.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    model.compile(fc.optimizers.Adam(0.005), "binary_crossentropy")
    return model


def main(epochs: int = 6, samples: int = 4000, noise: float = 0.4) -> tuple[float, float]:
    """Train on the first `samples` digits; the errors on the test digits, (noisy, cleaned)."""
    fc.seed(0)
    rng = np.random.default_rng(0)
    (x_train, _), (x_test, _) = mnist_5k.load_data()
    clean_train, clean_test = x_train[:samples] / 255.0, x_test / 255.0
    noisy_train, noisy_test = (
        np.clip(x + noise * rng.standard_normal(x.shape), 0, 1) for x in (clean_train, clean_test)
    )
    model = make_model()
    model.fit(noisy_train, clean_train, batch_size=64, epochs=epochs, verbose=2)
    before = float(np.mean((noisy_test - clean_test) ** 2))
    after = float(np.mean((model.predict(noisy_test) - clean_test) ** 2))
    print(f"mean squared error on test digits: noisy {before:.4f}, cleaned {after:.4f}")
    return before, after


if __name__ == "__main__":
    main()
