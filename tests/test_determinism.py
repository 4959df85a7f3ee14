"""The same bits on any number of threads, in concurrent Python threads, and in a forked child."""

from __future__ import annotations

import os
import select
import signal
import threading

import numpy as np
import pytest

from fastcnn import ops
from fastcnn.kernels import _cpu
from fastcnn.ops.activation import ELEMENTWISE, SOFTMAXES


def convolutions(rng):
    """(op, arguments, words), shapes large enough to be cut in many ways."""
    x, b = rng.standard_normal((19, 13, 11, 12)), rng.standard_normal(36)
    for algorithm in ("direct", "im2col"):
        for strides, groups in ((1, 1), (2, 1), (2, 3), (1, 12)):
            w = rng.standard_normal((3, 3, 12 // groups, 36))
            words = {"strides": strides, "padding": "same", "groups": groups, "algorithm": algorithm}
            dy = rng.standard_normal(ops.conv2d(x, w, **words).shape)
            yield "conv2d", (x, w, b), words
            yield "conv2d", (x[:1], w, b), words
            yield "conv2d_input_grad", (dy, w, x.shape), words
            yield "conv2d_weight_grad", (x, dy, 3), words
    wide, dy = rng.standard_normal((5, 4, 4, 200)), rng.standard_normal((5, 4, 4, 160))
    yield "conv2d_weight_grad", (wide, dy, 3), {"padding": "same"}
    w, dy = rng.standard_normal((3, 3, 20, 12)), rng.standard_normal((19, 27, 23, 20))
    yield "convolve2d", (x, rng.standard_normal((3, 3, 12, 20))), {}
    yield "conv2d_transpose", (x, w, b[:20]), {"strides": 2}
    yield "conv2d_transpose_input_grad", (dy, w, x.shape), {"strides": 2}
    yield "conv2d_transpose_weight_grad", (x, dy, 3), {"strides": 2}
    yield from convolutions_of_other_ranks(rng)


def convolutions_of_other_ranks(rng):
    for name, size, kernel in (("conv1d", (37,), (3,)), ("conv3d", (5, 7, 6), (3, 2, 3))):
        x, w, b = (rng.standard_normal(s) for s in ((19, *size, 12), (*kernel, 12, 40), (40,)))
        words = {"strides": 2, "padding": "same"}
        dy = rng.standard_normal(getattr(ops, name)(x, w, **words).shape)
        yield name, (x, w, b), words
        yield f"{name}_input_grad", (dy, w, x.shape), words
        yield f"{name}_weight_grad", (x, dy, kernel), words


def others(rng):
    x, dy, pooled = (rng.standard_normal((19, *hwc)) for hwc in ((13, 11, 12), (6, 5, 12), (12,)))
    for name in ("max_pool2d", "min_pool2d", "avg_pool2d"):
        yield name, (x, 3, 2), {}
    for name in ("max_pool2d_grad", "min_pool2d_grad"):
        yield name, (dy, x, 3, 2), {}
    yield "avg_pool2d_grad", (dy, x.shape, 3, 2), {}
    yield "global_avg_pool2d", (x,), {}
    yield "global_max_pool2d", (x,), {}
    yield "global_avg_pool2d_grad", (pooled, x.shape), {}
    yield "global_max_pool2d_grad", (pooled, x), {}
    for rank in (1, 3):
        x, dy = rng.standard_normal((19, *(7,) * rank, 12)), rng.standard_normal((19, *(3,) * rank, 12))
        yield f"max_pool{rank}d", (x, 3, 2), {}
        yield f"avg_pool{rank}d", (x, 3, 2), {}
        yield f"max_pool{rank}d_grad", (dy, x, 3, 2), {}
        yield f"avg_pool{rank}d_grad", (dy, x.shape, 3, 2), {}
    for n in (7, 300):
        samples, errors, w = (rng.standard_normal(s) for s in ((n, 70), (n, 90), (70, 90)))
        yield "dense", (samples, w, errors[0]), {}
        yield "dense_input_grad", (errors, w), {}
        yield "dense_weight_grad", (samples, errors), {}
    for name in (*ELEMENTWISE, *SOFTMAXES):
        yield name, (x,), {}
        yield "activation", (x, name), {}
        yield "activation_grad", (x[::-1], x, name), {}
    for name in SOFTMAXES:
        yield f"{name}_grad", (x[::-1], x), {}
    moments = {"mean": pooled[0], "variance": pooled[1] ** 2}
    for name, words in (("batch_norm", {}), ("batch_norm", moments), ("layer_norm", {}), ("group_norm", {"groups": 4})):
        yield name, (x, pooled[0], pooled[1]), words
        yield f"{name}_grad", (x[::-1], x, pooled[0]), words


@pytest.fixture(scope="module")
def calls():
    rng = np.random.default_rng(0)
    return [*convolutions(rng), *others(rng)]


def results(calls):
    return [getattr(ops, name)(*arguments, **words) for name, arguments, words in calls]


def assert_same_bits(calls, got, want):
    for (name, _, words), a, b in zip(calls, got, want, strict=True):
        a, b = ([array.tobytes() for array in (r if isinstance(r, tuple) else [r])] for r in (a, b))
        assert a == b, f"{name} {words} differs"


def test_calls_name_every_op(calls):
    assert {name for name, _, _ in calls} == set(ops.__all__)


def test_any_number_of_threads_gives_the_same_bits(calls, isa, two_threads):
    want = results(calls)
    assert_same_bits(calls, results(calls), want)
    for threads in (1, 3, 4):
        _cpu.set_num_threads(threads)
        assert_same_bits(calls, results(calls), want)


def test_concurrent_python_threads(calls, two_threads):
    want, failures = results(calls), []

    def work():
        try:
            for _ in range(3):
                assert_same_bits(calls, results(calls), want)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not failures and not any(worker.is_alive() for worker in workers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_computes_on_one_thread(calls, two_threads):
    """The OpenMP library's workers do not survive a fork: a child that waited for them would hang."""
    calls = calls[::7]
    want = results(calls)  # the parent's workers exist before the fork
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert_same_bits(calls, results(calls), want)
            os.write(writing, b"same bits on %d" % _cpu.get_num_threads())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], 30)
        assert ready, "the child hangs"
        assert os.read(reading, 100) == b"same bits on 1"
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert_same_bits(calls, results(calls), want)
