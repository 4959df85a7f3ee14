"""CIFAR-10: 50,000 + 10,000 colour photographs of 32 x 32 pixels, 10 classes.

Labels: 0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.
A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import os

from fastcnn.datasets import _cifar
from fastcnn.datasets._files import Split


def load_data(path: str | os.PathLike[str] | None = None) -> Split:
    """Load CIFAR-10, binary version, from a folder, or download it (170 MB).

    Parameters
    ----------
    path : folder with data_batch_1.bin ... test_batch.bin or with cifar-10-binary.tar.gz, or the archive
        itself. Default: ``FASTCNN_DATA``, then the cache folder, then a download.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        uint8 images of shape (n, 32, 32, 3), values 0 to 255, and uint8 labels of shape (n, 1).

    Raises
    ------
    FileNotFoundError
        If the files are not found and cannot be downloaded; the message says where to put them.
    ValueError
        If a file is damaged, or ``path`` holds the Python (pickle) version, which is not read.
    """
    return _cifar.load(_cifar.CIFAR10, 0, path)
