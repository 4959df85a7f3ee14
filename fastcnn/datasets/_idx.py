"""MNIST and Fashion-MNIST: four files in the idx format, usually compressed with gzip.

An idx file is: two zero bytes, a type code (8 = unsigned byte), the number of axes, each axis' length as a
big-endian 32-bit integer, then the values in C order (Y. LeCun, C. Cortes, C. Burges, "The MNIST database
of handwritten digits").
"""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from pathlib import Path

import numpy as np

from fastcnn.datasets._files import Source, Split, locate

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_NEEDED = ", ".join(f"{name}.gz" for name in FILES) + " (or unpacked, without .gz)"
_CLASSES = 10
_UNSIGNED_BYTE = 8
_GZIP = 16 + zlib.MAX_WBITS

MNIST = Source(
    name="mnist",
    base_url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    folders=("mnist", "MNIST/raw", "MNIST"),
    needed=_NEEDED,
)
FASHION_MNIST = Source(
    name="fashion_mnist",
    base_url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    md5={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST"),
    needed=_NEEDED,
)


def load(source: Source, path: str | os.PathLike[str] | None) -> Split:
    """Read the training and test pair of ``source``."""
    train_images, train_labels, test_images, test_labels = locate(source, _find, path)
    _refuse_other_data_set(source, test_labels)
    return _read_pair(train_images, train_labels), _read_pair(test_images, test_labels)


def _find(folder: Path) -> list[Path] | None:
    paths = []
    for name in FILES:
        present = [path for path in (folder / f"{name}.gz", folder / name) if path.is_file()]
        if not present:
            return None
        paths.append(present[0])
    return paths


def _refuse_other_data_set(source: Source, test_labels: Path) -> None:
    """The two data sets share their file names; the published labels tell them apart."""
    digest = hashlib.md5(test_labels.read_bytes(), usedforsecurity=False).hexdigest()
    for other in (MNIST, FASHION_MNIST):
        if other is not source and digest in other.md5.values():
            raise ValueError(
                f"{source.name}: '{test_labels}' belongs to {other.name}; both data sets use the same file "
                f"names, so keep each in its own sub-folder, {source.name}/ and {other.name}/"
            )


def _read_pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3:
        raise ValueError(f"'{images_path}' must hold images of shape (n, height, width), got {images.shape}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"'{labels_path}' must hold one label for each of the {len(images)} images of "
            f"'{images_path.name}', got shape {labels.shape}; the files do not belong together"
        )
    if labels.size and labels.max() >= _CLASSES:
        raise ValueError(f"'{labels_path}' must hold labels 0 to {_CLASSES - 1}, got {labels.max()}")
    return images[..., np.newaxis], labels


def read_idx(path: Path) -> np.ndarray:
    """Read one idx file of unsigned bytes, compressed or not.

    Raises
    ------
    ValueError
        If the file is of another format, damaged, or its size differs from what its header says.
    """
    content, complete = _unpack(path)
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    if content[:3] != bytes([0, 0, _UNSIGNED_BYTE]) or not 1 <= axes <= 4 or len(content) < start:
        raise ValueError(
            f"'{path}' is not an idx file of unsigned bytes: it starts with {content[:8].hex(' ')!r} "
            f"({len(content)} bytes), expected '00 00 08'; get the file again"
        )
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", axes, offset=4))
    expected = start + math.prod(shape)
    if len(content) != expected or not complete:
        raise ValueError(
            f"'{path}' has the wrong size: its header gives shape {shape}, so expected {expected} bytes "
            f"unpacked, got {len(content)}{'' if complete else ' from a file cut short'}; get the file again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _unpack(path: Path) -> tuple[bytes, bool]:
    """The bytes of the file, through gzip if its name says so, and whether the gzip stream is complete."""
    packed = path.read_bytes()
    if path.suffix != ".gz":
        return packed, True
    stream = zlib.decompressobj(_GZIP)
    try:
        return stream.decompress(packed), stream.eof
    except zlib.error as error:
        raise ValueError(
            f"'{path}' ({len(packed)} bytes) is damaged or not a gzip file: {error}; get the file again"
        ) from error
