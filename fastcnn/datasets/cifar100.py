"""CIFAR-100: 50,000 + 10,000 colour photographs of 32 x 32 pixels, 100 classes in 20 groups.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import os

from fastcnn.datasets import _cifar
from fastcnn.datasets._files import Split
from fastcnn.errors import unknown_name

_LABEL_MODES = ("coarse", "fine")  # in the order of the record's label bytes


def load_data(label_mode: str = "fine", path: str | os.PathLike[str] | None = None) -> Split:
    """Load CIFAR-100, binary version, from a folder, or download it (169 MB).

    Parameters
    ----------
    label_mode : ``'fine'`` for the 100 classes, ``'coarse'`` for the 20 groups.
    path : folder with train.bin and test.bin or with cifar-100-binary.tar.gz, or the archive itself.
        Default: ``FASTCNN_DATA``, then the cache folder, then a download.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        uint8 images of shape (n, 32, 32, 3), values 0 to 255, and uint8 labels of shape (n, 1).

    Raises
    ------
    FileNotFoundError
        If the files are not found and cannot be downloaded; the message says where to put them.
    ValueError
        If ``label_mode`` is unknown, a file is damaged, or ``path`` holds the Python (pickle) version.
    """
    if label_mode not in _LABEL_MODES:
        raise unknown_name("label_mode", label_mode, _LABEL_MODES, where="cifar100.load_data")
    return _cifar.load(_cifar.CIFAR100, _LABEL_MODES.index(label_mode), path)
