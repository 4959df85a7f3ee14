"""Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 x 28 grey pixels, 10 kinds.

Labels: 0 T-shirt/top, 1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag,
9 ankle boot. H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
Machine Learning Algorithms", 2017, arXiv:1708.07747.
"""

from __future__ import annotations

import os

from fastcnn.datasets import _idx
from fastcnn.datasets._files import Split


def load_data(path: str | os.PathLike[str] | None = None) -> Split:
    """Load Fashion-MNIST from a folder, or download it (30 MB).

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
        If a file is damaged, or belongs to MNIST, whose files have the same names.
    """
    return _idx.load(_idx.FASHION_MNIST, path)
