"""Random convolutions: `python -m tests.fuzz --ops conv2d`, see there."""

import sys

from tests.fuzz.__main__ import main

if __name__ == "__main__":
    sys.exit(main(ops=["conv2d"]))
