"""The roofline picture of a profile: each pass of each layer between the machine's two limits.

Source: Williams, Waterman & Patterson, "Roofline: an insightful visual performance model for multicore
architectures", 2009.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcnn.profiling import Profile, Row

COLOURS = {"forward": "#4c78a8", "weight gradient": "#b3201f", "input gradient": "#d99a1c", "gradients": "#7a4fa3"}
SMALLEST, LARGEST = 30.0, 500.0  # areas of the points, in points squared
CLOSE = 0.035  # as a part of the picture: labels nearer than this are moved apart


def draw(profile: Profile, path) -> None:
    """Write the picture to `path`, in the format of its ending.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If no pass of the model has operations that count.
    """
    rows = [row for row in profile.rows if row.gflops]
    if not rows:
        raise ValueError(f"{profile.model}.profile: no layer with weights, so there is nothing to plot")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Profile.plot needs matplotlib: pip install 'fastcnn[plot]'") from error
    figure = Figure(figsize=(11, max(5.0, 1.6 + 0.21 * len(rows))), layout="constrained")
    axis, key = figure.subplots(1, 2, width_ratios=(3, 2))
    draw_limits(axis, profile, rows)
    draw_points(axis, rows)
    write_key(key, rows)
    work = "training step" if profile.training else "prediction"
    figure.suptitle(f"{profile.model}: {work}, batch {profile.batch_size}, {profile.threads} threads, {profile.isa}, "
                    f"{profile.total.ms:.2f} ms")
    figure.savefig(path, dpi=130)


def intensity(row: Row) -> float:
    """Operations per byte."""
    return row.flops / row.bytes


def draw_limits(axis: Any, profile: Profile, rows: list[Row]) -> None:
    """min(peak, bandwidth * intensity), and where the two meet."""
    ridge = profile.peak / profile.bandwidth
    left = min(ridge, *map(intensity, rows)) / 3
    right = max(ridge, *map(intensity, rows)) * 3
    axis.plot([left, ridge, right], [left * profile.bandwidth, profile.peak, profile.peak], color="0.3", lw=1.5)
    axis.set(xscale="log", yscale="log", xlim=(left, right),
             ylim=(min(row.gflops for row in rows) / 2, 2 * max(profile.peak, *(row.gflops for row in rows))),
             xlabel="useful operations per byte of activations, gradients and weights", ylabel="GFLOP/s")
    axis.annotate(f"multiply-add peak {profile.peak:.0f} GFLOP/s", (right, profile.peak), (-4, 4),
                  textcoords="offset points", ha="right", fontsize=8, color="0.3")
    axis.annotate(f"slope: copying {profile.bandwidth:.1f} GB/s\n(above it: data from caches)", (0.02, 0.98),
                  xycoords="axes fraction", fontsize=8, color="0.3", va="top")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
        side.set_minor_formatter("")
    axis.grid(which="major", color="0.9")
    axis.spines[["top", "right"]].set_visible(False)


def draw_points(axis: Any, rows: list[Row]) -> None:
    """A disc per row, its area the time, and the row's number in the key beside it."""
    most = max(row.ms for row in rows)
    for row in rows:
        axis.scatter(intensity(row), row.gflops, max(SMALLEST, LARGEST * row.ms / most), COLOURS[row.pass_],
                     alpha=0.75, edgecolors="white", linewidths=0.5, zorder=3)
    for number, (x, y) in enumerate(apart(axis, rows), 1):
        row = rows[number - 1]
        axis.annotate(str(number), (intensity(row), row.gflops), (x, y), textcoords="axes fraction", fontsize=8,
                      ha="center", va="center", zorder=4,
                      arrowprops={"arrowstyle": "-", "color": "0.5", "lw": 0.5, "shrinkA": 4, "shrinkB": 0})


def apart(axis: Any, rows: list[Row]) -> list[tuple[float, float]]:
    """Where labels go, in parts of the axes: right of their points, those that would meet further down."""
    to_axes = axis.transData + axis.transAxes.inverted()
    places: list[tuple[float, float]] = []
    for row in rows:
        x, y = to_axes.transform((intensity(row), row.gflops))
        x, y = min(x + CLOSE, 0.98), min(y + CLOSE / 2, 0.97)
        while any(abs(x - a) < CLOSE and abs(y - b) < CLOSE for a, b in places):
            y -= CLOSE / 4
        places.append((x, y))
    return places


def write_key(axis: Any, rows: list[Row]) -> None:
    """Number, layer, pass, time and share of the peak of each row."""
    axis.axis("off")
    cells = [(str(i), row.layer, row.pass_, f"{row.ms:.2f}", f"{row.peak_share:.0%}")
             for i, row in enumerate(rows, 1)]
    table = axis.table(cells, colLabels=("", "layer", "pass", "ms", "of peak"), edges="open", loc="upper left",
                       colWidths=(0.08, 0.36, 0.3, 0.13, 0.13), cellLoc="left", colLoc="left")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (line, column), cell in table.get_celld().items():
        cell.PAD = 0.02
        if line and column in (0, 2):
            cell.get_text().set_color(COLOURS[rows[line - 1].pass_])
        if column > 2:
            cell.get_text().set_ha("right")
