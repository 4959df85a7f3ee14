"""Losses in a plan: value, gradient and count of right answers in one pass where a kernel exists, else NumPy."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels import _loss
from fastcnn.losses import SparseCategoricalCrossentropy
from fastcnn.plan.builder import Builder
from fastcnn.plan.operations import Activation, Operation, Softmax, Value
from fastcnn.utils import compiled_kernel


class LossIO:
    """The arrays through which a batch's targets go in and its loss comes out.

    `targets` are int32 labels or float32 values, `weights` float32 per position or None; after a run `totals` holds
    the sum of the positions' losses and of `correct` (1 for each position predicted right, where that is known).
    """

    def __init__(self, n: int, shape, sparse: bool, weighted: bool):
        positions = n * prod(shape[:-1])
        self.rows = positions
        target_shape = (n, *shape[:-1]) if sparse else (n, *shape)
        self.targets = np.zeros(target_shape, np.int32 if sparse else np.float32)
        self.sparse = sparse
        self.weights = np.ones(positions, np.float32) if weighted else None
        self.loss_rows = np.zeros(positions, np.float32)
        self.correct = np.zeros(positions, np.float32)
        self.counts_correct = False
        self.totals = np.zeros(2, np.float64)

    def set_weights(self, sample_weight: np.ndarray) -> None:
        """One weight per sample, for all its positions."""
        self.weights.reshape(len(sample_weight), -1)[...] = sample_weight[:, None]


def take_final_activation(ops: list[Operation], output: Value, loss) -> tuple[list[Operation], Value]:
    """The operations without a final softmax or sigmoid that the loss computes itself, and the logits."""
    last = output.producer
    fits = (last is not None and not output.consumers and not getattr(loss, "from_logits", True)
            and ((kernel_of(loss) == "softmax_cross_entropy" and isinstance(last, Softmax) and not last.log)
                 or (kernel_of(loss) == "sigmoid_cross_entropy" and isinstance(last, Activation)
                     and last.kind == "sigmoid")))
    return ([op for op in ops if op is not last], last.x) if fits else (ops, output)


def add_loss(b: Builder, loss: Any, logits: Value, output: Value, weighted: bool, gradient: bool) -> LossIO:
    """The step that computes the loss of `output`, and with `gradient` the gradient with respect to `logits`."""
    io = LossIO(b.n, output.shape, is_sparse(loss), weighted)
    kernel = kernel_of(loss)
    fused = logits is not output or getattr(loss, "from_logits", False) or kernel in ("mse", "mae")
    if kernel is None or not fused:
        add_numpy_loss(b, loss, output, io, gradient)
        return io
    x, p = b.buffer(logits), b.buffer(output) if logits is not output else None
    dx = b.grad(logits) if gradient else None

    def make():
        words = {"weights": io.weights, "scale": 1.0 / max(1, io.rows), "dx": dx.tensor if dx else None}
        if kernel in ("mse", "mae"):
            error = _loss.MeanSquaredError if kernel == "mse" else _loss.MeanAbsoluteError
            return [error(x.tensor, io.loss_rows, io.targets, **words)]
        words.update(p=p.tensor if p else None, correct=io.correct, label_smoothing=loss.label_smoothing)
        if kernel == "sigmoid_cross_entropy":
            return [_loss.SigmoidBinaryCrossEntropy(x.tensor, io.loss_rows, io.targets, **words)]
        return [_loss.SoftmaxCrossEntropy(x.tensor, io.loss_rows, **{"labels" if io.sparse else "targets": io.targets},
                                          **words)]

    io.counts_correct = kernel == "softmax_cross_entropy"
    b.step("loss", make, [x], [buffer for buffer in (p, dx) if buffer])
    b.step("loss total", lambda: [_loss.LossTotal(io.loss_rows, io.totals, io.correct)], [], [], pipelined=False)
    return io


def add_numpy_loss(b: Builder, loss, output: Value, io: LossIO, gradient: bool) -> None:
    """A loss that has no kernel, or a custom one."""
    y = b.buffer(output)
    dy = b.grad(output) if gradient else None

    def call():
        shape = (b.n, *output.shape)
        predicted = y.view.reshape(shape)
        values = loss.per_sample(io.targets, predicted)
        weights = None if io.weights is None else io.weights.reshape(b.n, -1)[:, 0]
        io.totals[0] = (values if weights is None else values * weights).sum() * (io.rows / max(1, b.n))
        if dy is not None:
            slope = (loss.gradient(io.targets, predicted) if weights is None
                     else loss.weighted_gradient(io.targets, predicted, weights))
            dy.fill(slope, loss.name)

    b.python_step("loss", call, [y], [dy] if dy else [], None)


def kernel_of(loss) -> str | None:
    """The fused form of a loss, if it has one."""
    return compiled_kernel(loss, "per_sample", "gradient", "_value", "_slope")


def is_sparse(loss) -> bool:
    """Whether targets are class numbers."""
    return isinstance(loss, SparseCategoricalCrossentropy) or getattr(loss, "sparse", False)
