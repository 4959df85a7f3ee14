"""Speed of whole networks: `python -m pytest bench/bench_train.py --threads 2`.

Useful operations count: forward, weight gradients and input gradients (not the first layer's) of convolutions
and dense layers, two per multiply-add. All else, such as pooling and the optimiser, only costs time.
"""

from __future__ import annotations

import pytest

from bench.versus.nets import NETS, Net
from bench.versus.runners.run_fastcnn import FastCNN

BATCHES = 4

each_net = pytest.mark.parametrize("net", [NETS["lenet5"], NETS["simplecnn"]], ids=lambda net: net.name)


@pytest.fixture
def runner(net: Net, threads: int) -> FastCNN:
    return FastCNN(net, net.weights(), net.batches(BATCHES), threads)


@each_net
def test_train_plan(net: Net, runner: FastCNN, measure_flops) -> None:
    """The engine's part of a step: forward, loss, backward, update, on a batch that is in place."""
    runner.train(0)
    measure_flops(runner.model._plan("train", net.batch).run, net.batch * net.train_flops())


@each_net
def test_train_on_batch(net: Net, runner: FastCNN, measure_flops) -> None:
    measure_flops(lambda: runner.train(0), net.batch * net.train_flops())


@each_net
def test_predict(net: Net, runner: FastCNN, measure_flops) -> None:
    measure_flops(lambda: runner.predict(0), net.batch * net.predict_flops())


@each_net
def test_predict_one(net: Net, runner: FastCNN, measure_flops) -> None:
    measure_flops(lambda: runner.predict_one(0), net.predict_flops())
