"""Make tests/zoo_curves.json: what PyTorch computes for the small networks of tests/zoo_cases.py, in float64.

    python -m tools.make_zoo_curves [--python PYTHON]      # PYTHON: one that has torch, if not this one

Needed again only when a network of the zoo, or a case, has changed.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.curves import digest
from tests.zoo_cases import CURVES, train_in_torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="a Python with PyTorch (default: this one)")
    results = train_in_torch(parser.parse_args().python)
    lines = [f"{json.dumps(name)}: {json.dumps(digest(found))}" for name, found in results.items()]
    CURVES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{CURVES}: {CURVES.stat().st_size} bytes")


if __name__ == "__main__":
    main()
