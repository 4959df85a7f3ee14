"""Checkpoint files: named arrays and JSON metadata in one safetensors file.

The format holds data only; reading a file never runs code from it. All metadata is one JSON text
under the key ``fastcnn`` of the safetensors header: ``{"format_version": 1, "metadata": {...}}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from fastcnn.errors import CheckpointError, writing

SUFFIX = ".safetensors"
FORMAT_VERSION = 1
_KEY = "fastcnn"
_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
           "float16", "float32", "float64")  # fmt: skip
_MAX_TABLE_ROWS = 20


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; move it over ``path`` when the block succeeds.

    Readers see either the old file or the complete new one. If the block raises, the old file stays
    and the temporary one is removed. A symbolic link keeps pointing to the file that is replaced.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".fastcnn-{os.urandom(16).hex()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # the data must be on disk before the name points to it
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_file(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any],
    where: str = "save_file",
) -> None:
    """Write ``arrays`` and ``metadata`` to ``path``, atomically.

    Parameters
    ----------
    path : file name ending in ``.safetensors``; its folder must exist.
    arrays : name -> array of bool, integer or real numbers, any shape and memory order.
    metadata : what JSON can hold: dict with str keys, list, str, int, float, bool, None. NumPy scalars
        are stored as Python numbers; tuples come back as lists.
    where : what errors call this function.

    Raises
    ------
    ValueError
        If ``path`` has another suffix.
    TypeError
        If an array or the metadata holds something the file cannot.
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the file cannot be written; a file that was there before is unchanged.
    """
    path = checked_path(path, where)
    tensors = {name: _storable(name, array, where) for name, array in arrays.items()}
    content = {"format_version": FORMAT_VERSION, "metadata": dict(metadata)}
    header = {_KEY: to_json(content, f"{where}: metadata")}
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{where}: the folder '{path.parent}' does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{where}: '{path}' is a folder; give the name of a file")
    data = safetensors.numpy.save(tensors, header)
    remedy = f"its folder must allow new files and have {len(data)} bytes free"
    with writing(path, where, remedy), atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_file(
    path: str | os.PathLike[str], where: str = "load_file"
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file written by :func:`save_file`; errors call this function `where`.

    Returns
    -------
    (arrays, metadata): dict of name -> array, in the file's own order, and the metadata dict.

    Raises
    ------
    ValueError
        If ``path`` has another suffix.
    FileNotFoundError
        If there is no such file.
    PermissionError
        If the file may not be read.
    CheckpointError
        If the file is cut short, damaged, not written by fastcnn, or of a format version this
        release does not read.
    """
    path = checked_path(path, where, "fastcnn reads no other kind of file")
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no file '{path}' (looked in {path.resolve().parent})")
    with open(path, "rb"):
        pass  # raises PermissionError where safetensors would say "no such file"
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = _metadata(path, (file.metadata() or {}).get(_KEY))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"'{path}' ({path.stat().st_size} bytes) is not a readable safetensors file: {error}. "
            "It is cut short, damaged, or of another kind; restore it from a copy or save it again."
        ) from error
    return arrays, metadata


class WeightMatch(NamedTuple):
    """How saved arrays compare with the wanted ones; all three lists are empty when they fit."""

    missing: list[str]
    unexpected: list[str]
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]]  # name, wanted shape, saved shape


def match_weights(
    saved: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[int, ...]],
    strict: bool = True,
    where: str | os.PathLike[str] = "the file",
) -> WeightMatch:
    """Compare saved arrays with the names and shapes a model wants.

    Parameters
    ----------
    saved : name -> array, as :func:`load_file` returns.
    wanted : name -> shape.
    strict : if True, any difference is an error.
    where : the file, named in the error.

    Raises
    ------
    CheckpointError
        If ``strict`` and anything differs, with a table of every difference.
    """
    match = WeightMatch(
        missing=[name for name in wanted if name not in saved],
        unexpected=[name for name in saved if name not in wanted],
        mismatched=[
            (name, tuple(shape), saved[name].shape)
            for name, shape in wanted.items()
            if name in saved and saved[name].shape != tuple(shape)
        ],
    )
    if strict and any(match):
        raise CheckpointError(
            f"the weights in '{where}' do not fit this model:\n{_table(match, saved, wanted)}\n"
            "Build the model with the same layers, names and sizes as when the file was saved."
        )
    return match


def _table(match: WeightMatch, saved: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> str:
    rows = [(name, str(tuple(wanted[name])), "missing") for name in match.missing]
    rows += [(name, "not wanted", str(saved[name].shape)) for name in match.unexpected]
    rows += [(name, str(shape), str(found)) for name, shape, found in match.mismatched]
    hidden = len(rows) - _MAX_TABLE_ROWS
    rows = [("weight", "model wants", "file has"), *rows[:_MAX_TABLE_ROWS]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines + ([f"  ... and {hidden} more"] if hidden > 0 else []))


def checked_path(path: str | os.PathLike[str], where: str, remedy: str = "fastcnn writes no other files") -> Path:
    """`path` as a Path; TypeError for what is none, ValueError for another suffix."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{where}: expected the path of a file, got {path!r}")
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{where}: the file name must end in '{SUFFIX}', got '{path}'; {remedy}")
    return path


def _storable(name: str, array: np.ndarray, where: str) -> np.ndarray:
    """The array as safetensors needs it: of a type the format knows, and contiguous (it reads raw memory)."""
    array = np.asarray(array)
    if array.dtype.name not in _DTYPES:
        raise TypeError(
            f"{where}: array '{name}' has dtype {array.dtype}, which the file cannot hold; "
            f"convert it to one of {', '.join(_DTYPES)}"
        )
    return np.asarray(array, order="C")


def to_json(value: Any, what: str) -> str:
    """`value` as JSON text, NumPy's numbers as Python's; TypeError, which calls it `what`, for other objects."""
    def plain_number(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        raise TypeError(f"{item!r} of type {type(item).__name__}")

    try:
        return json.dumps(value, default=plain_number)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} must hold only dict, list, str, int, float, bool and None: {error}"
        ) from error


def _metadata(path: Path, text: str | None) -> dict[str, Any]:
    if text is None:
        raise CheckpointError(
            f"'{path}' is a safetensors file of another program: it has no '{_KEY}' metadata. Read its "
            "arrays with safetensors.numpy.load_file and pass them to model.set_weights."
        )
    try:
        content = json.loads(text)
        version, metadata = content["format_version"], content["metadata"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{path}' has damaged '{_KEY}' metadata ({error!r}); restore it from a copy or save it again"
        ) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"'{path}' has format version {version!r}; this release reads version {FORMAT_VERSION}. "
            "Install the fastcnn release that wrote it, or a newer one."
        )
    if not isinstance(metadata, dict):
        raise CheckpointError(f"'{path}' has damaged '{_KEY}' metadata: a dict is needed, got {metadata!r}")
    return metadata
