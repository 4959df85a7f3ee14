"""Tests of the installed fastcnn, or of this checkout built in place: `bench` arranges that, and shares its shapes."""

import bench  # noqa: F401
