"""Losses in a plan: value, gradient and count of right answers in one pass where a kernel exists, else NumPy."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastcnn.arrays import read_only, returned
from fastcnn.kernels import _loss
from fastcnn.losses import SparseCategoricalCrossentropy
from fastcnn.plan.buffers import Buffer
from fastcnn.plan.builder import Builder
from fastcnn.plan.operations import Activation, Operation, Softmax, Value, copy_of
from fastcnn.utils import compiled_kernel


class LossIO:
    """The arrays through which a batch's targets go in and its loss comes out.

    `targets` are int32 labels or float32 values, `read_only_targets` the same for metrics; `weights` are float32
    per position or None. `rows` positions count, all but those with the label `ignored`. After a run `totals` holds the
    sum of the positions' losses and of `correct` (1 for each position predicted right, where that is known). The
    gradient is that of `factor` times the loss.
    """

    def __init__(self, n: int, shape, sparse: bool, weighted: bool, ignored: int | None = None, factor: float = 1.0):
        positions = n * prod(shape[:-1])
        self.rows, self.factor = positions, factor
        target_shape = (n, *shape[:-1]) if sparse else (n, *shape)
        self.targets = np.zeros(target_shape, np.int32 if sparse else np.float32)
        self.read_only_targets = read_only(self.targets)
        self.sparse, self.ignored = sparse, ignored
        self.counting = None if ignored is None else np.ones(target_shape, bool)
        self.scale = np.full(1, factor / max(1, positions), np.float32)  # of the gradient
        self.weights = np.ones((n, *shape[:-1]), np.float32) if weighted else None
        self.sample_weight: np.ndarray | None = None
        self.loss_rows = np.zeros(positions, np.float32)
        self.correct = np.zeros(positions, np.float32)
        self.counts_correct = False
        self.totals = np.zeros(2, np.float64)
        self._totals = memoryview(self.totals)  # reads a number in a fraction of NumPy's time

    @property
    def bytes(self) -> int:
        """Of the arrays that grow with the batch."""
        arrays = (self.targets, self.counting, self.weights, self.loss_rows, self.correct)
        return sum(array.nbytes for array in arrays if array is not None)

    def set_targets(self, y: np.ndarray, samples: slice | np.ndarray) -> None:
        """Take the targets of these samples, and count the positions that matter."""
        if isinstance(samples, slice):
            self.targets[...] = y[samples]
        else:
            np.take(y, samples, axis=0, out=self.targets, mode="clip")  # in range, or `point_at` had said so
        if self.counting is not None:
            np.not_equal(self.targets, self.ignored, out=self.counting)
            self.rows = np.count_nonzero(self.counting)
            self.scale[0] = self.factor / max(1, self.rows)

    def set_weights(self, sample_weight: np.ndarray) -> None:
        """One weight per sample, for all its positions, or one per position."""
        shape, ndim = self.weights.shape, sample_weight.ndim
        if sample_weight.shape != shape[:ndim]:
            raise ValueError(f"sample_weight: expected shape {shape[:1]} or {shape} for a batch, got "
                             f"{sample_weight.shape}; give one weight per sample, or per position of each output")
        self.sample_weight = sample_weight
        self.weights[...] = sample_weight.reshape(sample_weight.shape + (1,) * (len(shape) - ndim))

    @property
    def mean(self) -> float:
        """The loss of the batch."""
        return self._totals[0] / max(1, self.rows)

    @property
    def right(self) -> float:
        """How many positions of the batch are predicted right, where `counts_correct`."""
        return self._totals[1]


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
    io = LossIO(b.n, output.shape, is_sparse(loss), weighted, getattr(loss, "ignore_class", None), factor)
    kernel = kernel_of(loss)
    fused = logits is not output or getattr(loss, "from_logits", False) or kernel in ("mse", "mae")
    add = add_kernel_loss if kernel is not None and fused else add_numpy_loss
    if gradient:
        with b.gradient_of(logits) as dx:
            add(b, loss, logits, output, io, dx)
    else:
        add(b, loss, logits, output, io, None)
    return io


def add_kernel_loss(b: Builder, loss, logits: Value, output: Value, io: LossIO, dx: Buffer | None) -> None:
    """Value, gradient and right answers in one pass."""
    x, p = b.buffer(logits), b.buffer(output) if logits is not output else None
    kernel = kernel_of(loss)

    def make():
        words = {"weights": io.weights, "scale": io.scale, "dx": dx.tensor if dx else None}
        if kernel in ("mse", "mae"):
            error = _loss.MeanSquaredError if kernel == "mse" else _loss.MeanAbsoluteError
            return [error(x.tensor, io.loss_rows, io.targets, **words)]
        words.update(p=p.tensor if p else None, correct=io.correct, label_smoothing=loss.label_smoothing)
        if kernel == "sigmoid_cross_entropy":
            return [_loss.SigmoidBinaryCrossEntropy(x.tensor, io.loss_rows, io.targets, **words)]
        wanted = {"labels": io.targets, "ignored": io.ignored} if io.sparse else {"targets": io.targets}
        return [_loss.SoftmaxCrossEntropy(x.tensor, io.loss_rows, **wanted, **words)]

    io.counts_correct = kernel == "softmax_cross_entropy"
    b.step("loss", make, [x], [buffer for buffer in (p, dx) if buffer])
    b.step("loss total", lambda: [_loss.LossTotal(io.loss_rows, io.totals, io.correct)], [], [], pipelined=False)


def add_numpy_loss(b: Builder, loss, logits: Value, output: Value, io: LossIO, dx: Buffer | None) -> None:
    """A loss that has no kernel, or a custom one."""
    y = b.buffer(output)

    def call():
        io.totals[0] = loss(io.targets.copy(), copy_of(y, output), io.sample_weight) * io.rows
        if dx is not None:
            targets, predicted = io.targets.copy(), copy_of(y, output)  # which the loss may change
            slope = (loss.gradient(targets, predicted) if io.sample_weight is None
                     else loss.weighted_gradient(targets, predicted, io.sample_weight))
            dx.fill(returned(slope, predicted.shape, f"{loss.name}: gradient") * np.float32(io.factor))

    b.python_step("loss", call, [y], [dx] if dx else [], None)


def kernel_of(loss) -> str | None:
    """The fused form of a loss, if it has one."""
    return compiled_kernel(loss, "per_sample", "per_position", "gradient", "_value", "_slope")


def is_sparse(loss) -> bool:
    """Whether targets are class numbers."""
    return isinstance(loss, SparseCategoricalCrossentropy) or getattr(loss, "sparse", False)
