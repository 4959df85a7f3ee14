"""Make tests/keras_results.json: what Keras makes of tests/layer_cases.py and tests/value_cases.py, in float64.

    python -m tools.make_keras_results [--python PYTHON] [--only WORD]

PYTHON is one that has keras and tensorflow, if this one has not; with WORD, only the cases with it in their names are
computed anew. Needed only when a case has changed or there are new ones. All of them take a minute or two.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.keras_peer import STORED, ask, shorten, stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="a Python with Keras (default: this one)")
    parser.add_argument("--only", default="", metavar="WORD", help="a part of the names of cases (default: all)")
    arguments = parser.parse_args()
    kept = stored() if arguments.only else {}
    results = {name: shorten(name, found) for name, found in ask(arguments.python, arguments.only).items()}
    lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in {**kept, **results}.items()]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{STORED}: {len(results)} of {len(lines)} cases computed, {STORED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
