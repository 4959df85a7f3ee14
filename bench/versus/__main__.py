"""fastcnn beside other frameworks: same networks, weights, data, optimiser and threads.

Each framework runs in a process of its own and waits while another one works. They take turns, round after
round, so that a disturbance of the machine falls on all. Before anything is timed, all must compute the same
losses.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any

from bench.versus import report
from bench.versus.client import Missing, Worker, WorkerError, start
from bench.versus.nets import MNIST, NETS, Net
from bench.versus.report import KINDS, Result
from bench.versus.runners import RUNNERS, is_own

PEERS = [name for name in RUNNERS if not is_own(name)]
# The loss as in a test and that of the first step, before any training. A step of Adam moves a weight by its
# gradient's sign at first, so rounding shows more in the losses after it.
UNTRAINED, FIRST_LOSS, LATER_LOSSES = 2, 1e-4, 5e-2
BUSY = 0.25  # running processes per CPU that are too many
SETTLE_SECONDS = 0.2  # threads of the last worker may spin for a while before they sleep
MEMORY_STEPS = 3


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.versus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    add("--what", nargs="+", choices=KINDS, default=["train"], metavar="WHAT", help=", ".join(KINDS))
    own = [name for name in RUNNERS if is_own(name)]
    add(
        "--own",
        nargs="*",
        choices=own,
        default=own[:1],
        help="fastcnn as it is, and with direct convolution only; none to compare the peers",
    )
    add("--policy", help="run fastcnn with FASTCNN_ALGORITHM_POLICY set to this, such as direct")
    add("--peers", nargs="*", choices=PEERS, default=PEERS, metavar="PEER", help=", ".join(PEERS))
    add("--peer-python", default=sys.executable, help="the Python that has the peers")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=2)
    add("--steps", type=int, default=50, help="timed per round (default 50)")
    add("--warmup", type=int, default=10, help="steps before them")
    add("--seconds", type=float, default=10.0, help="per round, where fewer steps must do")
    add("--images", type=int, default=60_000, help="of an epoch (default 60000, as many as MNIST has)")
    add("--out", help="results as JSON; the tables go beside it as .md")
    add("--plot", help="bars as an image (needs matplotlib)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    load = os.getloadavg()[0]
    if load > BUSY * (os.cpu_count() or 1):
        say(f"other programs are running (load {load:.1f}): times will be long, and not fair")
    probe = peak_probe(args.threads)
    results: list[Result] = []
    notes: list[str] = []
    versions: list[str] = []
    for name in args.nets:
        try:
            results += compare_on(NETS[name], args, probe, versions, notes)
        except WorkerError as error:
            say(str(error))
            notes.append(f"{name} was given up: {str(error).splitlines()[0]}")
        machine = report.describe_machine(args.threads, versions, load, args.policy)
        text = save(results, machine, notes, args)  # after each: a later one may end the run
    print(text)


def compare_on(
    net: Net,
    args: argparse.Namespace,
    probe: Callable[[], float] | None,
    versions: list[str],
    notes: list[str],
) -> list[Result]:
    """All measurements on one network."""
    workers = start_all(args, net.name, notes)
    try:
        agree(net.name, {runner: worker.ask("check")["losses"] for runner, worker in workers.items()})
        versions += [worker.version for worker in workers.values()]
        results = compare(net, workers, args, probe)
    finally:
        for worker in workers.values():
            worker.close()
    if "memory" in args.what:
        results += [compare_memory(net, runner, args) for runner in workers]
    return results


def start_all(args: argparse.Namespace, net: str, notes: list[str]) -> dict[str, Worker]:
    """A worker for each runner that can be made."""
    workers = {}
    for runner in [*args.own, *args.peers]:
        say(f"{net}: starting {runner}")
        try:
            workers[runner] = start_one(runner, net, args)
        except Missing as missing:
            say(f"{runner} is left out: {missing}")
            notes.append(f"{runner} is left out of {net}: {str(missing).splitlines()[0]}")
    return workers


def start_one(runner: str, net: str, args: argparse.Namespace) -> Worker:
    own = is_own(runner)
    variables = {"FASTCNN_ALGORITHM_POLICY": args.policy} if own and args.policy else {}
    return start(runner, net, args.threads, sys.executable if own else args.peer_python, variables)


def agree(net: str, losses: Mapping[str, Sequence[float]]) -> None:
    """SystemExit unless all runners compute the same losses, before training and in its first steps."""
    for place, values in enumerate(zip(*losses.values(), strict=True)):
        middle = median(values)
        tolerance = FIRST_LOSS if place < UNTRAINED else LATER_LOSSES
        if not all(abs(value - middle) <= tolerance * abs(middle) for value in values):
            table = "\n".join(f"  {runner}: {values}" for runner, values in losses.items())
            steps = place // 2
            raise SystemExit(
                f"{net}: after {steps} steps the losses differ by more than {tolerance:g}:\n{table}"
            )


def peak_probe(threads: int) -> Callable[[], float] | None:
    """Measures the multiply-add peak with fastcnn's engine; None where that is not built."""
    try:
        from fastcnn.kernels import _cpu
        from fastcnn.kernels.probe import FmaProbe
    except ImportError:
        say("fastcnn is not built here: no shares of the peak")
        return None
    _cpu.set_num_threads(threads)
    probe = FmaProbe()
    return lambda: max(probe() for _ in range(10))


def compare(
    net: Net, workers: Mapping[str, Worker], args: argparse.Namespace, probe: Callable[[], float] | None
) -> list[Result]:
    """Let the workers take turns."""
    work = {  # samples, floating-point operations of one
        "train": (net.batch, net.train_flops()),
        "predict": (net.batch, net.predict_flops()),
        "predict-one": (1, net.predict_flops()),
    }
    if net.input_shape == MNIST:
        work |= dict.fromkeys(("epoch", "epoch-loader"), (args.images, net.train_flops()))
    results = {
        (what, name): Result(what, net.name, work[what][0], name, work[what][0] * work[what][1])
        for what in args.what
        for name, worker in workers.items()
        if what in work and what in worker.jobs
    }
    for turn in range(args.rounds):
        for (what, name), result in results.items():
            sleep(SETTLE_SECONDS)
            if probe:
                result.peaks.append(probe())
            result.rounds.append(median(ask_for_times(workers[name], what, args)) * KINDS[what].per_second)
            say(
                f"{net.name} {what} round {turn + 1}: {name} {result.rounds[-1]:.4g} {KINDS[what].unit}"
            )
    return list(results.values())


def ask_for_times(worker: Worker, what: str, args: argparse.Namespace) -> list[float]:
    if what.startswith("epoch"):
        return worker.ask("epoch", what=what, images=args.images)["seconds"]
    settings = {"steps": args.steps, "warmup": args.warmup, "seconds": args.seconds}
    return worker.ask("time", what=what, **settings)["seconds"]


def compare_memory(net: Net, runner: str, args: argparse.Namespace) -> Result:
    """Measured in a process that has done nothing else."""
    worker = start_one(runner, net.name, args)
    try:
        megabytes = worker.ask("memory", steps=MEMORY_STEPS)["megabytes"]
    finally:
        worker.close()
    say(f"{net.name} memory: {runner} {megabytes:.1f} MB")
    return Result("memory", net.name, net.batch, runner, rounds=[megabytes])


def save(
    results: Sequence[Result], machine: dict[str, Any], notes: Sequence[str], args: argparse.Namespace
) -> str:
    """Write the files asked for; the tables."""
    text = report.markdown(results, machine, notes)
    if args.out:
        path = Path(args.out)
        data = {
            "machine": machine,
            "settings": vars(args),
            "notes": list(notes),
            "results": [result.as_dict() for result in results],
        }
        path.write_text(json.dumps(data, indent=1) + "\n")
        path.with_suffix(".md").write_text(text)
    if args.plot and results:
        report.plot(results, args.plot)
    return text


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
