"""Pictures, with matplotlib (`pip install fastcnn[plot]`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn.summaries import tensor_names
from fastcnn.utils import flag

# Inches: of a character, around a text, of a line, between boxes beside each other, from level to level.
CHARACTER, MARGIN, LINE, GAP, LEVEL = 0.083, 0.16, 0.17, 0.3, 0.34
SWEEPS = 12


@dataclass(eq=False)
class Box:
    """A layer's place in the picture; without text, a bend of an arrow that passes a level."""

    level: int
    lines: list[str] = field(default_factory=list)
    kind: str = "layer"
    x: float = 0.0
    above: list[Box] = field(default_factory=list)
    below: list[Box] = field(default_factory=list)

    @property
    def width(self) -> float:
        return CHARACTER * max(map(len, self.lines), default=0) + (2 * MARGIN if self.lines else 0)

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + MARGIN


def graph(model: Any, path: Any = None, show_shapes: bool = True):
    """Draw a model's graph: a box for each call of a layer, inputs on top, arrows along the data.

    Parameters
    ----------
    model : a model with shapes.
    path : where to save the picture; the suffix says how (png, pdf, svg).
    show_shapes : whether boxes tell the shapes of outputs.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        For a model without shapes.
    """
    show_shapes = flag(show_shapes, "show_shapes", "plot.graph")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("fastcnn.plot needs matplotlib: pip install matplotlib") from None
    levels = arrange(boxes_of(model, show_shapes))
    ys = heights(levels)
    left = min(box.x - box.width / 2 for level in levels for box in level) - GAP
    right = max(box.x + box.width / 2 for level in levels for box in level) + GAP
    figure = Figure((right - left, ys[0] - ys[-1] + 4 * LEVEL))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(ys[-1] - 2 * LEVEL, ys[0] + 2 * LEVEL))
    axes.axis("off")
    for level, y in zip(levels, ys, strict=True):
        for box in level:
            draw(axes, box, y, ys)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def boxes_of(model: Any, show_shapes: bool) -> list[Box]:
    """A box for each input and node, one level below the lowest of its sources, and bends on the levels between."""
    names, boxes = tensor_names(model), {}
    for tensor in model.graph.inputs:
        boxes[tensor] = Box(0, [names[tensor], str(tensor.shape)][: 1 + show_shapes], "input")
    for node in model.graph.nodes:
        output, sources = node.outputs[0], list(dict.fromkeys(node.inputs))
        lines = [f"{names[output]} ({type(node.layer).__name__})", str(output.shape)][: 1 + show_shapes]
        level = 1 + max(boxes[tensor].level for tensor in sources)
        boxes[output] = Box(level, lines, "output" if output in model.graph.outputs else "layer")
        for tensor in sources:
            connect(boxes[tensor], boxes[output])
    every = list(boxes.values())
    return every + list(dict.fromkeys(bend for box in every for bend in bends_below(box)))


def connect(source: Box, target: Box) -> None:
    """An arrow, by way of a bend on each level that it passes; arrows from one box share their bends."""
    while source.level + 1 < target.level:
        bend = next((box for box in source.below if not box.lines), None)
        if bend is None:
            bend = Box(source.level + 1, above=[source])
            source.below.append(bend)
        source = bend
    source.below.append(target)
    target.above.append(source)


def bends_below(box: Box) -> list[Box]:
    """The chain of bends that starts at a box."""
    bends: list[Box] = []
    below = [b for b in box.below if not b.lines]
    while below:
        bends += below
        below = [b for b in below[0].below if not b.lines]
    return bends


def arrange(boxes: Sequence[Box]) -> list[list[Box]]:
    """The boxes by level, from left to right, with few crossings, each near those it is connected to.

    The barycentre method of Sugiyama, Tagawa & Toda (1981): levels are sorted by the mean place of the neighbours
    above, then of those below, and again.
    """
    levels: list[list[Box]] = [[] for _ in range(1 + max(box.level for box in boxes))]
    for box in boxes:
        levels[box.level].append(box)
    for level in levels:
        spread(level, [0.0] * len(level))
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for level in levels if down else levels[::-1]:
            wanted = {box: mean_place(box.above if down else box.below, box.x) for box in level}
            level.sort(key=wanted.__getitem__)
            spread(level, [wanted[box] for box in level])
    for _ in range(SWEEPS):
        for level in levels:
            spread(level, [mean_place([*box.above, *box.below], box.x) for box in level])
    return levels


def mean_place(neighbours: Sequence[Box], otherwise: float) -> float:
    return float(np.mean([box.x for box in neighbours])) if neighbours else otherwise


def spread(level: Sequence[Box], wanted: Sequence[float]) -> None:
    """Place the boxes of a level in order, without overlap, as near to the wanted places as can be.

    Least squares by pooling adjacent violators: boxes that would overlap form a block, which moves as one.
    """
    offsets = [0.0]
    for box, following in zip(level, level[1:], strict=False):
        offsets.append(offsets[-1] + (box.width + following.width) / 2 + GAP)
    blocks: list[list[float]] = []  # (sum of wanted places less offsets, number of boxes)
    for place, offset in zip(wanted, offsets, strict=False):
        blocks.append([place - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    starts = [total / count for total, count in blocks for _ in range(int(count))]
    for box, start, offset in zip(level, starts, offsets, strict=False):
        box.x = start + offset


def heights(levels: Sequence[Sequence[Box]]) -> list[float]:
    """The y of each level, downwards, with more room where arrows run far to the side."""
    ys = [0.0]
    for level, following in zip(levels, levels[1:], strict=False):
        reach = max((abs(box.x - source.x) for box in following for source in box.above), default=0.0)
        room = LEVEL * (1 + min(1.0, reach / 6))
        ys.append(ys[-1] - room - (max(b.height for b in level) + max(b.height for b in following)) / 2)
    return ys


COLOURS = {"input": "#dce9f7", "output": "#fbe3cf", "layer": "#f4f4f2"}


def draw(axes: Any, box: Box, y: float, ys: Sequence[float]) -> None:
    """A box with its text, and the arrows that end in it."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    if not box.lines:
        return
    axes.add_patch(FancyBboxPatch((box.x - box.width / 2, y - box.height / 2), box.width, box.height, linewidth=0.8,
                                  boxstyle="round,pad=0,rounding_size=0.06", facecolor=COLOURS[box.kind],
                                  edgecolor="#555555", zorder=2))
    for i, line in enumerate(box.lines):
        axes.text(box.x, y + LINE * ((len(box.lines) - 1) / 2 - i), line, ha="center", va="center", fontsize=8.5,
                  color="#222222" if i == 0 else "#666666", zorder=3)
    for source in box.above:
        axes.add_patch(FancyArrowPatch(path=route(source, box, ys), arrowstyle="-|>", mutation_scale=9, linewidth=0.9,
                                       color="#666666", zorder=1))


def route(source: Box, target: Box, ys: Sequence[float]):
    """The line from a box, through bends, to the next: curves between levels, straight past the boxes of one."""
    from matplotlib.path import Path

    boxes = [target, source]
    while not boxes[-1].lines:
        boxes.append(boxes[-1].above[0])
    boxes.reverse()
    points = [(boxes[0].x, ys[boxes[0].level] - boxes[0].height / 2)]
    codes = [Path.MOVETO]
    for box in boxes[1:]:
        (x, y), top = points[-1], ys[box.level] + box.height / 2
        points += [(x, (y + top) / 2), (box.x, (y + top) / 2), (box.x, top)]
        codes += [Path.CURVE4] * 3
        if not box.lines:
            points.append((box.x, ys[box.level] - box.height / 2))
            codes.append(Path.LINETO)
    return Path(points, codes)
