"""Tables, JSON and bars of a comparison."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from bench.rows import STEADY
from bench.versus.runners import is_own

OWN_COLOUR, PEER_COLOUR = "#b3201f", "#8fa3b8"
COLUMNS = 5  # of panels
CUT = 5  # bars end at so many times the shortest


@dataclass(frozen=True)
class Kind:
    """A kind of measurement: its heading, its unit, and for times how many of that make a second."""

    title: str
    unit: str
    per_second: float = 0.0


KINDS = {
    "train": Kind("Training step", "ms", 1e3),
    "predict": Kind("Prediction of a batch", "ms", 1e3),
    "predict-one": Kind("Prediction of one sample", "ms", 1e3),
    "epoch": Kind("Epoch from uint8 images, batches taken from arrays", "s", 1),
    "epoch-loader": Kind("Epoch from uint8 images, through each framework's data loader", "s", 1),
    "memory": Kind("Peak memory of a training step, less that of the import", "MB"),
}


@dataclass
class Result:
    """What one runner did with one net: a median per round, and the peak measured before each."""

    what: str
    net: str
    batch: int
    runner: str
    flops: float = 0.0
    rounds: list[float] = field(default_factory=list)  # in the unit of its kind
    peaks: list[float] = field(default_factory=list)  # GFLOP/s

    @property
    def kind(self) -> Kind:
        return KINDS[self.what]

    @property
    def median(self) -> float:
        return median(self.rounds)

    def share(self, peak: float) -> float | None:
        """Of the multiply-add peak; useful operations count, however they are computed."""
        if not self.kind.per_second:
            return None
        return self.flops * self.kind.per_second / self.median / 1e9 / peak

    def as_dict(self) -> dict[str, Any]:
        spread = {"unit": self.kind.unit, "median": self.median, "min": min(self.rounds), "max": max(self.rounds)}
        return {**asdict(self), **spread}


@dataclass(frozen=True)
class Line:
    """One net in a table: its results by runner."""

    results: dict[str, Result]

    @property
    def heading(self) -> str:
        result = next(iter(self.results.values()))
        return f"{result.net} ({result.batch:,})"

    @property
    def own(self) -> Result | None:
        return next((r for name, r in self.results.items() if is_own(name)), None)

    @property
    def best_peer(self) -> Result | None:
        return min(
            (r for name, r in self.results.items() if not is_own(name)), key=lambda r: r.median, default=None
        )

    @property
    def ratio(self) -> float | None:
        """What the best peer takes by what we take: above 1 we are better."""
        return self.best_peer.median / self.own.median if self.own and self.best_peer else None


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
    head = ["net (batch)", *runners, "best peer", "ratio", "of peak"]
    rows = [head, ["---", *["---:"] * (len(runners)), "---", "---:", "---:"]]
    for line in lines(results):
        shown = line.own or line.best_peer
        share = shown.share(peak) if shown and peak else None
        rows.append(
            [
                line.heading,
                *(spread(line.results.get(name)) for name in runners),
                line.best_peer.runner if line.best_peer else "-",
                "-" if line.ratio is None else f"{line.ratio:.2f}x",
                "-" if share is None else f"{share:.0%}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def spread(result: Result | None) -> str:
    """Median over the rounds, and their least and most."""
    if result is None:
        return "-"
    middle, least, most = map(number, (result.median, min(result.rounds), max(result.rounds)))
    return middle if len(result.rounds) == 1 else f"{middle} ({least} to {most})"


def number(value: float) -> str:
    """Three digits, more for large values."""
    digits = 2 - int(math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{max(0, digits)}f}"


def markdown(results: Sequence[Result], machine: dict[str, Any], notes: Sequence[str] = ()) -> str:
    """All tables, with what is needed to read them."""
    peak = quiet_peak(results)
    text = [
        ", ".join(f"{key}: {value}" for key, value in machine.items()),
        "",
        "The median over the rounds of each round's median, and the spread of these; less is better. Ratio: what "
        "the best peer takes by what fastcnn takes. " + about_peak(results, peak),
    ]
    slower = []
    for what, part in by_kind(results).items():
        text += ["", f"**{KINDS[what].title}**, {KINDS[what].unit}", "", table(part, peak)]
        slower += [f"{line.own.net} ({what})" for line in lines(part) if line.own and (line.ratio or 1) < 1]
    if slower:
        text += ["", f"Worse than the best peer: {', '.join(slower)}."]
    if notes:
        text += ["", *(f"- {note}" for note in notes)]
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


def describe_machine(
    threads: int, versions: Sequence[str], load: float, policy: str | None = None
) -> dict[str, Any]:
    """What ran this; `load` is how many processes were running before it."""
    machine = {
        "date": date.today().isoformat(),
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "load before": round(load, 2),
        "threads": threads,
        "python": platform.python_version(),
        "versions": "; ".join(dict.fromkeys(versions)),
    }
    return {**machine, "fastcnn's algorithm policy": policy} if policy else machine


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
    """For each kind of work a panel of bars per net; needs matplotlib."""
    from matplotlib.figure import Figure

    kinds = by_kind(results)
    runners = list(dict.fromkeys(result.runner for result in results))
    columns = min(COLUMNS, max(len(lines(part)) for part in kinds.values()))
    heights = [-(-len(lines(part)) // columns) for part in kinds.values()]
    inches = 0.6 + 0.19 * len(runners)
    figure = Figure(
        figsize=(1.4 + 2.2 * columns, 0.4 * len(kinds) + inches * sum(heights)), layout="constrained"
    )
    blocks = figure.subfigures(len(kinds), height_ratios=heights, squeeze=False)[:, 0]
    for block, rows, (what, part) in zip(blocks, heights, kinds.items(), strict=True):
        block.suptitle(f"{KINDS[what].title}, {KINDS[what].unit} (less is better)", fontsize="medium")
        axes = block.subplots(rows, columns, squeeze=False, sharey=True)
        for axis in axes.flat[len(lines(part)) :]:
            axis.axis("off")
        for axis, line in zip(axes.flat, lines(part), strict=False):
            draw_bars(axis, line, runners)
    figure.savefig(path, dpi=130)


def draw_bars(axis: Any, line: Line, runners: Sequence[str]) -> None:
    """A bar for each runner from zero on, our own in red; those many times the shortest are cut off."""
    end = CUT * min(result.median for result in line.results.values())
    for place, runner in enumerate(runners):
        if runner not in line.results:
            continue
        value = line.results[runner].median
        cut = value > end
        axis.barh(place, min(value, end), color=OWN_COLOUR if is_own(runner) else PEER_COLOUR, height=0.75)
        axis.text(
            min(value, end), place, f" {number(value)}{' (cut)' if cut else ''}", va="center", fontsize=7.5
        )
    axis.set(xlim=(0, 1.3 * end), ylim=(len(runners) - 0.4, -0.6), xticks=[])
    axis.set_yticks(range(len(runners)), runners, fontsize=8)
    axis.tick_params(length=0)
    axis.set_title(line.heading, fontsize=9)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
