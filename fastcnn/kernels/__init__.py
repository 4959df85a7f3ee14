"""The compiled engine: kernel tables, drivers and the executor."""

import os

# How long an idle OpenMP thread spins before it sleeps. libgomp reads this when it is loaded, which is here unless
# another library has brought it already. Its default of several milliseconds burns processor time that busy machines
# need; some 0.2 ms bridges the time between two training steps.
_SPIN = {"GOMP_SPINCOUNT": "5000"}

if not _SPIN.keys() & os.environ.keys() and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.update(_SPIN)
    try:
        from fastcnn.kernels import _cpu  # noqa: F401
    finally:
        for name in _SPIN:  # for this process only, not for those it starts
            del os.environ[name]
