"""Your own pictures: one sub-folder per class. Needs Pillow."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastcnn.datasets._files import Split
from fastcnn.errors import unknown_name

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_MODES = {"rgb": "RGB", "grayscale": "L", "rgba": "RGBA"}  # the words of Keras -> Pillow's mode
_WHERE = "image_folder.load_data"
Labelled = list[tuple[Path, int]]


def load_data(
    path: str | os.PathLike[str],
    image_size: tuple[int, int] | None = None,
    color_mode: str = "rgb",
    test_split: float = 0.2,
    seed: int = 0,
) -> Split:
    """Load pictures from ``path/<class>/*``, or from ``path/train/<class>/*`` and ``path/test/<class>/*``.

    Parameters
    ----------
    path : folder. Its sub-folders in alphabetical order are the classes; see :func:`class_names`.
    image_size : (height, width) to which every picture is scaled (bilinear, with antialiasing), or None
        if all have the same size already.
    color_mode : ``'rgb'``, ``'grayscale'`` or ``'rgba'``.
    test_split : share of each class that becomes test data, 0 <= test_split < 1; not used if there are
        train and test sub-folders.
    seed : fixes the split and the order.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        uint8 images of shape (n, height, width, channels) in mixed order, and labels of shape (n,), uint8
        (uint16 above 256 classes).

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If an argument is out of range, a class has no pictures, or a picture cannot be read.
    ImportError
        If Pillow is not installed.
    """
    if color_mode not in _MODES:
        raise unknown_name("color_mode", color_mode, tuple(_MODES), where=_WHERE)
    if not 0 <= test_split < 1:
        raise ValueError(f"{_WHERE}: test_split must be at least 0 and below 1, got {test_split}")
    size = None if image_size is None else _checked_size(image_size)
    names = class_names(path)
    rng = np.random.default_rng(seed)
    if _has_parts(Path(path)):
        train, test = (_list_images(Path(path) / part, names) for part in ("train", "test"))
    else:
        train, test = _split(_list_images(Path(path), names), test_split, rng)
    rng.shuffle(train)
    rng.shuffle(test)
    shape = read_image(train[0][0], color_mode, size).shape
    label_type = np.min_scalar_type(len(names) - 1)
    return _load(train, shape, color_mode, size, label_type), _load(test, shape, color_mode, size, label_type)


def class_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of the classes; the place in the list is the label.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If it has no sub-folders, or its train and test sub-folders hold different classes.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"image_folder: no folder '{root}' (looked in {root.resolve().parent})")
    if not _has_parts(root):
        return _sub_folders(root)
    train, test = _sub_folders(root / "train"), _sub_folders(root / "test")
    if train != test:
        raise ValueError(
            f"image_folder: '{root / 'train'}' and '{root / 'test'}' must hold the same classes; "
            f"only one of them has {', '.join(sorted(set(train) ^ set(test)))}"
        )
    return train


def _has_parts(root: Path) -> bool:
    return (root / "train").is_dir() and (root / "test").is_dir()


def _sub_folders(folder: Path) -> list[str]:
    names = sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not names:
        raise ValueError(f"image_folder: '{folder}' has no sub-folders; make one for each class")
    return names


def _checked_size(image_size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (int(length) for length in image_size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise ValueError(
            f"{_WHERE}: image_size must be (height, width), two positive ints, got {image_size!r}"
        )
    return height, width


def _list_images(folder: Path, names: list[str]) -> Labelled:
    """All pictures below ``folder``, class after class."""
    images: Labelled = []
    for label, name in enumerate(names):
        found = sorted(
            item
            for item in (folder / name).rglob("*")
            if item.suffix.lower() in SUFFIXES and not item.name.startswith(".")
        )
        if not found:
            raise ValueError(
                f"image_folder: class folder '{folder / name}' holds no pictures ({', '.join(SUFFIXES)})"
            )
        images += [(item, label) for item in found]
    return images


def _split(images: Labelled, test_split: float, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Draw the same share of each class for testing; at least one picture of each stays for training."""
    train: Labelled = []
    test: Labelled = []
    labels = np.array([label for _, label in images])
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cut = min(round(test_split * len(rows)), len(rows) - 1)
        test += [images[row] for row in rows[:cut]]
        train += [images[row] for row in rows[cut:]]
    return train, test


def _load(
    images: Labelled,
    shape: tuple[int, ...],
    color_mode: str,
    size: tuple[int, int] | None,
    label_type: np.dtype,
) -> tuple[np.ndarray, np.ndarray]:
    x = np.empty((len(images), *shape), np.uint8)
    for i, (path, _) in enumerate(images):
        pixels = read_image(path, color_mode, size)
        if pixels.shape != shape:
            raise ValueError(
                f"{_WHERE}: '{path}' has height and width {pixels.shape[:2]}, others have {shape[:2]}; "
                f"give image_size=(height, width) to scale all to one size"
            )
        x[i] = pixels
    return x, np.array([label for _, label in images], label_type)


def read_image(path: Path, color_mode: str, size: tuple[int, int] | None, where: str = _WHERE) -> np.ndarray:
    """One picture as a uint8 array (height, width, channels); errors call this function `where`."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{where} reads pictures with Pillow; run: pip install pillow") from error
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no file '{path}' (looked in {path.resolve().parent})")
    try:
        with Image.open(path) as file:
            picture = file.convert(_MODES[color_mode])
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise ValueError(f"{where}: cannot read '{path}': {error}; repair or remove the file") from error
    if size is not None:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
