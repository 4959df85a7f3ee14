"""Results of training: asked of a peer in another interpreter, kept in few numbers, compared."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

Results = dict[str, np.ndarray]
Digest = dict[str, list[float]]

WHOLE = ("losses", "shape")  # what is kept number by number


def frozen_random(text: str) -> np.random.RandomState:
    """A generator whose stream NumPy has frozen."""
    return np.random.RandomState(zlib.crc32(text.encode()))


def peer_python(variable: str, *packages: str) -> str | None:
    """A Python that has the packages: the one that an environment variable names, or this one, or None."""
    return os.environ.get(variable) or (sys.executable if all(map(find_spec, packages)) else None)


def run_twin(python: str, twin: Path, arrays: Results) -> dict[str, Results]:
    """What a script makes of arrays, by the part of their names before the first slash.

    CalledProcessError is raised when that Python cannot run it.
    """
    results: dict[str, Results] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases, found = Path(folder) / "cases.npz", Path(folder) / "results.npz"
        np.savez(cases, **arrays)
        subprocess.run([python, twin, cases, found], check=True)
        with np.load(found) as file:
            for key in file:
                name, _, what = key.partition("/")
                results.setdefault(name, {})[what] = file[key]
    return results


def digest(results: Results) -> Digest:
    """The losses, and of every other array its norm and its projection on a random direction: small enough to keep."""
    short = {}
    for key, array in results.items():
        direction = frozen_random(key).standard_normal(array.shape)
        values = array if key in WHOLE else [np.linalg.norm(array), (array * direction).sum()]
        short[key] = [float(f"{value:.8g}") for value in values]
    return short


def assert_digests_agree(found: Digest, wanted: Digest, limit: float) -> None:
    """Every number, to `limit` of its array's norm."""
    assert found.keys() == wanted.keys()
    largest = max((values[0] for key, values in wanted.items() if key.startswith("gradients")), default=0.0)
    for key, values in wanted.items():
        if key in WHOLE:
            assert_numbers_agree(key, found[key], values, limit)
            continue
        (norm, projection), (wanted_norm, wanted_projection) = found[key], values
        reach = limit * max(wanted_norm, least(key, largest))
        assert abs(norm - wanted_norm) <= reach, key
        assert abs(projection - wanted_projection) <= 4 * reach, key  # 4 deviations


def assert_results_agree(found: Results, wanted: Results, limit: float) -> None:
    """Every array: the norm of the difference, to `limit` of its own."""
    assert found.keys() == wanted.keys()
    largest = max((np.linalg.norm(a) for key, a in wanted.items() if key.startswith("gradients")), default=0.0)
    for key, array in wanted.items():
        assert found[key].shape == array.shape, key
        if key in WHOLE:
            assert_numbers_agree(key, found[key], array, limit)
            continue
        error = np.linalg.norm(found[key] - array)
        assert error <= limit * max(np.linalg.norm(array), least(key, largest)), key


def assert_numbers_agree(key: str, found: Sequence[float], wanted: Sequence[float], limit: float) -> None:
    """To `limit` of each number, or of a hundredth of the largest: a small loss is a difference of larger numbers."""
    np.testing.assert_allclose(found, wanted, rtol=limit, atol=1e-2 * limit * max(wanted), err_msg=key)


def least(key: str, largest: float) -> float:
    """The norm below which an array counts as this large: some gradients are 0, but for rounding."""
    return 1e-3 * largest if key.startswith("gradients") else 0.0
