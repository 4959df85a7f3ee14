"""Find the files of a data set in known folders, or download them and check their MD5."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from fastcnn.saving import atomic_path

Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
Found = TypeVar("Found")

TIMEOUT_SECONDS = 10.0  # for connecting and for each read: behind a firewall, fail soon
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Source:
    """Where the files of one data set are published, and under which names they may lie on a disk."""

    name: str
    base_url: str
    md5: dict[str, str]  # published file name -> MD5
    folders: tuple[str, ...]  # sub-folders to look in, the one for downloads first
    needed: str  # the files, in words
    pickles: tuple[str, ...] = ()  # names of the Python version, which is never read


def cache_folder() -> Path:
    """The user's folder for downloaded data: the platform's cache folder / fastcnn."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastcnn"


def locate(
    source: Source, find: Callable[[Path], Found | None], path: str | os.PathLike[str] | None
) -> Found:
    """Return ``find(folder)`` for the first folder where it is not None, downloading if none has the files.

    With ``path`` only that folder counts: a mistyped path is an error, not a download.
    """
    roots = _roots() if path is None else [Path(path).expanduser()]
    for folder in _candidates(source, roots):
        found = find(folder)
        if found is not None:
            return found
    if path is not None:
        pickled = _find_pickles(source, roots)
        if pickled:
            raise ValueError(f"{source.name}: {_pickle_note(source, pickled)}")
        raise FileNotFoundError(_instructions(source, roots, f"no data files in path '{path}'"))

    target = roots[0] / source.folders[0]
    try:
        for file_name in source.md5:
            if not (target / file_name).exists():
                download(source, file_name, target)
    except (OSError, http.client.HTTPException) as error:
        reason = f"no data files on this machine, and downloading them failed: {error}"
        raise FileNotFoundError(_instructions(source, roots, reason)) from error
    found = find(target)
    if found is None:  # another process removed them
        raise FileNotFoundError(_instructions(source, roots, f"no data files in '{target}' after download"))
    return found


def download(source: Source, file_name: str, folder: Path) -> None:
    """Download one published file into ``folder``; it appears there only when complete and verified."""
    url = source.base_url + file_name
    request = urllib.request.Request(url, headers={"User-Agent": "fastcnn"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / file_name) as temporary:
            received, md5 = _receive(response, temporary, file_name)
            if md5 != source.md5[file_name]:
                raise ValueError(
                    f"{source.name}: {url} sent {received} bytes with MD5 {md5}, expected "
                    f"{source.md5[file_name]}; the file was thrown away. A proxy may have answered in place "
                    f"of the server: download it by hand, check its MD5 and put it into '{folder}'"
                )


def _receive(response: http.client.HTTPResponse, path: Path, label: str) -> tuple[int, str]:
    """Copy the response into a file with a progress bar; return the number of bytes and their MD5."""
    from tqdm import tqdm

    total = int(response.headers.get("Content-Length") or 0)
    digest = hashlib.md5(usedforsecurity=False)  # what the publishers give: detects damage
    received = 0
    with open(path, "wb") as file, tqdm(total=total or None, desc=label, unit="B", unit_scale=True) as bar:
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
            received += len(chunk)
    if received < total:
        raise ConnectionError(f"the connection broke off after {received} of {total} bytes of {label}")
    return received, digest.hexdigest()


def _roots() -> list[Path]:
    """Folders that hold data sets, the one for downloads first."""
    given = os.environ.get("FASTCNN_DATA")
    return ([Path(given).expanduser()] if given else []) + [cache_folder()]


def _candidates(source: Source, roots: list[Path]) -> Iterator[Path]:
    """Sub-folders before the folder itself: MNIST and Fashion-MNIST have the same file names."""
    for root in roots:
        yield from (root / name for name in source.folders)
        yield root


def _find_pickles(source: Source, roots: list[Path]) -> list[Path]:
    inside = [root / name for root in roots for name in source.pickles if (root / name).exists()]
    return [root for root in roots if root.name in source.pickles and root.exists()] + inside


def _pickle_note(source: Source, pickled: list[Path]) -> str:
    return (
        f"'{pickled[0]}' is the Python version: pickle files, which can run code when read, so fastcnn does "
        f"not read them. Get the binary version, {source.base_url}{next(iter(source.md5))}"
    )


def _instructions(source: Source, roots: list[Path], reason: str) -> str:
    """The error text: what failed, what is needed, where it was looked for, what to do."""
    pickled = _find_pickles(source, roots)
    lines = [
        f"{source.name}: {reason}",
        f"Needed: {source.needed}.",
        "Looked in:",
        *(f"  {root}{'' if root.exists() else ' (does not exist)'}" for root in roots),
        f"  and there in the sub-folders {', '.join(source.folders)}",
        *([f"Note: {_pickle_note(source, pickled)}"] if pickled else []),
        "To do: on a machine with network, download",
        *(f"  {source.base_url}{name}  (MD5 {md5})" for name, md5 in source.md5.items()),
        f"into the folder '{cache_folder() / source.folders[0]}', or into any folder that you name with "
        f"{source.name}.load_data(path=...) or the environment variable FASTCNN_DATA "
        f"(now {os.environ.get('FASTCNN_DATA') or 'not set'}).",
        "The data set fastcnn.datasets.mnist_5k comes with fastcnn and needs no network.",
    ]
    return "\n".join(lines)
