"""Pictures in folders as a data set: classes, splits, sizes, damaged files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fastcnn.datasets import image_folder


def write_pictures(folder: Path, counts: dict[str, int], size: tuple[int, int] = (6, 4)) -> None:
    """One-colour pictures: red = class number, green = picture number."""
    image = pytest.importorskip("PIL.Image")
    for label, (name, count) in enumerate(sorted(counts.items())):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.zeros((*size, 3), np.uint8)
            pixels[...] = (label, i, 7)
            image.fromarray(pixels).save(folder / name / f"{i}.png")


def assert_labels_fit(x: np.ndarray, y: np.ndarray) -> None:
    np.testing.assert_array_equal(x[..., 0], np.broadcast_to(y[:, None, None], x.shape[:3]))


def test_image_folder_splits_each_class(tmp_path):
    write_pictures(tmp_path, {"dog": 10, "cat": 20, "ant": 1})
    (tmp_path / "dog" / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden").mkdir()
    (x_train, y_train), (x_test, y_test) = image_folder.load_data(tmp_path)
    assert image_folder.class_names(tmp_path) == ["ant", "cat", "dog"]
    assert (x_train.shape, x_test.shape) == ((25, 6, 4, 3), (6, 6, 4, 3))
    assert x_train.dtype == y_train.dtype == x_test.dtype == y_test.dtype == np.uint8
    assert np.bincount(y_train).tolist() == [1, 16, 8]
    assert np.bincount(y_test, minlength=3).tolist() == [0, 4, 2]
    assert_labels_fit(x_train, y_train)
    assert_labels_fit(x_test, y_test)
    seen = [(int(x[0, 0, 0]), int(x[0, 0, 1])) for x in np.concatenate([x_train, x_test])]
    assert len(set(seen)) == 31  # every picture once, none in both parts
    assert y_train.tolist() != sorted(y_train)  # the classes are mixed


def test_image_folder_seed_and_split(tmp_path):
    write_pictures(tmp_path, {"a": 12, "b": 12})
    first, again, other = (image_folder.load_data(tmp_path, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0][0], again[0][0])
    np.testing.assert_array_equal(first[1][0], again[1][0])
    assert not np.array_equal(first[0][0], other[0][0])
    (x_train, _), (x_test, y_test) = image_folder.load_data(tmp_path, test_split=0)
    assert (x_train.shape, x_test.shape, y_test.shape) == ((24, 6, 4, 3), (0, 6, 4, 3), (0,))
    assert len(image_folder.load_data(tmp_path, test_split=0.99)[0][0]) == 2  # one of each class stays


def test_image_folder_with_train_and_test(tmp_path):
    write_pictures(tmp_path / "train", {"a": 3, "b": 2})
    write_pictures(tmp_path / "test", {"a": 1, "b": 1})
    (x_train, y_train), (x_test, y_test) = image_folder.load_data(tmp_path)
    assert sorted(y_train) == [0, 0, 0, 1, 1]
    assert sorted(y_test) == [0, 1]
    assert_labels_fit(x_train, y_train)
    assert_labels_fit(x_test, y_test)
    assert image_folder.class_names(tmp_path) == ["a", "b"]
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(ValueError, match="same classes; only one of them has c"):
        image_folder.load_data(tmp_path)


def test_image_folder_sizes_and_colours(tmp_path):
    write_pictures(tmp_path, {"a": 2}, size=(6, 4))
    write_pictures(tmp_path / "a", {"more": 1}, size=(5, 9))  # pictures in a folder below count too
    for mode, channels in (("rgb", 3), ("grayscale", 1), ("rgba", 4)):
        (x_train, _), _ = image_folder.load_data(tmp_path, image_size=(8, 3), color_mode=mode, test_split=0)
        assert x_train.shape == (3, 8, 3, channels)
    with pytest.raises(ValueError, match=r"png' has height and width \(\d, \d\).*give image_size"):
        image_folder.load_data(tmp_path)


def test_image_folder_scaling_keeps_height_before_width(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "a").mkdir()
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4] = 200  # upper half bright
    image.fromarray(pixels).save(tmp_path / "a" / "half.png")
    (x, _), _ = image_folder.load_data(tmp_path, image_size=(4, 2), color_mode="grayscale")
    assert x.shape == (1, 4, 2, 1)
    assert x[0, 0].min() == 200
    assert x[0, 3].max() == 0


@pytest.mark.parametrize(
    "damage", [lambda c: c[:60], lambda c: b"", lambda c: b"hello" * 20, lambda c: c[:-30]]
)
def test_image_folder_broken_picture(tmp_path, damage):
    write_pictures(tmp_path, {"a": 3, "b": 3}, size=(40, 40))
    path = tmp_path / "b" / "1.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"cannot read '{re.escape(str(path))}'"):
        image_folder.load_data(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"color_mode": "grey"}, "color_mode 'grey'.*grayscale"),
        ({"test_split": 1}, "test_split .* got 1"),
        ({"test_split": -0.1}, "test_split .* got -0.1"),
        ({"image_size": 32}, "image_size must be .*height, width.* got 32"),
        ({"image_size": (0, 5)}, r"image_size .* got \(0, 5\)"),
        ({"image_size": (1, 2, 3)}, r"image_size .* got \(1, 2, 3\)"),
    ],
)
def test_image_folder_wrong_arguments(tmp_path, arguments, message):
    write_pictures(tmp_path, {"a": 1})
    with pytest.raises(ValueError, match=message):
        image_folder.load_data(tmp_path, **arguments)


def test_image_folder_without_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        image_folder.load_data(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no sub-folders; make one for each class"):
        image_folder.load_data(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty' holds no pictures \(\.bmp"):
        image_folder.load_data(tmp_path)


def test_image_folder_without_pillow(tmp_path, monkeypatch):
    write_pictures(tmp_path, {"a": 1})
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        image_folder.load_data(tmp_path)
