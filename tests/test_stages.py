"""What of a plan runs together, and what waits for what."""

from __future__ import annotations

import numpy as np

import fastcnn as fc
from fastcnn.plan.stages import Step, chain


class Memory:
    """A buffer of its own."""

    def __init__(self):
        self.root = self


def step(name, reads=(), writes=(), **words):
    return Step(name, list, list(reads), list(writes), **words)


def names(steps):
    return [[one.name for one in draft.steps] for draft in chain(steps)]


def test_steps_over_images_are_chained():
    a, b = step("a", pipelined=True), step("b", pipelined=True)
    assert names([a, b, step("alone"), step("c", pipelined=True)]) == [["a", "b"], ["alone"], ["c"]]
    assert names([a, step("large", pipelined=True, weight_bytes=1 << 30)]) == [["a"], ["large"]]


def test_a_deferred_step_runs_beside_the_one_that_ends_a_chain():
    x, dz, dx = Memory(), Memory(), Memory()
    first = step("first", [], [dz], pipelined=True)
    dw = step("dw", [x, dz], [], deferred=True)
    assert names([first, dw, step("dx", [dz], [dx])]) == [["first"], ["dw", "dx"]]
    assert names([first, dw, dw, step("dx", [dz], [dx])]) == [["first"], ["dw", "dw", "dx"]]
    assert names([first, dw]) == [["first"], ["dw"]]
    # One that is chained leaves it waiting, one that does its work in Python or starts a chain does not run beside it.
    assert names([first, dw, step("dx", [dz], [dx], pipelined=True)]) == [["first", "dx"], ["dw"]]
    assert names([first, dw, step("python", python=lambda: None)]) == [["first"], ["dw"], ["python"]]
    large = step("large", [dz], [dx], pipelined=True, weight_bytes=1 << 30)
    assert names([first, dw, large]) == [["first"], ["dw"], ["large"]]


def test_steps_that_share_memory_do_not_run_together():
    x, dz, sums = Memory(), Memory(), object()
    dw = step("dw", [x, dz], [], deferred=True, others=[sums])
    for other in (step("other", [], [x]), step("other", [dz], [dz]), step("other", others=[sums])):
        assert names([dw, other]) == [["dw"], ["other"]]
    assert names([step("dw", [], [x], deferred=True), step("other", [x], [])]) == [["dw"], ["other"]]


def test_only_the_last_of_them_is_waited_for():
    """Dense layers: each weight gradient, and beside it the input gradient that the next layer waits for."""
    model = fc.Sequential([fc.Input((8,)), fc.layers.Dense(40, "relu"), fc.layers.Dense(30), fc.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.train_on_batch(np.zeros((5, 8)), np.zeros((5, 3)))
    plan = model._plan("train", 5)
    origins = plan.builder.origins
    backward = [(origins[stage.ops[0]].name.split(" ", 1)[1], stage.barrier) for stage in plan.program.stages
                if stage.ops[0] in origins and "gradient" in origins[stage.ops[0]].name]
    assert backward == 2 * [("weight gradient", False), ("input gradient", True)] + [("weight gradient", True)]
