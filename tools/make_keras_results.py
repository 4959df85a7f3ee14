"""Make tests/keras_results.json: what Keras makes of tests/layer_cases.py and tests/value_cases.py, in float64.

    python -m tools.make_keras_results [--python PYTHON]    # PYTHON: one that has keras and tensorflow, if not this one

Needed again only when a case has changed or there are new ones. It takes a minute or two.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.keras_peer import STORED, ask, shorten


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="a Python with Keras (default: this one)")
    results = ask(parser.parse_args().python)
    lines = [f"{json.dumps(name)}: {json.dumps(shorten(name, found))}" for name, found in results.items()]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{STORED}: {len(results)} cases, {STORED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
