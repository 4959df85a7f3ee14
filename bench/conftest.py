"""Shared by the benchmarks: --threads, the measuring, and the table at the end.

A benchmark measures the machine's limit before each of its rounds, outside the timed part and for about as long as
a round takes, so that a busy neighbour slows both alike and the share of the limit stays meaningful.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import pytest

from fastcnn.kernels import _cpu
from fastcnn.kernels.probe import CopyProbe, FmaProbe, fma_peak

SECONDS = 0.4  # for the timed rounds of one benchmark
MIN_ROUNDS, MAX_ROUNDS = 7, 100
SHORTEST_PROBE, LONGEST_PROBE = 0.001, 0.02
STEADY = 0.8  # median limit by quiet limit; below that something else was running


@dataclass(frozen=True)
class Row:
    """One benchmark: seconds, work (operations or bytes) and the limits measured between the rounds.

    `quiet` is the limit that short bursts reach: what it would be with the machine to ourselves.
    """

    name: str
    unit: str
    work: float
    best: float
    typical: float
    limits: list[float]
    quiet: float

    @property
    def rate(self) -> float:
        """In units of 1e9 per second."""
        return self.work / self.typical / 1e9

    @property
    def share(self) -> float:
        """Median rate by median limit."""
        return self.rate / median(self.limits)

    @property
    def best_share(self) -> float:
        """Best rate by best limit."""
        return self.work / self.best / 1e9 / max(self.limits)

    @property
    def steady(self) -> bool:
        return median(self.limits) >= STEADY * max(self.quiet, *self.limits)


ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=2, help="threads to run the kernels on (default 2)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    count = request.config.getoption("--threads")
    _cpu.set_num_threads(count)
    return count


@pytest.fixture(scope="session")
def quiet_peak(threads: int) -> float:
    return fma_peak(threads, bursts=30)


@pytest.fixture
def measure_flops(request, benchmark, threads, quiet_peak) -> Callable[[Callable[[], object], float], None]:
    """measure_flops(run, flops): time `run` against the multiply-add peak."""
    return lambda run, flops: _measure(request, benchmark, run, flops, "GFLOP/s", quiet_peak,
                                       lambda seconds: FmaProbe(threads, seconds))


@pytest.fixture
def measure_bytes(request, benchmark, threads) -> Callable[[Callable[[], object], float], None]:
    """measure_bytes(run, moved): time `run` against a copy that reads and writes as many bytes together."""
    return lambda run, moved: _measure(request, benchmark, run, moved, "GB/s", 0.0,
                                       lambda seconds: CopyProbe(moved // 2, threads))


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
    benchmark.extra_info.update({unit: row.rate, "limit": max(limits), "share": row.share,
                                 "best_share": row.best_share})
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
    terminalreporter.section(f"{_cpu.isa()}, {config.getoption('--threads')} threads; share of the multiply-add "
                             f"peak (GFLOP/s) or of a copy (GB/s) measured between the rounds")
    for line in table(rows):
        terminalreporter.write_line(line)
    disturbed = sum(not row.steady for row in rows)
    if disturbed:
        terminalreporter.write_line(f"{disturbed} of {len(rows)} were disturbed by other programs (marked ~): "
                                    f"the limit itself was more than {1 - STEADY:.0%} below its best")


def table(rows: list[Row]) -> list[str]:
    """Lines of text, one per benchmark, under a heading."""
    width = max(len(row.name) for row in rows)
    head = f"{'':{width}} {'median ms':>10} {'min ms':>9} {'rate':>16} {'of limit':>9} {'best':>6} {'limit':>7}"
    return [head] + [
        f"{row.name:{width}} {row.typical * 1e3:10.3f} {row.best * 1e3:9.3f} {row.rate:8.1f} {row.unit:7} "
        f"{row.share:9.0%} {row.best_share:6.0%} {max(row.limits):7.1f}{'' if row.steady else ' ~'}"
        for row in rows
    ]
