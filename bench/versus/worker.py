"""The side of a runner: a process that answers requests, one JSON object per line, until its input ends.

    {"do": "check"}                                            -> {"losses": [...]}
    {"do": "time", "what": ..., "steps": ..., "warmup": ..., "seconds": ...} -> {"seconds": [...]}

Its first line is {"version": ...}, or {"missing": ...} when the framework is not installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, TextIO

from bench.versus.nets import NETS
from bench.versus.runners import RUNNERS, Runner, make

BATCHES = 4
CHECK_STEPS = 3
LEAST_STEPS = 5


def serve(make_runner: Callable[[], Runner], requests: TextIO, replies: TextIO) -> None:
    """Make the runner, then answer requests."""

    def reply(**message: Any) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        runner = make_runner()
    except ImportError as error:
        reply(missing=str(error))
        return
    reply(version=runner.version)
    for line in requests:
        request = json.loads(line)
        reply(**ANSWERS[request.pop("do")](runner, **request))


def check(runner: Runner) -> dict[str, list[float]]:
    """The loss of the first batch, before training and after each of the first steps."""
    losses = [runner.loss(0)]
    for i in range(CHECK_STEPS):
        runner.train(i % BATCHES)
        losses.append(runner.loss(0))
    return {"losses": losses}


def measure(runner: Runner, what: str, steps: int, warmup: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of each of `steps` calls after `warmup` others; fewer of both when they would take much longer
    than `seconds`."""
    call = getattr(runner, what.replace("-", "_"))
    run_calls(call, warmup, least=2, seconds=seconds / 4)
    gc.collect()
    return {"seconds": run_calls(call, steps, LEAST_STEPS, seconds)}


def run_calls(call: Callable[[int], None], most: int, least: int, seconds: float) -> list[float]:
    times: list[float] = []
    while len(times) < least or (len(times) < most and sum(times) < seconds):
        start = perf_counter()
        call(len(times) % BATCHES)
        times.append(perf_counter() - start)
    return times


ANSWERS: dict[str, Callable[..., dict[str, list[float]]]] = {"check": check, "time": measure}


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
    net = NETS[args.net]
    serve(
        lambda: make(args.runner, net, net.weights(), net.batches(BATCHES), args.threads), sys.stdin, replies
    )


if __name__ == "__main__":
    main()
