"""What a benchmark measured, beside the limit measured between its rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

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


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of text, one per benchmark, under a heading."""
    width = max(len(row.name) for row in rows)
    head = (
        f"{'':{width}} {'median ms':>10} {'min ms':>9} {'rate':>16} {'of limit':>9} {'best':>6} {'limit':>7}"
    )
    return [head] + [
        f"{row.name:{width}} {row.typical * 1e3:10.3f} {row.best * 1e3:9.3f} {row.rate:8.1f} {row.unit:7} "
        f"{row.share:9.0%} {row.best_share:6.0%} {max(row.limits):7.1f}{'' if row.steady else ' ~'}"
        for row in rows
    ]
