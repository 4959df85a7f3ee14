"""Tables, JSON and bars of a comparison."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.rows import STEADY
from bench.versus.runners import is_own

TITLES = {
    "train": "Training step",
    "predict": "Prediction of a batch",
    "predict-one": "Prediction of one sample",
}


@dataclass
class Result:
    """What one runner did with one net: a median time per round, and the peak measured before each."""

    what: str
    net: str
    batch: int
    runner: str
    flops: float
    rounds: list[float] = field(default_factory=list)  # ms
    peaks: list[float] = field(default_factory=list)  # GFLOP/s

    @property
    def ms(self) -> float:
        return median(self.rounds)

    def share(self, peak: float) -> float:
        """Of the multiply-add peak; useful operations count, however they are computed."""
        return self.flops / self.ms / 1e6 / peak

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "median_ms": self.ms, "min_ms": min(self.rounds), "max_ms": max(self.rounds)}


@dataclass(frozen=True)
class Line:
    """One net in a table: its results by runner."""

    results: dict[str, Result]

    @property
    def own(self) -> Result | None:
        return next((r for name, r in self.results.items() if is_own(name)), None)

    @property
    def best_peer(self) -> Result | None:
        return min(
            (r for name, r in self.results.items() if not is_own(name)), key=lambda r: r.ms, default=None
        )

    @property
    def ratio(self) -> float | None:
        """Time of the best peer by ours: above 1 we are faster."""
        return self.best_peer.ms / self.own.ms if self.own and self.best_peer else None


def by_kind(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each kind of work."""
    return {what: [r for r in results if r.what == what] for what in dict.fromkeys(r.what for r in results)}


def lines(results: Sequence[Result]) -> list[Line]:
    nets = dict.fromkeys(result.net for result in results)
    return [Line({r.runner: r for r in results if r.net == net}) for net in nets]


def quiet_peak(results: Sequence[Result]) -> float | None:
    """The best multiply-add peak of all that were measured: a disturbed one would flatter the shares."""
    return max((peak for result in results for peak in result.peaks), default=None)


def table(results: Sequence[Result], peak: float | None) -> str:
    """Markdown: a row per net, a column per runner; all of one kind of work."""
    runners = list(dict.fromkeys(result.runner for result in results))
    head = ["net (batch)", *runners, "best peer", "speed-up", "of peak"]
    rows = [head, ["---", *["---:"] * (len(runners)), "---", "---:", "---:"]]
    for line in lines(results):
        any_result = next(iter(line.results.values()))
        shown = line.own or line.best_peer
        rows.append(
            [
                f"{any_result.net} ({any_result.batch})",
                *(time(line.results.get(name)) for name in runners),
                line.best_peer.runner if line.best_peer else "-",
                "-" if line.ratio is None else f"{line.ratio:.2f}x",
                "-" if shown is None or peak is None else f"{shown.share(peak):.0%}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def time(result: Result | None) -> str:
    """Median over the rounds, and their spread."""
    if result is None:
        return "-"
    return f"{result.ms:.2f} ({min(result.rounds):.2f} to {max(result.rounds):.2f})"


def markdown(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """All tables, with what is needed to read them."""
    peak = quiet_peak(results)
    text = [
        ", ".join(f"{key}: {value}" for key, value in machine.items()),
        "",
        "Milliseconds: the median over the rounds of each round's median, and the spread of these. Speed-up: "
        "time of the best peer by that of fastcnn. " + about_peak(results, peak),
    ]
    slower = []
    for what, part in by_kind(results).items():
        text += ["", f"**{TITLES[what]}**", "", table(part, peak)]
        slower += [f"{line.own.net} ({what})" for line in lines(part) if line.own and (line.ratio or 1) < 1]
    if slower:
        text += ["", f"Slower than the best peer: {', '.join(slower)}."]
    return "\n".join(text) + "\n"


def about_peak(results: Sequence[Result], peak: float | None) -> str:
    """What the shares refer to, and whether the machine was quiet enough to believe any of the figures."""
    if peak is None:
        return "The multiply-add peak was not measured."
    typical = median(value for result in results for value in result.peaks)
    text = (
        f"Of peak: share of the multiply-add peak, {peak:.0f} GFLOP/s (median of all probes: {typical:.0f})."
    )
    return (
        text
        if typical >= STEADY * peak
        else f"{text} **The machine was not quiet: do not rely on these times.**"
    )


def describe_machine(threads: int, versions: Sequence[str], load: float) -> dict[str, Any]:
    """What ran this; `load` is how many processes were running before it."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "load before": round(load, 2),
        "threads": threads,
        "python": platform.python_version(),
        "versions": "; ".join(dict.fromkeys(versions)),
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":")[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        if cpuinfo.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def plot(results: Sequence[Result], path: str) -> None:
    """Bars of milliseconds, logarithmic, a panel per kind of work; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = by_kind(results)
    runners = list(dict.fromkeys(result.runner for result in results))
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(6 * len(kinds), 4), squeeze=False)
    for axis, (what, part) in zip(axes[0], kinds.items(), strict=True):
        rows = lines(part)
        for i, runner in enumerate(runners):
            found = [(x, row.results[runner]) for x, row in enumerate(rows) if runner in row.results]
            axis.bar(
                [x + (i + 0.5) / (len(runners) + 1) for x, _ in found],
                [r.ms for _, r in found],
                width=1 / (len(runners) + 1),
                label=runner,
            )
        axis.set_xticks(
            [x + 0.5 * len(runners) / (len(runners) + 1) for x in range(len(rows))],
            [next(iter(row.results.values())).net for row in rows],
        )
        axis.set(yscale="log", ylabel="ms, lower is better", title=TITLES[what])
    axes[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
