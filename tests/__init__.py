"""Tests of the installed fastcnn, or of this checkout built in place: importing `bench` sees to that."""

import bench  # noqa: F401
