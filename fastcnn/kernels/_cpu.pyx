"""The machine: which kernel table is in use, and how many threads.

The table is chosen at import: the best one this CPU can run, or the one FASTCNN_ISA names.
"""

import os

cimport cython

cdef extern from "dispatch.h":
    const fc_kernels *fc_table(int i)
    bint fc_usable(const fc_kernels *table)

cdef extern from *:
    """
    #ifdef _OPENMP
    #define FC_OPENMP 1
    #else
    #define FC_OPENMP 0
    #endif
    #ifdef __VERSION__
    #define FC_COMPILER __VERSION__
    #else
    #define FC_COMPILER "unknown"
    #endif
    """
    const bint FC_OPENMP
    const char *FC_COMPILER
    const char *FC_FLAGS

cdef const fc_kernels *_table = NULL
cdef int _threads = 1
_reason = ""
FORKED = "forked child"


cdef const fc_kernels *table() noexcept nogil:
    return _table


cdef list _tables(bint usable):
    cdef int i = 0
    names = []
    while fc_table(i) != NULL:
        if not usable or fc_usable(fc_table(i)):
            names.append(fc_table(i).isa.decode())
        i += 1
    return names


def isas() -> list:
    """Names of the instruction sets that this build holds and this CPU can run, best first."""
    return _tables(True)


def isa() -> str:
    """Name of the instruction set in use."""
    return _table.isa.decode()


def select_isa(name: str) -> None:
    """Use the kernels of one instruction set from now on; plans built before keep their tiles' sizes,
    so this is for start-up and tests. Raises ValueError for a name that is unknown or not usable here."""
    global _table
    cdef int i = 0
    if name not in isas():
        state = "was built, but this CPU cannot run it" if name in _tables(False) else "is not part of this build"
        raise ValueError(f"FASTCNN_ISA={name!r} {state}; usable here: {', '.join(isas())}")
    while fc_table(i).isa.decode() != name:
        i += 1
    _table = fc_table(i)


def tile_sizes() -> tuple:
    """(vector length, rows, columns) of the largest tile in use, in floats."""
    return _table.vlen, _table.mr, _table.nr


def _read(str path):
    with open(path) as file:
        return file.read()


def _cgroup_quota():
    """CPUs that the control group allows (a float), or None when there is no limit."""
    try:
        quota, period = _read("/sys/fs/cgroup/cpu.max").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = int(_read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
        period = int(_read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _default_threads():
    """(threads, why): the smallest of the CPUs we may run on, the control group's quota and OMP_NUM_THREADS."""
    if not FC_OPENMP:
        return 1, "built without OpenMP"
    try:
        limits = [(len(os.sched_getaffinity(0)), "CPUs this process may run on")]
    except AttributeError:
        limits = [(os.cpu_count() or 1, "CPUs of this machine")]
    quota = _cgroup_quota()
    if quota is not None:
        limits.append((max(1, int(quota)), "control group quota"))
    omp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if omp.isdigit() and int(omp) > 0:
        limits.append((int(omp), "OMP_NUM_THREADS"))
    return min(limits)


@cython.binding(True)  # public: `inspect` shows its arguments
def set_num_threads(n: int) -> None:
    """Use `n` threads for all work started from now on. Results do not depend on it, to the bit.

    A forked child stays on one thread: start processes with multiprocessing's 'spawn' for more.
    """
    global _threads, _reason
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"set_num_threads: expected an int, got {n!r}")
    if not 1 <= n <= 1024:
        raise ValueError(f"set_num_threads: expected 1 to 1024 threads, got {n}")
    if _reason != FORKED:
        _threads, _reason = (n, "set_num_threads") if FC_OPENMP else (1, "built without OpenMP")


@cython.binding(True)
def get_num_threads() -> int:
    """Number of threads that kernels run on."""
    return _threads


def thread_reason() -> str:
    """Where the number of threads comes from."""
    return _reason


def openmp() -> bool:
    """Whether this build has OpenMP; without it everything runs on one thread."""
    return FC_OPENMP


def compiler() -> str:
    """Compiler and flags of this build."""
    return f"{FC_COMPILER.decode()}; {FC_FLAGS.decode()}"


def _after_fork():
    # The child has no worker threads, and libgomp would wait for them for ever: stay on one thread.
    global _threads, _reason
    _threads, _reason = 1, FORKED


def _configure():
    global _threads, _reason
    select_isa(os.environ.get("FASTCNN_ISA") or isas()[0])
    _threads, _reason = _default_threads()
    wanted = os.environ.get("FASTCNN_NUM_THREADS")
    if wanted:
        if not wanted.isdecimal() or not 1 <= int(wanted) <= 1024:
            raise ValueError(f"FASTCNN_NUM_THREADS={wanted!r}: expected a whole number from 1 to 1024")
        set_num_threads(int(wanted))
        if FC_OPENMP:
            _reason = "FASTCNN_NUM_THREADS"
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


_configure()
