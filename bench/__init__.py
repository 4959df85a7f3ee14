"""Benchmarks of the installed fastcnn, or of this checkout built in place if none is installed.

Python would find the checkout's `fastcnn` first, which usually has no compiled modules: look there last.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path.sort(key=lambda entry: Path(entry).resolve() == _ROOT)  # stable: only this folder moves
