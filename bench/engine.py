"""The engine's share of an operation: what remains when NumPy arrays are checked and the work is planned."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

from fastcnn.kernels._executor import Program


def prepare(operation: Callable[..., Any], *args: Any, **keywords: Any) -> Callable[[], None]:
    """A function that repeats what the engine does in one call of a function of `fastcnn.ops`.

    It runs the very programs that the call built, packing of the weights included, on the same arrays.
    """
    programs = []

    def recorded(*stages: Any) -> Program:
        programs.append(Program(*stages))
        return programs[-1]

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("fastcnn.ops") and hasattr(module, "Program"):
                stack.enter_context(mock.patch.object(module, "Program", recorded))
        operation(*args, **keywords)
    if not programs:
        raise ValueError(f"{operation.__name__} ran no program of the engine")

    def run() -> None:
        for program in programs:
            program.run()

    return run
