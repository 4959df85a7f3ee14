"""Losses in a plan: value, gradient and count of right answers in one pass where a kernel exists, else NumPy."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels import _loss
from fastcnn.losses import SparseCategoricalCrossentropy
from fastcnn.plan.builder import Buffer, Builder
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


def add_loss(b: Builder, loss: Any, logits: Value, output: Value, weighted: bool, gradient: bool,
             factor: float) -> LossIO:
    """The step that computes the loss of `output`, and with `gradient` that of `factor` times it by `logits`."""
    io = LossIO(b.n, output.shape, is_sparse(loss), weighted)
    kernel = kernel_of(loss)
    fused = logits is not output or getattr(loss, "from_logits", False) or kernel in ("mse", "mae")
    add = add_kernel_loss if kernel is not None and fused else add_numpy_loss
    if gradient:
        with b.gradient_of(logits) as dx:
            add(b, loss, logits, output, io, dx, factor)
    else:
        add(b, loss, logits, output, io, None, factor)
    return io


def add_kernel_loss(b: Builder, loss, logits: Value, output: Value, io: LossIO, dx: Buffer | None,
                    factor: float) -> None:
    """Value, gradient and right answers in one pass."""
    x, p = b.buffer(logits), b.buffer(output) if logits is not output else None
    kernel = kernel_of(loss)

    def make():
        words = {"weights": io.weights, "scale": factor / max(1, io.rows), "dx": dx.tensor if dx else None}
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


def add_numpy_loss(b: Builder, loss, logits: Value, output: Value, io: LossIO, dx: Buffer | None,
                   factor: float) -> None:
    """A loss that has no kernel, or a custom one."""
    y = b.buffer(output)

    def call():
        predicted = y.view.reshape(b.n, *output.shape)
        values = loss.per_sample(io.targets, predicted)
        weights = None if io.weights is None else io.weights.reshape(b.n, -1)[:, 0]
        io.totals[0] = (values if weights is None else values * weights).sum() * (io.rows / max(1, b.n))
        if dx is not None:
            slope = (loss.gradient(io.targets, predicted) if weights is None
                     else loss.weighted_gradient(io.targets, predicted, weights))
            dx.fill(slope * np.float32(factor), loss.name)

    b.python_step("loss", call, [y], [dx] if dx else [], None)


def kernel_of(loss) -> str | None:
    """The fused form of a loss, if it has one."""
    return compiled_kernel(loss, "per_sample", "gradient", "_value", "_slope")


def is_sparse(loss) -> bool:
    """Whether targets are class numbers."""
    return isinstance(loss, SparseCategoricalCrossentropy) or getattr(loss, "sparse", False)
