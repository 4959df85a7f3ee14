"""`python -m fastcnn`."""

import sys

from fastcnn.cli import main

sys.exit(main())
