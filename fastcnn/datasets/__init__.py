"""Image data sets as NumPy arrays.

Every module has ``load_data()``, which returns ``(x_train, y_train), (x_test, y_test)``: uint8 images of
shape (n, height, width, channels) and uint8 labels. ``mnist_5k`` comes with fastcnn; ``mnist``,
``fashion_mnist``, ``cifar10`` and ``cifar100`` are read from a folder or downloaded; ``image_folder`` reads
your own pictures.

A downloaded data set is looked for in the folder given as ``path``; without it in the folder named by the
environment variable ``FASTCNN_DATA``, then in the user's cache folder.
"""

from __future__ import annotations

from fastcnn.datasets import cifar10, cifar100, fashion_mnist, image_folder, mnist, mnist_5k

__all__ = ["cifar10", "cifar100", "fashion_mnist", "image_folder", "mnist", "mnist_5k"]
