"""CIFAR-10 and CIFAR-100, binary version.

A file is a row of records without header; a record is one or two label bytes, then 3 x 32 x 32 bytes:
the red, the green and the blue plane (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny
Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fastcnn.datasets._files import Source, Split, locate

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """The files of one CIFAR data set and the labels in each record."""

    source: Source
    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: tuple[int, ...]  # number of classes of each label byte

    @property
    def archive(self) -> str:
        return next(iter(self.source.md5))


CIFAR10 = Layout(
    source=Source(
        name="cifar10",
        base_url="https://www.cs.toronto.edu/~kriz/",
        md5={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        folders=("cifar-10-batches-bin", "cifar10"),
        needed="data_batch_1.bin to data_batch_5.bin and test_batch.bin, or cifar-10-binary.tar.gz",
        pickles=("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1"),
    ),
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test=("test_batch.bin",),
    classes=(10,),
)
CIFAR100 = Layout(
    source=Source(
        name="cifar100",
        base_url="https://www.cs.toronto.edu/~kriz/",
        md5={"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
        folders=("cifar-100-binary", "cifar100"),
        needed="train.bin and test.bin, or cifar-100-binary.tar.gz",
        pickles=("cifar-100-python", "cifar-100-python.tar.gz"),
    ),
    train=("train.bin",),
    test=("test.bin",),
    classes=(20, 100),
)


def load(layout: Layout, label: int, path: str | os.PathLike[str] | None) -> Split:
    """Read training and test images with the record's label byte number ``label``."""
    place = _given_archive(layout, path) or locate(layout.source, lambda folder: _find(layout, folder), path)
    names = layout.train + layout.test
    files = _read_folder(place, names) if place.is_dir() else _read_archive(layout, place, names)
    train, test = (_records(layout, label, place, files, part) for part in (layout.train, layout.test))
    return train, test


def _given_archive(layout: Layout, path: str | os.PathLike[str] | None) -> Path | None:
    """``path`` if it is a file; one of the Python version is left to ``locate``, which refuses it."""
    archive = None if path is None else Path(path).expanduser()
    return archive if archive and archive.is_file() and archive.name not in layout.source.pickles else None


def _find(layout: Layout, folder: Path) -> Path | None:
    """The folder with the unpacked files, or the archive in it."""
    if all((folder / name).is_file() for name in layout.train + layout.test):
        return folder
    archive = folder / layout.archive
    return archive if archive.is_file() else None


def _read_folder(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def _read_archive(layout: Layout, path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read the members in memory; nothing is unpacked to the disk."""
    files = {}
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                stream = archive.extractfile(member) if name in names and member.isfile() else None
                if stream is not None:
                    files[name] = stream.read()
            while unpacked.read(1 << 20):
                pass  # to the end, where gzip compares its checksum
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(
            f"{layout.source.name}: '{path}' ({path.stat().st_size} bytes) is damaged, cut short or not a "
            f"tar.gz archive: {error}; get it again from {layout.source.base_url}{layout.archive}"
        ) from error
    missing = [name for name in names if name not in files]
    if missing:
        raise ValueError(
            f"{layout.source.name}: '{path}' lacks {', '.join(missing)}; the binary version is needed, "
            f"{layout.source.base_url}{layout.archive}"
        )
    return files


def _records(
    layout: Layout, label: int, place: Path, files: dict[str, bytes], names: Iterable[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Join the named files: uint8 images (n, 32, 32, 3) and labels (n, 1)."""
    labels = len(layout.classes)
    size = labels + _PIXELS
    for name in names:
        count, rest = divmod(len(files[name]), size)
        if count == 0 or rest:
            raise ValueError(
                f"{layout.source.name}: '{name}' in '{place}' has the wrong size: expected a multiple of "
                f"{size} bytes (one record), such as {(count + 1) * size}, got {len(files[name])}; "
                "get the file again"
            )
    table = np.frombuffer(b"".join(files[name] for name in names), np.uint8).reshape(-1, size)
    y = table[:, label : label + 1].copy()
    if y.max() >= layout.classes[label]:
        raise ValueError(
            f"{layout.source.name}: {', '.join(names)} in '{place}' must hold labels 0 to "
            f"{layout.classes[label] - 1}, got {y.max()}; the files are damaged or of another data set"
        )
    planes = table[:, labels:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), y
