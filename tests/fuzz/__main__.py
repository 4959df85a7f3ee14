"""The command: chosen families, one line of results for each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.fuzz import FAMILIES, __doc__
from tests.fuzz.driver import run


def main(argv: Sequence[str] | None = None, ops: Sequence[str] = FAMILIES) -> int:
    """Run the families named in `argv`, by default `ops`; what a case raises, after it was printed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--ops", nargs="+", choices=FAMILIES, default=ops, metavar="OP", help=", ".join(FAMILIES))
    parser.add_argument("--cases", type=int, default=1000, help="of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case: to repeat one that failed")
    options = parser.parse_args(argv)
    for name in options.ops:
        print(run(name, options.cases, options.seed, options.first), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
