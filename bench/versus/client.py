"""The side of the comparison: starts workers and asks them, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FASTCNN_NUM_THREADS")


class WorkerError(RuntimeError):
    """A worker died; the message ends with what it printed."""


class Missing(Exception):
    """The runner cannot be made here: its framework is not installed, or fails."""


class Worker:
    """A runner in a process of its own, idle until asked."""

    def __init__(
        self, name: str, command: Sequence[str], threads: int = 1, variables: Mapping[str, str] | None = None
    ):
        self.name = name
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), **(variables or {})}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        hello = self._read()
        if "missing" in hello:
            self.close()
            raise Missing(hello["missing"])
        self.version: str = hello["version"]
        self.jobs: list[str] = hello["jobs"]

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for the reply."""
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the reason is in the log, which _read reports
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise WorkerError(
                f"{self.name} ended with code {self.process.returncode}:\n{self.log.read()[-2000:]}"
            )
        return json.loads(line)

    def close(self) -> None:
        """End the process, which stops when its input ends."""
        self.process.communicate()
        self.log.close()


def start(
    name: str, net: str, threads: int, python: str = sys.executable, variables: Mapping[str, str] | None = None
) -> Worker:
    """A worker of this package, with these environment variables; `Missing` when its runner cannot be made."""
    command = [python, "-m", "bench.versus.worker", name, net, "--threads", str(threads)]
    return Worker(f"{name} on {net}", command, threads, variables)
