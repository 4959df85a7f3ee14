"""Which thread takes which groups of a stage, and in which order: all of them, each once."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn.kernels import _eltwise
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._op import Tensor


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("items, group, chunk", [(1, 1, 1), (2, 1, 1), (16, 1, 1), (17, 3, 2), (64, 4, 1)])
def test_each_item_runs_once_in_each_stage(items, group, chunk, threads, usual_threads):
    """Whatever the share of a thread, also where there are fewer groups than threads."""
    x, ones = np.zeros((items, 1, 1, 3), np.float32), np.ones((items, 1, 1, 3), np.float32)
    add = _eltwise.AddTensors(*(Tensor(a.shape, a) for a in (x, x, ones)))
    stages = [Stage([add], items, group, chunk, descending=bool(i % 2)) for i in range(6)]
    fc.set_num_threads(threads)
    program = Program(stages)
    for run in range(20):
        program.run()
        assert np.array_equal(x, np.full_like(x, 6 * (run + 1)))
    program.run(2, 5)
    assert np.array_equal(x, np.full_like(x, 6 * 20 + 3))


@pytest.mark.parametrize("descending", [False, True])
def test_the_order_of_groups_and_of_chunks(descending, usual_threads):
    """On one thread, what a chunk finds in local memory is what the chunk before it has left there."""
    x = np.arange(1, 13, dtype=np.float32).reshape(12, 1, 1, 1)
    y, shape = np.zeros_like(x), x.shape
    local = Tensor(shape, None, ((0, 0), (0, 0)), 0)
    ops = [_eltwise.Copy(local, Tensor(shape, y)), _eltwise.Copy(Tensor(shape, x), local)]
    fc.set_num_threads(1)
    Program([Stage(ops, 12, group=4, chunk=1, descending=descending)], local=64).run()
    order = [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3] if descending else list(range(12))
    assert y.ravel()[order].tolist() == [0, *x.ravel()[order[:-1]]]
