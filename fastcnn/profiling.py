"""Where the time of a step goes: `model.profile(x, y)`.

What is timed is the program that trains or predicts, as it is: fused, chained through chunks of images, on all
threads. Each thread adds up the time it spends in each operation. A row's milliseconds are that sum over the
threads, divided by their number, so that rows add up to the step, less the time in which threads wait for one
another or for Python. All times are medians over the repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.kernels import _cpu
from fastcnn.kernels._op import Op
from fastcnn.kernels.probe import copy_bandwidth, fma_peak
from fastcnn.plan.buffers import Buffer
from fastcnn.plan.plan import Plan
from fastcnn.plan.stages import Step
from fastcnn.utils import whole_number

if TYPE_CHECKING:
    from fastcnn.layers.base import Layer
    from fastcnn.models import Model

# The passes of a layer that read or write its weights, and how often each does its multiply-adds: 'gradients' are both
# in one pass. Other work of a layer with weights, such as an activation that is not part of the product, is 'other'.
PRODUCTS = {"forward": 1, "weight gradient": 1, "input gradient": 1, "gradients": 2}
PASSES = (*PRODUCTS, "backward", "recompute")
REST = "waiting"
WARMUP_RUNS = 3


@dataclass(frozen=True)
class Row:
    """One pass of one layer.

    ms : time on all threads together, as a part of the step.
    share : of the step's time.
    flops : useful operations, two per multiply-add, however they are computed; 0 where none count.
    bytes : activations, gradients and weights that are read and written, each once.
    algorithm : of a convolution, else the family of kernels; '+adam' or the like where the weights are updated, too.
    gflops, peak_share : speed, and its share of the multiply-add peak; None without operations that count.
    """

    layer: str
    pass_: str
    algorithm: str
    ms: float
    share: float
    flops: int
    bytes: int
    gflops: float | None
    peak_share: float | None


@dataclass(frozen=True)
class Profile:
    """What `model.profile` found; print it for a table.

    rows : list of `Row` in the order of execution; the last is the time that threads wait or run Python.
    total : the `Row` of the whole step.
    peak, bandwidth : GFLOP/s and GB/s (read plus written) that the machine reached just before.
    unlisted : layers without a row: computed together with the layer before, or only another view of its result.
    """

    model: str
    training: bool
    batch_size: int
    threads: int
    isa: str
    peak: float
    bandwidth: float
    rows: list[Row]
    total: Row
    unlisted: list[str]

    def __str__(self) -> str:
        work = "training step" if self.training else "prediction"
        head = [f"{self.model}: {work}, batch {self.batch_size}, {self.threads} thread{'s' * (self.threads > 1)}, "
                f"{self.isa}",
                f"Multiply-add peak {self.peak:.0f} GFLOP/s, copying {self.bandwidth:.1f} GB/s", ""]
        foot = [f"In the row of the layer before: {', '.join(self.unlisted)}"] if self.unlisted else []
        return "\n".join([*head, *_table(self.rows, self.total), *foot])

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    def plot(self, path) -> None:
        """Draw the rows under the machine's roofline, as an image file; needs matplotlib."""
        from fastcnn.roofline import draw

        draw(self, path)


def profile(model: Model, x, y=None, batch_size: int | None = None, repeats: int = 20) -> Profile:
    """Time each pass of each layer of `model`.

    Parameters
    ----------
    x, y : a batch; with y (and a compiled model) training steps are timed, else predictions. Of more samples than
        `batch_size` the first are used.
    batch_size : all samples by default.
    repeats : steps that are timed.

    Raises
    ------
    ValueError, TypeError
        As `fit` and `predict` do, for data that does not fit the model, and for an empty batch.
    """
    where = f"{model.name}.profile"
    repeats = whole_number(repeats, "repeats", where)
    xs, ys = (model._prepare_inputs(x, where), None) if y is None else model._batch(x, y, where)
    n = len(xs[0]) if batch_size is None else min(len(xs[0]), whole_number(batch_size, "batch_size", where))
    if n == 0:
        raise ValueError(f"{where}: the batch holds no samples")
    threads = _cpu.get_num_threads()
    limits = fma_peak(threads, bursts=30), copy_bandwidth(threads, megabytes=64)
    with model._lock, _unchanged(model):
        plan = model._plan("predict" if y is None else "train", n)
        model._point(plan, xs)
        if y is not None:
            model._give_targets(plan, ys, slice(0, n), None)
        seconds, times = _measure(plan, repeats)
    rows, total = _rows(model, plan, seconds, times, limits[0])
    listed = {row.layer for row in rows}
    unlisted = [layer.name for layer in model.layers if layer.name not in listed]
    return Profile(model.name, y is not None, n, threads, _cpu.isa(), *limits, rows, total, unlisted)


@contextmanager
def _unchanged(model: Model) -> Iterator[None]:
    """Whatever steps are run inside, the model learns nothing from them."""
    store, optimizer = model._own_store(), model.optimizer
    if optimizer is not None:
        model._fill_slots()
    arrays = [store.values, *store.slots.values(), model._dropout_counter]
    before, iterations = [array.copy() for array in arrays], optimizer and optimizer.iterations
    try:
        yield
    finally:
        for array, values in zip(arrays, before, strict=True):
            array[...] = values
        if optimizer is not None:
            optimizer.iterations = iterations


# ------------------------------------------------------------------------------------------ measuring


def _measure(plan: Plan, repeats: int) -> tuple[float, dict[Any, float]]:
    """Median seconds of a run, and of each op and Python call of the plan."""
    program = plan.program
    threads = program.threads
    runs: list[list[float]] = []
    with _timed_calls(plan) as calls:
        program.times = np.zeros((threads, program.n_ops), np.int64)
        try:
            for _ in range(WARMUP_RUNS + repeats):
                program.times[...] = 0
                calls.update(dict.fromkeys(calls, 0))
                start = perf_counter_ns()
                plan.run()
                runs.append([perf_counter_ns() - start, *program.times.sum(axis=0) / threads, *calls.values()])
        finally:
            program.times = None
    total, *times = np.median(runs[WARMUP_RUNS:], axis=0) / 1e9
    ops = [op for stage in program.stages for op in stage.ops]
    return total, dict(zip([*ops, *calls], times, strict=True))


@contextmanager
def _timed_calls(plan: Plan) -> Iterator[dict[Any, int]]:
    """Nanoseconds of the plan's Python calls, filled in as they are made."""
    before = plan.calls
    times = {call: 0 for call in before if callable(call)}

    def timed(call) -> None:
        start = perf_counter_ns()
        call()
        times[call] += perf_counter_ns() - start

    plan.calls = [partial(timed, call) if callable(call) else call for call in before]
    try:
        yield times
    finally:
        plan.calls = before


# ------------------------------------------------------------------------------------------ rows


class _Tally:
    """What the ops of one row add up to."""

    def __init__(self, layer: Layer | None):
        self.layer = layer
        self.seconds = 0.0
        self.buffers: set[Buffer] = set()
        self.algorithms: dict[str, None] = {}  # a set that keeps its order

    def add(self, what: Any, step: Step | None, seconds: float) -> None:
        self.seconds += seconds
        self.algorithms[_algorithm(what)] = None
        if step is not None:
            self.buffers |= {buffer.root for buffer in step.buffers}


def _rows(model: Model, plan: Plan, seconds: float, times: dict[Any, float], peak: float) -> tuple[list[Row], Row]:
    """One row per layer and pass, one for the rest, and the total."""
    steps: dict[Any, Step] = {**plan.builder.origins,
                              **{step.python: step for step in plan.builder.steps if step.python}}
    tallies: dict[tuple[str, str], _Tally] = {}
    for what, time in times.items():
        step = steps.get(what)
        key = _key(what, step)
        tallies.setdefault(key, _Tally(step.layer if step else None)).add(what, step, time)
    work = _flops(model, plan.n)

    def row(layer: str, pass_: str, algorithm: str, time: float, flops: int, moved: int) -> Row:
        gflops = flops / max(time, 1e-9) / 1e9 if flops else None
        return Row(layer, pass_, algorithm, 1e3 * time, time / seconds, flops, moved, gflops,
                   gflops and gflops / peak)

    rows = [row(name, pass_, "+".join(tally.algorithms), tally.seconds,
                work.get(tally.layer, 0) * PRODUCTS.get(pass_, 0), _bytes(tally, pass_, plan.n))
            for (name, pass_), tally in tallies.items()]
    rows.append(row(REST, "", "", max(0.0, seconds - sum(times.values())), 0, 0))
    total = row("total", "", "", seconds, sum(r.flops for r in rows), sum(r.bytes for r in rows))
    return rows, total


def _key(what: Any, step: Step | None) -> tuple[str, str]:
    """(layer, pass) of an op; what belongs to no layer, such as the loss, goes by its own name."""
    if step is None:
        return getattr(what, "name", "") or getattr(what, "__name__", "python").strip("_"), "other"
    if step.layer is None:
        return step.name, "other"
    name = "recompute" if step.recomputes else step.name.removeprefix(step.layer.name).strip()
    beside = bool(step.layer.variables) and _algorithm(what) == "eltwise"
    return step.layer.name, name if name in PASSES and not beside else "other"


def _algorithm(what: Any) -> str:
    """That of a convolution, or the family: the module of the op."""
    if not isinstance(what, Op):
        return "numpy"
    family = type(what).__module__.rpartition("._")[2]  # of the modules of Winograd's convolution, the first word
    return getattr(what, "algorithm", None) or ("winograd" if family.startswith("winograd") else family)


def _flops(model: Model, n: int) -> dict[Layer, int]:
    """Operations of the forward pass of each layer with weights, in all places where it is called."""
    work: dict[Layer, int] = {}
    for node in model.graph.nodes:
        if node.layer.variables:
            work[node.layer] = work.get(node.layer, 0) + n * node.layer.flops(node.outputs[0].shape)
    return work


def _bytes(tally: _Tally, pass_: str, n: int) -> int:
    weights = tally.layer.variables if tally.layer is not None and pass_ in PRODUCTS else ()
    return sum(4 * n * prod(buffer.hwc) for buffer in tally.buffers) + sum(v.value.nbytes for v in weights)


def _table(rows: Sequence[Row], total: Row) -> list[str]:
    """Aligned columns; names to the left, numbers to the right."""
    cells = [("layer", "pass", "algorithm", "ms", "share", "GFLOP/s", "of peak", "MB", "GB/s")]
    for row in [*rows, total]:
        rate = row.bytes / row.ms / 1e6 if row.bytes and row.ms else 0
        cells.append((row.layer, row.pass_, row.algorithm, f"{row.ms:.3f}", f"{row.share:.1%}",
                      f"{row.gflops:.1f}" if row.gflops else "-", f"{row.peak_share:.0%}" if row.gflops else "-",
                      f"{row.bytes / 1e6:.2f}" if row.bytes else "-", f"{rate:.1f}" if rate else "-"))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(f"{cell:<{width}}" if i < 3 else f"{cell:>{width}}"
                       for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip() for line in cells]
    rule = "-" * max(map(len, lines))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]
