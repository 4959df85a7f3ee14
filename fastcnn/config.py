"""What this installation is and does on this machine."""

from __future__ import annotations

import platform
import sys

import numpy as np

from fastcnn.algorithms import get_algorithm_policy
from fastcnn.kernels import _cpu

__version__ = "0.1.0"


def config_text() -> str:
    """Version, instruction sets, threads and why, algorithms, OpenMP and compiler flags, one per line."""
    openmp = "yes" if _cpu.openmp() else "no: this build is serial"
    return "\n".join([
        f"fastcnn      {__version__}",
        f"python       {platform.python_version()}, numpy {np.__version__}, {sys.platform} {platform.machine()}",
        f"ISA          {_cpu.isa()} (usable here: {', '.join(_cpu.isas())}; FASTCNN_ISA chooses)",
        f"threads      {_cpu.get_num_threads()} (from: {_cpu.thread_reason()}; FASTCNN_NUM_THREADS chooses)",
        f"algorithms   {get_algorithm_policy()} (set_algorithm_policy or FASTCNN_ALGORITHM_POLICY chooses)",
        f"OpenMP       {openmp}",
        f"compiler     {_cpu.compiler()}",
    ])


def show_config() -> None:
    """Print `config_text()`."""
    print(config_text())
