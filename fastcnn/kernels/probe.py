"""What this machine can do at most, measured here and now: the yardstick of every speed that is reported."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from fastcnn.kernels import _cpu
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._probe import CopyLoop, FmaLoop

BURST_SECONDS = 0.003
TRIAL_ITERATIONS = 10_000


class FmaProbe:
    """Bursts of multiply-adds in registers for `seconds` on `threads` threads; each call measures one.

    The loop is compiled for the instruction set in use and does nothing else, so no float32 kernel of that
    instruction set can be faster.
    """

    def __init__(self, threads: int | None = None, seconds: float = BURST_SECONDS):
        # Sized on one thread: there a busy machine disturbs least.
        trial = _fma_program(TRIAL_ITERATIONS, 1)[0]
        iterations = TRIAL_ITERATIONS * seconds / min(_seconds(trial) for _ in range(5))
        self.program, self.flops = _fma_program(max(1, int(iterations)), _threads(threads))

    def __call__(self) -> float:
        """GFLOP/s of one burst."""
        return self.flops / _seconds(self.program) / 1e9


class CopyProbe:
    """Copies of `size` bytes on `threads` threads; each call measures one.

    The limit of what only moves memory, such as pooling, when `size` is what it reads and writes by half.
    """

    def __init__(self, size: int, threads: int | None = None):
        items = 16 * _threads(threads)
        source, target = (np.ones(-(-size // items) * items, np.uint8) for _ in range(2))
        self.moved = 2 * source.size
        self.program = Program([Stage([CopyLoop(source, target, items)], items, group=16)])

    def __call__(self) -> float:
        """GB/s read plus GB/s written by one copy."""
        return self.moved / _seconds(self.program) / 1e9


def fma_peak(threads: int | None = None, bursts: int = 10) -> float:
    """The multiply-add peak in GFLOP/s: the best of some bursts of 3 ms, on all threads by default."""
    probe = FmaProbe(threads)
    return max(probe() for _ in range(bursts))


def copy_bandwidth(threads: int | None = None, megabytes: int = 128, runs: int = 5) -> float:
    """GB/s read plus GB/s written while that many megabytes are copied: the best of some runs."""
    probe = CopyProbe(megabytes << 20, threads)
    return max(probe() for _ in range(runs))


def _fma_program(iterations: int, threads: int) -> tuple[Program, float]:
    """One loop for each thread, and the floating-point operations of all."""
    loop = FmaLoop(iterations, threads)
    return Program([Stage([loop], loop.items)]), loop.flops


def _threads(threads: int | None) -> int:
    most = _cpu.get_num_threads()
    if threads is None:
        return most
    if not 1 <= threads <= most:
        raise ValueError(f"probe: expected 1 to {most} threads (see set_num_threads), got {threads}")
    return threads


def _seconds(program: Program) -> float:
    start = perf_counter()
    program.run()
    return perf_counter() - start
