"""What Keras makes of the cases of tests/layer_cases.py and tests/value_cases.py: asked for now, or stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests import layer_cases, value_cases
from tests.curves import Results, digest, run_twin

TWIN = Path(__file__).with_name("keras_twin.py")
STORED = Path(__file__).with_name("keras_results.json")


def ask(python: str, word: str = "") -> dict[str, Results]:
    """Results by case, for all that have `word` in their names, computed by a Python that has Keras and TensorFlow."""
    cases, arrays = value_cases.describe()
    cases["training"] = {}
    for name in filter(lambda name: word in name, layer_cases.CASES):
        cases["training"][name], own = layer_cases.describe(name, layer_cases.CASES[name])
        arrays.update(own)
    cases = {kind: {name: case for name, case in named.items() if word in name} for kind, named in cases.items()}
    return run_twin(python, TWIN, {**arrays, "cases": np.array(json.dumps(cases))})


def shorten(name: str, results: Results) -> dict[str, Any]:
    """What is stored of a case: of training a digest, of values all."""
    if name in layer_cases.CASES:
        return digest(results)
    return {key: rounded(values) for key, values in results.items()}


def rounded(values: np.ndarray) -> Any:
    """Nested lists of numbers with eight digits."""
    return [rounded(value) for value in values] if values.ndim else float(f"{values:.8g}")


def stored() -> dict[str, dict[str, Any]]:
    """What `python -m tools.make_keras_results` stored."""
    return json.loads(STORED.read_text())
