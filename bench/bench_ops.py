"""Speed of the kernels: `python -m pytest bench/bench_ops.py --threads 2`.

Convolution and dense layers are held against the multiply-add peak (Winograd's algorithm counts the multiplications of
the direct one, and so may exceed it), pooling against copying as many bytes.
The engine's work is timed, packing of weights included, without the checks around it.
"""

from __future__ import annotations

import numpy as np
import pytest

from bench.engine import prepare
from bench.shapes import SPEED, ConvCase
from fastcnn import ops

ALGORITHMS = ("direct", "im2col", "winograd")  # all cases are 3 x 3 at stride 1
POOLED = (64, 32, 32, 64)  # images before pooling
DENSE = (64, 3136, 128)  # samples, inputs, outputs: the larger dense layer of SimpleCNN

each_case = pytest.mark.parametrize("case", SPEED, ids=lambda case: case.name.removeprefix("speed_"))
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@each_case
@each_algorithm
def test_conv2d(case: ConvCase, algorithm: str, measure_flops) -> None:
    x, w, b = normal(*case.input_shape), normal(*case.weight_shape), normal(case.oc)
    run = prepare(ops.conv2d, x, w, b, **case.keywords, algorithm=algorithm)
    measure_flops(run, case.flops)


@each_case
@each_algorithm
def test_conv2d_input_grad(case: ConvCase, algorithm: str, measure_flops) -> None:
    dy, w = normal(*case.output_shape), normal(*case.weight_shape)
    run = prepare(ops.conv2d_input_grad, dy, w, case.input_shape, **case.keywords, algorithm=algorithm)
    measure_flops(run, case.flops)


@each_case
@each_algorithm
def test_conv2d_weight_grad(case: ConvCase, algorithm: str, measure_flops) -> None:
    x, dy = normal(*case.input_shape), normal(*case.output_shape)
    run = prepare(ops.conv2d_weight_grad, x, dy, (case.kh, case.kw), **case.keywords, algorithm=algorithm)
    measure_flops(run, case.flops)


def test_dense(measure_flops) -> None:
    n, inputs, outputs = DENSE
    run = prepare(ops.dense, normal(n, inputs), normal(inputs, outputs), normal(outputs))
    measure_flops(run, 2 * n * inputs * outputs)


def test_dense_input_grad(measure_flops) -> None:
    n, inputs, outputs = DENSE
    run = prepare(ops.dense_input_grad, normal(n, outputs), normal(inputs, outputs))
    measure_flops(run, 2 * n * inputs * outputs)


def test_dense_weight_grad(measure_flops) -> None:
    n, inputs, outputs = DENSE
    run = prepare(ops.dense_weight_grad, normal(n, inputs), normal(n, outputs))
    measure_flops(run, 2 * n * inputs * outputs)


def test_max_pool2d(measure_bytes) -> None:
    x = normal(*POOLED)
    run = prepare(ops.max_pool2d, x, 2)
    measure_bytes(run, x.nbytes + x.nbytes // 4)


def test_avg_pool2d(measure_bytes) -> None:
    x = normal(*POOLED)
    run = prepare(ops.avg_pool2d, x, 2)
    measure_bytes(run, x.nbytes + x.nbytes // 4)


def test_avg_pool2d_grad(measure_bytes) -> None:
    n, h, w, c = POOLED
    dy = normal(n, h // 2, w // 2, c)
    run = prepare(ops.avg_pool2d_grad, dy, POOLED, 2)
    measure_bytes(run, 5 * dy.nbytes)


def test_max_pool2d_grad(measure_bytes) -> None:
    """With the forward pass that finds the maxima: x is read, dy is read, dx is written."""
    n, h, w, c = POOLED
    x, dy = normal(*POOLED), normal(n, h // 2, w // 2, c)
    run = prepare(ops.max_pool2d_grad, dy, x, 2)
    measure_bytes(run, 2 * x.nbytes + dy.nbytes)
