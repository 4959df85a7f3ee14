"""Draws cases and runs their trials on every instruction set."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

from fastcnn import arrays
from fastcnn.kernels import _cpu
from fastcnn.plan import plan
from tests.check import poison

plan.SERIAL_WORK = 0  # models are small here, and should still run on all threads


def family(name: str) -> ModuleType:
    """The module of a family."""
    return importlib.import_module(f"tests.fuzz.{name}")


def generator(seed: int, number: int) -> np.random.Generator:
    """All that is random about a case."""
    return np.random.default_rng([seed, number])


def run(name: str, cases: int, seed: int = 0, first: int = 0) -> str:
    """Run the cases of a family from number `first` on; a line of what was done.

    What a case raises goes on, after the case was printed to stderr.
    """
    start, compared, isas = time.perf_counter(), 0, _cpu.isas()
    for number in range(first, first + cases):
        rng = generator(seed, number)
        case = family(name).draw(rng)
        with usual_machine(), poisoned_memory():
            _cpu.set_num_threads(1 + number % 3)
            try:
                compared += check(name, case, rng, isas)
            except Exception as error:
                print(f"case {number} of seed {seed} fails on {_cpu.isa()}, {_cpu.get_num_threads()} threads: {case}\n"
                      f"{error}\nTo repeat it: python -m tests.fuzz --ops {name} --seed {seed} --first {number} "
                      f"--cases 1", file=sys.stderr)
                raise
    return (f"{name}: {cases} cases, {compared} results on {', '.join(isas)} agree with the reference; "
            f"{time.perf_counter() - start:.0f} s")


def check(name: str, case: Any, rng: np.random.Generator, isas: list[str]) -> int:
    """Check one case of a family on these instruction sets; the number of results compared."""
    compared = 0
    for trial in family(name).trials(case, rng):
        for isa in isas if trial.kernels else isas[:1]:
            _cpu.select_isa(isa)
            compared += trial.check()
    return compared


@contextmanager
def usual_machine() -> Iterator[None]:
    """Afterwards the instruction set and the number of threads are what they were."""
    isa, threads = _cpu.isa(), _cpu.get_num_threads()
    try:
        yield
    finally:
        _cpu.select_isa(isa)
        _cpu.set_num_threads(threads)


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """What kernels are to write in full holds NaN before."""
    allocate = arrays._aligned

    def poisoned(make, shape):
        return poison(allocate(make, shape)) if make is np.empty else allocate(make, shape)

    with patch.object(arrays, "_aligned", poisoned):
        yield
