"""The limits of this machine: `python -m bench.peak`.

Every speed in this folder is also given as a share of these, measured in the same run.
"""

from __future__ import annotations

import argparse

from fastcnn.kernels import _cpu
from fastcnn.kernels.probe import copy_bandwidth, fma_peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--threads", type=int, default=_cpu.get_num_threads(), help="up to so many (default: all)"
    )
    parser.add_argument("--bursts", type=int, default=30, help="bursts of 3 ms, of which the best counts")
    args = parser.parse_args()
    _cpu.set_num_threads(args.threads)
    print(f"{'ISA':10}{'threads':>8}{'FMA GFLOP/s':>14}")
    for isa in _cpu.isas():
        _cpu.select_isa(isa)
        for threads in range(1, args.threads + 1):
            print(f"{isa:10}{threads:8}{fma_peak(threads, args.bursts):14.1f}")
    for threads in range(1, args.threads + 1):
        print(f"copy, {threads} thread{'s' if threads > 1 else ''}: {copy_bandwidth(threads):.1f} GB/s")


if __name__ == "__main__":
    main()
