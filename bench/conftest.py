"""Shared by the benchmarks: --threads, the measuring, and the table at the end.

A benchmark measures the machine's limit before each of its rounds, outside the timed part and for about as
long as a round takes, so that a busy neighbour slows both alike and the share of the limit stays meaningful.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import pytest

from bench.rows import STEADY, Row, table
from fastcnn.kernels import _cpu
from fastcnn.kernels.probe import CopyProbe, FmaProbe, fma_peak

SECONDS = 0.4  # for the timed rounds of one benchmark
MIN_ROUNDS, MAX_ROUNDS = 7, 100
SHORTEST_PROBE, LONGEST_PROBE = 0.001, 0.02

ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=2, help="threads to run the kernels on (default 2)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    _cpu.set_num_threads(request.config.getoption("--threads"))
    return _cpu.get_num_threads()  # one, in a build without OpenMP


@pytest.fixture(scope="session")
def quiet_peak(threads: int) -> float:
    return fma_peak(threads, bursts=30)


@pytest.fixture
def measure_flops(request, benchmark, threads, quiet_peak) -> Callable[[Callable[[], object], float], None]:
    """measure_flops(run, flops): time `run` against the multiply-add peak."""
    return lambda run, flops: _measure(
        request, benchmark, run, flops, "GFLOP/s", quiet_peak, lambda seconds: FmaProbe(threads, seconds)
    )


@pytest.fixture
def measure_bytes(request, benchmark, threads) -> Callable[[Callable[[], object], float], None]:
    """measure_bytes(run, moved): time `run` against a copy that reads and writes as many bytes together."""
    return lambda run, moved: _measure(
        request, benchmark, run, moved, "GB/s", 0.0, lambda seconds: CopyProbe(moved // 2, threads)
    )


def _measure(request, benchmark, run, work: float, unit: str, quiet: float, make_probe) -> None:
    seconds = _seconds(run)
    probe = make_probe(min(max(seconds, SHORTEST_PROBE), LONGEST_PROBE))
    limits: list[float] = []
    rounds = max(MIN_ROUNDS, min(MAX_ROUNDS, int(SECONDS / seconds)))
    benchmark.pedantic(run, setup=lambda: limits.append(probe()), rounds=rounds, warmup_rounds=1)
    if benchmark.stats is None:  # --benchmark-disable
        return
    stats = benchmark.stats.stats
    row = Row(request.node.name.removeprefix("test_"), unit, work, stats.min, stats.median, limits, quiet)
    benchmark.extra_info.update(
        {unit: row.rate, "limit": max(limits), "share": row.share, "best_share": row.best_share}
    )
    request.config.stash[ROWS].append(row)


def _seconds(run: Callable[[], object]) -> float:
    """The better of two calls after one to warm up."""
    times = []
    for _ in range(3):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times[1:])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    terminalreporter.section(
        f"{_cpu.isa()}, threads: {_cpu.get_num_threads()}; share of the multiply-add "
        f"peak (GFLOP/s) or of a copy (GB/s) measured between the rounds"
    )
    for line in table(rows):
        terminalreporter.write_line(line)
    disturbed = sum(not row.steady for row in rows)
    if disturbed:
        terminalreporter.write_line(
            f"{disturbed} of {len(rows)} were disturbed by other programs (marked ~): "
            f"the limit itself was more than {1 - STEADY:.0%} below its best"
        )
