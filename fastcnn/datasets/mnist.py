"""MNIST: 60,000 + 10,000 handwritten digits, 28 x 28 grey pixels, labels 0 to 9.

Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import os

from fastcnn.datasets import _idx
from fastcnn.datasets._files import Split


def load_data(path: str | os.PathLike[str] | None = None) -> Split:
    """Load MNIST from a folder, or download it (11 MB).

    Parameters
    ----------
    path : folder with the four idx files. Default: ``FASTCNN_DATA``, then the cache folder, then a download.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        uint8 images of shape (n, 28, 28, 1), values 0 to 255, and uint8 labels of shape (n,).

    Raises
    ------
    FileNotFoundError
        If the files are not found and cannot be downloaded; the message says where to put them.
    ValueError
        If a file is damaged.
    """
    return _idx.load(_idx.MNIST, path)
