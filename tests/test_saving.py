"""Checkpoint files: what is saved comes back, no failure harms the old file, bad files are named."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastcnn import saving
from fastcnn.errors import CheckpointError
from fastcnn.saving import load_file, match_weights, save_file

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good checkpoint."""
    path = tmp_path / "model.safetensors"
    save_file(path, {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"epoch": 1})
    return path


def write_raw(path: Path, header: dict, body: bytes) -> None:
    """The safetensors format by hand: header length, JSON header, bytes of the arrays."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype.newbyteorder("=")
    assert actual.tobytes() == expected.astype(expected.dtype.newbyteorder("=")).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_comes_back(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    arrays = {
        f"a{len(s)}": np.arange(np.prod(s)).reshape(s).astype(dtype) for s in [(), (3,), (2, 0), (2, 3, 4)]
    }
    save_file(path, arrays, {})
    loaded, metadata = load_file(path)
    assert metadata == {}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert_same(loaded[name], array)
        assert loaded[name].flags.writeable


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0), elements=st.floats(width=32))
)
def test_any_bits_come_back(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("bits") / "a.safetensors"
    save_file(path, {"a": array}, {})
    assert_same(load_file(path)[0]["a"], array)


def test_memory_order_and_byte_order_do_not_matter(tmp_path):
    path = tmp_path / "a.safetensors"
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {"fortran": np.asfortranarray(base), "strided": base[::2, ::-3], "transposed": base.T}
    arrays["big_endian"] = base.astype(">f4")
    arrays["read_only"] = np.broadcast_to(base[0], (3, 6))
    save_file(path, arrays, {})
    loaded, _ = load_file(path)
    for name, array in arrays.items():
        assert_same(loaded[name], np.ascontiguousarray(array))


def test_metadata_comes_back(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(
        path,
        {},
        {"layers": [{"name": "größe", "units": np.int64(3)}], "rate": np.float32(0.5), "t": (1, None)},
    )
    assert load_file(path) == ({}, {"layers": [{"name": "größe", "units": 3}], "rate": 0.5, "t": [1, None]})


def test_other_programs_can_read_the_arrays(file):
    np.testing.assert_array_equal(safetensors.numpy.load_file(file)["w"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.skipif(os.name == "nt", reason="permission bits of POSIX")
def test_the_new_file_has_the_usual_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        save_file(tmp_path / "a.safetensors", {}, {})
    finally:
        os.umask(old)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["write_bytes", "fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(file, monkeypatch, step):
    before = file.read_bytes()

    def disk_full(target, *_):
        if step == "write_bytes":
            with open(target, "wb") as half_written:
                half_written.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path if step == "write_bytes" else os, step, disk_full)
    with pytest.raises(OSError, match=r"No space left.*bytes free") as caught:
        save_file(file, {"w": np.zeros(1000)}, {"epoch": 2})
    monkeypatch.undo()
    assert caught.value.errno == 28
    assert str(file) in str(caught.value)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(file, monkeypatch):
    before = file.read_bytes()

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_file(file, {"w": np.zeros(1000)}, {})
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_the_file_is_on_disk_before_it_gets_its_name(file, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(("fsync", os.fstat(fd).st_size)), fsync(fd)))
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append(("replace", os.stat(a).st_size)), replace(a, b))
    )
    save_file(file, {"w": np.zeros(1000)}, {})
    assert calls == [("fsync", file.stat().st_size), ("replace", file.stat().st_size)]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_a_symbolic_link_stays_a_link(file):
    link = file.parent / "latest.safetensors"
    link.symlink_to(file.name)
    save_file(link, {}, {"epoch": 9})
    assert link.is_symlink()
    assert load_file(file)[1] == {"epoch": 9}


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permission bits of POSIX")
def test_a_read_only_folder_and_an_unreadable_file(file):
    """In a child process, which gives up root's right to ignore permissions."""
    program = f"""
import os, sys, numpy as np
from fastcnn.saving import load_file, save_file
if os.geteuid() == 0:
    os.seteuid(65534)
for call in (lambda: save_file({str(file)!r}, {{}}, {{}}), lambda: load_file({str(file)!r})):
    try:
        call()
    except PermissionError as error:
        print(error)
"""
    folders = [file.parent, *file.parent.parents]
    modes = {folder: folder.stat().st_mode & 0o777 for folder in folders[:3]}
    try:
        for folder, mode in modes.items():
            folder.chmod(mode | 0o055)  # let the other user pass
        file.chmod(0)
        file.parent.chmod(0o555)
        root = Path(saving.__file__).parents[1]
        run = [sys.executable, "-c", program]
        lines = subprocess.run(run, cwd=root, capture_output=True, text=True, timeout=60).stdout.splitlines()
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
        file.chmod(0o644)
    assert len(lines) == 2
    assert f"cannot write '{file}'" in lines[0]
    assert str(file) in lines[1]
    assert load_file(file)[1] == {"epoch": 1}


@pytest.mark.parametrize("name", ["model", "model.h5", "model.safetensors.bak", "safetensors"])
@pytest.mark.parametrize("call", [lambda path: save_file(path, {}, {}), load_file])
def test_the_suffix_is_required(tmp_path, name, call):
    with pytest.raises(ValueError, match=rf"must end in '.safetensors'.*{re.escape(name)}"):
        call(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_or_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder .*nowhere.* does not exist; create it"):
        save_file(tmp_path / "nowhere" / "a.safetensors", {}, {})
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.safetensors"):
        load_file(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.safetensors"):
        load_file(tmp_path / "a.safetensors")
    with pytest.raises(IsADirectoryError, match=r"save_file: '.*a\.safetensors' is a folder; give the name of a file"):
        save_file(tmp_path / "a.safetensors", {}, {})
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize(
    "array", [np.array([None]), np.array(["text"]), np.zeros(2, np.complex128), np.zeros(2, "M8[s]")]
)
def test_arrays_the_file_cannot_hold(file, array):
    before = file.read_bytes()
    with pytest.raises(TypeError, match=r"array 'odd' has dtype .*convert it to one of bool"):
        save_file(file, {"w": np.ones(2), "odd": array}, {})
    assert file.read_bytes() == before


@pytest.mark.parametrize("value", [print, {1, 2}, np.zeros(3), b"bytes"])
def test_metadata_json_cannot_hold(file, value):
    before = file.read_bytes()
    with pytest.raises(TypeError, match="metadata must hold only dict, list"):
        save_file(file, {}, {"value": value})
    assert file.read_bytes() == before


def test_every_cut_of_a_file_is_noticed(file):
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"model\.safetensors' \(\d+ bytes\) is not a readable"):
            load_file(file)


@pytest.mark.parametrize(
    "content", [b"\x89HDF\r\n\x1a\n" + bytes(500), b"PK\x03\x04" + bytes(500), b"text" * 90]
)
def test_files_of_another_kind(file, content):
    file.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors.*not a readable safetensors file.*restore"
    ):
        load_file(file)


def test_a_pickle_is_not_run(file):
    marker = file.parent / "run"
    file.write_bytes(b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR." + bytes(100))
    with pytest.raises(CheckpointError):
        load_file(file)
    assert not marker.exists()


def test_a_file_of_another_program(file):
    safetensors.numpy.save_file({"w": np.ones(3)}, file)
    with pytest.raises(CheckpointError, match=r"of another program.*safetensors\.numpy\.load_file"):
        load_file(file)
    safetensors.numpy.save_file({"w": np.ones(3)}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match="of another program"):
        load_file(file)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version(file, version):
    text = json.dumps({"format_version": version, "metadata": {}})
    safetensors.numpy.save_file({}, file, {"fastcnn": text})
    with pytest.raises(CheckpointError, match=rf"format version {version!r}; this release reads version 1"):
        load_file(file)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"metadata": {}}', '{"format_version": 1}', '{"format_version": 1, "metadata": 5}'],
)
def test_damaged_metadata(file, text):
    safetensors.numpy.save_file({}, file, {"fastcnn": text})
    with pytest.raises(CheckpointError, match="damaged 'fastcnn' metadata"):
        load_file(file)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
def test_a_dtype_numpy_lacks(file, dtype):
    size = 4 if dtype == "BF16" else 2
    note = json.dumps({"format_version": 1, "metadata": {}})
    spec = {"dtype": dtype, "shape": [2], "data_offsets": [0, size]}
    write_raw(file, {"__metadata__": {"fastcnn": note}, "w": spec}, bytes(size))
    with pytest.raises(CheckpointError, match="not a readable"):
        load_file(file)


SAVED = {"a": np.zeros((2, 3)), "b": np.zeros(4), "extra": np.zeros(1)}


def test_weights_that_fit():
    match = match_weights({"a": np.zeros((2, 3))}, {"a": (2, 3)})
    assert match == ([], [], [])


def test_weights_that_do_not_fit():
    wanted = {"b": [4], "a": (3, 2), "lost": (5,)}
    match = match_weights(SAVED, wanted, strict=False)
    assert match.missing == ["lost"]
    assert match.unexpected == ["extra"]
    assert match.mismatched == [("a", (3, 2), (2, 3))]
    with pytest.raises(CheckpointError) as caught:
        match_weights(SAVED, wanted, where="m.safetensors")
    lines = str(caught.value).splitlines()
    assert "'m.safetensors' do not fit" in lines[0]
    assert [re.split(r"\s{2,}", line.strip()) for line in lines[1:-1]] == [
        ["weight", "model wants", "file has"],
        ["lost", "(5,)", "missing"],
        ["extra", "not wanted", "(1,)"],
        ["a", "(3, 2)", "(2, 3)"],
    ]


@pytest.mark.parametrize(
    ("saved", "wanted"), [(SAVED, {}), ({}, {"a": (1,)}), ({"a": np.zeros(2)}, {"a": (1,)})]
)
def test_one_kind_of_difference_is_enough(saved, wanted):
    with pytest.raises(CheckpointError):
        match_weights(saved, wanted)


def test_a_long_table_is_cut():
    with pytest.raises(CheckpointError) as caught:
        match_weights({}, {f"w{i}": (i,) for i in range(50)})
    assert "and 30 more" in str(caught.value)
    assert str(caught.value).count("missing") == 20
