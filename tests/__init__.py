"""Tests of the installed fastcnn, or of this checkout built in place: importing `bench` sees to that.

Two settings that libraries read when they are loaded come first. Threads that wait sleep instead of spinning:
on a busy machine spinning makes small problems ten times slower. And the reference's small float64 products
are faster on one thread.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import bench  # noqa: E402, F401
