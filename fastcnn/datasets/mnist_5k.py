"""5,000 real MNIST digits that come with fastcnn: 4,000 for training, 1,000 for testing.

The first 500 digits of each class of MNIST's training set (source and licence: ``data/README.md``). Its test
digits are not MNIST's test set: compare accuracies only with others on this split.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastcnn.datasets._files import Split

_FILE = Path(__file__).with_name("data") / "mnist_5k.npz"


def load_data() -> Split:
    """Load the digits; no network, no other file.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        uint8 images of shape (4000, 28, 28, 1) and (1000, 28, 28, 1), values 0 to 255, and uint8 labels of
        shape (4000,) and (1000,); each class has 400 training and 100 test digits, in mixed order.
    """
    with np.load(_FILE, allow_pickle=False) as arrays:
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
