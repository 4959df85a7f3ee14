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
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any

from bench.versus import report
from bench.versus.client import Missing, Worker, start
from bench.versus.nets import NETS, Net
from bench.versus.report import Result
from bench.versus.runners import RUNNERS, is_own

PEERS = [name for name in RUNNERS if not is_own(name)]
# A step of Adam moves a weight by its gradient's sign at first, so rounding shows more after training.
FIRST_LOSS, LATER_LOSSES = 1e-4, 1e-2
BUSY = 0.25  # running processes per CPU that are too many
SETTLE_SECONDS = 0.2  # threads of the last worker may spin for a while before they sleep


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.versus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS)
    )
    parser.add_argument(
        "--own",
        nargs="*",
        choices=[n for n in RUNNERS if is_own(n)],
        default=["fastcnn"],
        help="fastcnn as it is, and with direct convolution only; none to compare the peers",
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=PEERS, metavar="PEER", help=", ".join(PEERS)
    )
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has the peers")
    parser.add_argument("--what", nargs="+", choices=report.TITLES, default=["train"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50, help="timed per round (default 50)")
    parser.add_argument("--warmup", type=int, default=10, help="steps before them")
    parser.add_argument("--seconds", type=float, default=10.0, help="per round, where fewer steps must do")
    parser.add_argument("--out", help="results as JSON; the tables go beside it as .md")
    parser.add_argument("--plot", help="bars as an image (needs matplotlib)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    load = os.getloadavg()[0]
    if load > BUSY * (os.cpu_count() or 1):
        say(f"other programs are running (load {load:.1f}): times will be long, and not fair")
    results: list[Result] = []
    versions: list[str] = []
    for name in args.nets:
        workers = start_all(args, name)
        try:
            agree(name, {runner: worker.ask("check")["losses"] for runner, worker in workers.items()})
            versions += [worker.version for worker in workers.values()]
            results += compare(NETS[name], workers, args, peak_probe(args.threads))
        finally:
            for worker in workers.values():
                worker.close()
    save(results, report.describe_machine(args.threads, versions, load), args)


def start_all(args: argparse.Namespace, net: str) -> dict[str, Worker]:
    """A worker for each runner that is installed."""
    workers = {}
    for runner in [*args.own, *args.peers]:
        say(f"{net}: starting {runner}")
        try:
            workers[runner] = start(
                runner, net, args.threads, sys.executable if is_own(runner) else args.peer_python
            )
        except Missing as missing:
            say(f"{runner} is left out: {missing}")
    return workers


def agree(net: str, losses: dict[str, list[float]]) -> None:
    """SystemExit unless all runners compute the same losses, before training and in its first steps."""
    for step, values in enumerate(zip(*losses.values(), strict=True)):
        middle = median(values)
        tolerance = LATER_LOSSES if step else FIRST_LOSS
        if not all(abs(value - middle) <= tolerance * abs(middle) for value in values):
            table = "\n".join(f"  {runner}: {values}" for runner, values in losses.items())
            raise SystemExit(
                f"{net}: after {step} steps the losses differ by more than {tolerance:g}:\n{table}"
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
    net: Net, workers: dict[str, Worker], args: argparse.Namespace, probe: Callable[[], float] | None
) -> list[Result]:
    """Let the workers take turns."""
    flops = {
        "train": net.train_flops() * net.batch,
        "predict": net.predict_flops() * net.batch,
        "predict-one": net.predict_flops(),
    }
    results = {
        (what, name): Result(what, net.name, 1 if what == "predict-one" else net.batch, name, flops[what])
        for what in args.what
        for name in workers
    }
    for turn in range(args.rounds):
        for (what, name), result in results.items():
            sleep(SETTLE_SECONDS)
            if probe:
                result.peaks.append(probe())
            times = workers[name].ask(
                "time", what=what, steps=args.steps, warmup=args.warmup, seconds=args.seconds
            )["seconds"]
            result.rounds.append(1e3 * median(times))
            say(f"{net.name} {what} round {turn + 1}: {name} {result.rounds[-1]:.2f} ms")
    return list(results.values())


def save(results: Sequence[Result], machine: dict[str, Any], args: argparse.Namespace) -> None:
    text = report.markdown(results, machine)
    print(text)
    if args.out:
        path = Path(args.out)
        data = {
            "machine": machine,
            "settings": vars(args),
            "results": [result.as_dict() for result in results],
        }
        path.write_text(json.dumps(data, indent=1) + "\n")
        path.with_suffix(".md").write_text(text)
    if args.plot:
        report.plot(results, args.plot)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
