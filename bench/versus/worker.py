"""The side of a runner: a process that answers requests, one JSON object per line, until its input ends.

    {"do": "check"}                                            -> {"losses": [...]}
    {"do": "time", "what": ..., "steps": ..., "warmup": ..., "seconds": ...} -> {"seconds": [...]}
    {"do": "epoch", "what": ..., "images": ...}                -> {"seconds": [...]}
    {"do": "memory", "steps": ...}                             -> {"megabytes": ...}

Its first line is {"version": ..., "jobs": [...]}, or {"missing": ...} when the runner cannot be made here.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

from bench.versus.nets import NETS, Batch, Net, Weights
from bench.versus.runners import RUNNERS, Runner, load

BATCHES = 4
CHECK_STEPS = 3
LEAST_STEPS = 5
WARMUP_BATCHES = 3
JOBS = ("train", "predict", "predict-one", "epoch", "epoch-loader")


class Desk:
    """Answers requests about one network by one runner."""

    def __init__(self, make: Callable[[Net, Weights, Sequence[Batch], int], Runner], net: Net, threads: int):
        self.net = net
        self.imported = peak_megabytes()
        self.runner = make(net, net.weights(), net.batches(BATCHES), threads)
        self.jobs = [what for what in JOBS if hasattr(self.runner, method(what))]

    def check(self) -> dict[str, Any]:
        """The loss of batch 0 as in a test, that of a step on it, and so on for the first few steps."""
        losses = []
        for i in range(CHECK_STEPS):
            losses += [self.runner.loss(0), self.runner.train(i % BATCHES)]
        return {"losses": [*losses, self.runner.loss(0)]}

    def time(self, what: str, steps: int, warmup: int, seconds: float) -> dict[str, Any]:
        """Seconds of each of `steps` calls after `warmup` others; fewer of both when they would take much
        longer than `seconds`."""
        call = getattr(self.runner, method(what))
        run_calls(call, warmup, least=2, seconds=seconds / 4)
        gc.collect()
        return {"seconds": run_calls(call, steps, LEAST_STEPS, seconds)}

    def epoch(self, what: str, images: int) -> dict[str, Any]:
        """Seconds of one epoch over so many images; a few batches, and one of the last's size, come before."""
        call = getattr(self.runner, method(what))
        data = self.net.raw_images(images)
        few = min(images, WARMUP_BATCHES * self.net.batch + images % self.net.batch)
        call(*(array[:few] for array in data))
        gc.collect()
        start = perf_counter()
        call(*data)
        return {"seconds": [perf_counter() - start]}

    def memory(self, steps: int) -> dict[str, Any]:
        """Peak of this process after so many steps, less what it was when the framework had been imported."""
        for i in range(steps):
            self.runner.train(i % BATCHES)
        grown = peak_megabytes() - self.imported
        return {"megabytes": max(grown, 0.0)}  # Linux counts pages by processor, and is off by some of them


def method(what: str) -> str:
    return what.replace("-", "_")


def run_calls(call: Callable[[int], Any], most: int, least: int, seconds: float) -> list[float]:
    times: list[float] = []
    while len(times) < least or (len(times) < most and sum(times) < seconds):
        start = perf_counter()
        call(len(times) % BATCHES)
        times.append(perf_counter() - start)
    return times


def peak_megabytes() -> float:
    """Largest resident set so far.

    Linux counts it for this program alone in /proc; what getrusage says there includes the process that
    started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.open() if line.startswith("VmHWM")) / 1024
    import resource

    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def serve(make_desk: Callable[[], Desk], requests: TextIO, replies: TextIO) -> None:
    """Make the desk, then answer requests."""

    def reply(**message: Any) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        desk = make_desk()
    except Exception as error:  # not installed, no compiler, no such layer: the others can still be compared
        reply(missing=f"{type(error).__name__}: {error}")
        return
    reply(version=desk.runner.version, jobs=desk.jobs)
    for line in requests:
        request = json.loads(line)
        answer = {"check": desk.check, "time": desk.time, "epoch": desk.epoch, "memory": desk.memory}
        reply(**answer[request.pop("do")](**request))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runner", choices=RUNNERS)
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # so many CPUs and no more, whatever a framework's own settings are
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print goes to the log, not between the replies
    serve(lambda: Desk(load(args.runner), NETS[args.net], args.threads), sys.stdin, replies)


if __name__ == "__main__":
    main()
