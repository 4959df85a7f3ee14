"""Runs ops: the only place that opens a parallel region.

A program is a list of stages, each of which waits for those before it to be complete. A stage cuts its items into
groups; a group goes to one thread, which walks it in chunks and runs all ops of the stage on a chunk before it takes
the next, so that the chunk stays in its cache. Groups and chunks follow from shapes alone, never from the number of
threads: that is why results are the same bits on any number of them, whichever thread takes a group, and when.
"""

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

import numpy as np

from fastcnn.kernels import _cpu
from fastcnn.kernels._op cimport Op, fc_run, fc_task

cdef extern from *:
    """
    #include <sched.h>
    #include <stdint.h>
    #include <time.h>

    static inline int64_t fc_nanoseconds(void)
    {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    }

    #if defined(__x86_64__)
    #define FC_PAUSE() __builtin_ia32_pause()
    #else
    #define FC_PAUSE() ((void)0)
    #endif
    /* Wait until *done reaches `all`: a short spin, for the usual case that all threads end together, then giving
       the processor away: on a busy machine the thread that is waited for may need it. */
    static inline void fc_wait(const ptrdiff_t *done, ptrdiff_t all)
    {
        for (int i = 0; __atomic_load_n(done, __ATOMIC_ACQUIRE) < all; i++) {
            if (i < 2000) FC_PAUSE();
            else sched_yield();
        }
    }
    static inline void fc_done(ptrdiff_t *done) { __atomic_fetch_add(done, 1, __ATOMIC_RELEASE); }
    static inline ptrdiff_t fc_take(ptrdiff_t *next) { return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED); }

    /* Denormals to zero for this thread while it runs kernels; the caller's mode comes back afterwards. */
    #if defined(__x86_64__)
    #include <xmmintrin.h>
    static inline unsigned long fc_float_mode(void)
    { unsigned long old = _mm_getcsr(); _mm_setcsr((unsigned)old | 0x8040); return old; }
    static inline void fc_restore_mode(unsigned long old) { _mm_setcsr((unsigned)old); }
    #elif defined(__aarch64__)
    static inline unsigned long fc_float_mode(void)
    {
        unsigned long old;
        __asm__ volatile("mrs %0, fpcr" : "=r"(old));
        __asm__ volatile("msr fpcr, %0" : : "r"(old | (1ul << 24)));
        return old;
    }
    static inline void fc_restore_mode(unsigned long old) { __asm__ volatile("msr fpcr, %0" : : "r"(old)); }
    #else
    static inline unsigned long fc_float_mode(void) { return 0; }
    static inline void fc_restore_mode(unsigned long old) { (void)old; }
    #endif
    """
    void fc_wait(const Py_ssize_t *done, Py_ssize_t all) noexcept nogil
    void fc_done(Py_ssize_t *done) noexcept nogil
    Py_ssize_t fc_take(Py_ssize_t *next) noexcept nogil
    unsigned long fc_float_mode() noexcept nogil
    void fc_restore_mode(unsigned long old) noexcept nogil
    int64_t fc_nanoseconds() noexcept nogil

cdef struct op_entry:
    fc_run run
    const void *args


cdef struct stage_entry:
    op_entry *ops
    Py_ssize_t n_ops, first_op  # number of the first one among those of the program
    Py_ssize_t items, group, chunk, groups
    Py_ssize_t done  # groups completed
    bint barrier, descending


cdef void run_ops(const stage_entry *stage, const fc_task *task, int64_t *times) noexcept nogil:
    """All ops on one chunk; with `times`, nanoseconds are added to those of each op."""
    cdef Py_ssize_t i
    cdef int64_t start, end
    if times == NULL:
        for i in range(stage.n_ops):
            stage.ops[i].run(stage.ops[i].args, task)
        return
    start = fc_nanoseconds()
    for i in range(stage.n_ops):
        stage.ops[i].run(stage.ops[i].args, task)
        end = fc_nanoseconds()
        times[stage.first_op + i] += end - start
        start = end


cdef void run_group(const stage_entry *stage, Py_ssize_t index, fc_task *task, int64_t *times) noexcept nogil:
    cdef Py_ssize_t first = index * stage.group, last = min(first + stage.group, stage.items), begin
    task.part = index
    begin = first
    while begin < last:
        task.begin = task.chunk = begin
        task.end = min(begin + stage.chunk, last)
        task.first = begin == first
        run_ops(stage, task, times)
        begin = task.end


cdef Py_ssize_t take(const stage_entry *stage, Py_ssize_t *taken, int thread, int threads) noexcept nogil:
    """The next group for a thread: of its own share, the same in all stages, as its cache holds what the thread has
    written; then of the shares of others. -1 when all are handed out."""
    cdef int i, owner
    cdef Py_ssize_t begin, end, at
    for i in range(threads):
        owner = (thread + i) % threads
        begin, end = stage.groups * owner // threads, stage.groups * (owner + 1) // threads
        at = fc_take(&taken[owner])
        if at < end - begin:
            return end - 1 - at if stage.descending else begin + at
    return -1


cdef void run_stages(stage_entry *stages, Py_ssize_t n, Py_ssize_t *taken, int thread, int threads, char *memory,
                     Py_ssize_t scratch, int64_t *times, Py_ssize_t first_time) noexcept nogil:
    """What each thread does. It waits for work to be complete, never for other threads to arrive: one that the
    system has put aside holds up nothing but the group it was working on."""
    cdef fc_task task
    cdef Py_ssize_t s, group, waited = 0
    cdef unsigned long mode = fc_float_mode()
    task.scratch = memory
    task.local = memory + scratch
    if times != NULL:
        times += first_time  # this thread's own
    for s in range(n):
        while True:
            group = take(&stages[s], taken + s * threads, thread, threads)
            if group < 0:
                break
            run_group(&stages[s], group, &task, times)
            fc_done(&stages[s].done)
        if stages[s].barrier:
            while waited <= s:
                fc_wait(&stages[waited].done, stages[waited].groups)
                waited += 1
    fc_restore_mode(mode)


class Stage:
    """Ops run together: `items` units of work, handed to threads `group` at a time, walked `chunk` at a time.

    Without a `barrier` the next stage may start before this one has ended: it must not read what this one writes.
    A `descending` one begins with the last groups: what the stage before has written last is still in the cache.
    """

    def __init__(self, ops, items, group=1, chunk=None, barrier=True, descending=False):
        self.ops, self.barrier, self.descending = list(ops), barrier, descending
        self.items, self.group = int(items), max(1, int(group))
        self.chunk = self.group if chunk is None else max(1, int(chunk))

    @property
    def groups(self):
        return -(-self.items // self.group)


cdef class Program:
    """Stages compiled into flat C arrays; `run` allocates nothing once the thread count has settled.

    A `serial` one runs on one thread: for so little work that waking others costs more than they save.
    """

    cdef stage_entry *entries
    cdef op_entry *ops
    cdef readonly Py_ssize_t n_stages, n_ops, scratch, local, groups
    cdef readonly list stages
    cdef object memory, counters, _times
    cdef Py_ssize_t *taken  # of each stage and thread's share, the groups handed out
    cdef char *memory_start
    cdef Py_ssize_t memory_threads
    cdef bint serial

    def __init__(self, stages, Py_ssize_t local=0, bint serial=False):
        cdef Py_ssize_t s, i, k = 0
        cdef Op op
        self.n_stages = len(stages)
        self.entries = <stage_entry *>calloc(max(1, self.n_stages), sizeof(stage_entry))
        self.ops = <op_entry *>calloc(max(1, sum(len(stage.ops) for stage in stages)), sizeof(op_entry))
        if self.entries == NULL or self.ops == NULL:
            raise MemoryError("Program: no memory for the plan")
        for s, stage in enumerate(stages):
            self.entries[s].ops, self.entries[s].first_op = self.ops + k, k
            self.entries[s].n_ops = len(stage.ops)
            self.entries[s].items, self.entries[s].group, self.entries[s].chunk = stage.items, stage.group, stage.chunk
            self.entries[s].groups, self.entries[s].barrier = stage.groups, stage.barrier
            self.groups = max(self.groups, stage.groups)
            self.entries[s].descending = stage.descending
            for i, op in enumerate(stage.ops):
                self.ops[k + i].run = op.run
                self.ops[k + i].args = op.args
                self.scratch = max(self.scratch, op.scratch)
            k += len(stage.ops)
        self.scratch = (self.scratch + 63) // 64 * 64
        self.local = (local + 63) // 64 * 64
        self.n_ops, self.serial = k, serial
        self.stages = list(stages)

    def __dealloc__(self):
        free(self.entries)
        free(self.ops)

    cdef char *reserve(self, Py_ssize_t threads):
        """Scratch and local memory for that many threads, 64-byte aligned, kept between runs.

        It starts as zeros: no op writes the halos of local tensors.
        """
        cdef Py_ssize_t size = self.scratch + self.local + 128
        if threads > self.memory_threads:
            self.memory = np.zeros(threads * size + 64, np.uint8)
            self.memory_threads = threads
            self.counters = np.zeros((self.n_stages, threads), np.intp)
            self.taken = <Py_ssize_t *><Py_ssize_t>self.counters.ctypes.data
            self.memory_start = <char *>((<Py_ssize_t>self.memory.ctypes.data + 63) // 64 * 64)
        return self.memory_start

    @property
    def threads(self):
        """Number of threads that a run takes."""
        return 1 if self.serial else min(<Py_ssize_t>_cpu.get_num_threads(), max(<Py_ssize_t>1, self.groups))

    @property
    def times(self):
        """None, or where to add up the nanoseconds that each thread spends in each op: int64 (threads, ops)."""
        return self._times

    @times.setter
    def times(self, times):
        if times is not None and (times.dtype != np.int64 or times.ndim != 2 or times.shape[1] != self.n_ops
                                  or not times.flags.c_contiguous):
            raise ValueError(f"Program: times must be a contiguous int64 array (threads, {self.n_ops}), got "
                             f"{times.dtype} {times.shape}")
        self._times = times

    cdef int64_t *times_of(self, int threads) except? NULL:
        """Where the first thread writes, or NULL when nobody wants to know."""
        if self._times is None:
            return NULL
        if len(self._times) < threads:
            raise ValueError(f"Program: times has rows for {len(self._times)} threads, {threads} are running")
        return <int64_t *><Py_ssize_t>self._times.ctypes.data

    def run(self, Py_ssize_t first=0, last=None):
        """Run the stages [first, last) on as many threads as they can use; the GIL is released."""
        cdef Py_ssize_t n = (self.n_stages if last is None else last) - first, s
        cdef int threads = self.threads
        cdef char *memory = self.reserve(threads)
        cdef int64_t *times = self.times_of(threads)
        cdef Py_ssize_t scratch = self.scratch, size = (self.scratch + self.local + 128) // 64 * 64, ops = self.n_ops
        cdef stage_entry *stages = self.entries + first
        for s in range(n):
            stages[s].done = 0
        for s in range(n * threads):
            self.taken[s] = 0
        with nogil, parallel(num_threads=threads):
            run_stages(stages, n, self.taken, threadid(), threads, memory + threadid() * size, scratch, times,
                       threadid() * ops)


def run_op(Op op):
    """Run one op over all its items, each a group of its own."""
    if op.items:
        Program([Stage([op], op.items)]).run()
