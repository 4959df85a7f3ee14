"""The benchmarks' own arithmetic: networks, tables, the talk between processes, the probes."""

from __future__ import annotations

import argparse
import io
import json
import sys

import numpy as np
import pytest

from bench.engine import prepare
from bench.rows import Row, table
from bench.versus import __main__ as versus
from bench.versus import report, worker
from bench.versus.client import Missing, Worker, WorkerError
from bench.versus.nets import NETS, Conv, Dense, Flatten, MaxPool, Net
from bench.versus.report import Result
from fastcnn import ops, reference
from fastcnn.kernels import _cpu
from fastcnn.kernels._executor import run_op
from fastcnn.kernels._probe import CopyLoop, FmaLoop
from fastcnn.kernels.probe import FmaProbe, copy_bandwidth

TINY = Net(
    "tiny", (6, 6, 2), 3, (Conv(4, 3, padding=1), MaxPool(2, 2), Conv(3, 2, strides=1), Flatten(), Dense(5))
)


class Fake:
    """A runner that only remembers what it was asked; its loss falls by one per step."""

    version = "fake 1.0"

    def __init__(self):
        self.calls = []

    def loss(self, i):
        return 10.0 - len(self.calls)

    def train(self, i):
        self.calls.append(("train", i))

    def predict_one(self, i):
        self.calls.append(("predict_one", i))


# -- networks

# Parameters: as published for LeNet-5 and AlexNet (torchvision), else by hand. FLOPs of one sample, forward.
SIZES = {
    "lenet5": (61_706, 2 * (28 * 28 * 25 * 6 + 10 * 10 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10)),
    "simplecnn": (421_642, 2 * (28 * 28 * 9 * 32 + 14 * 14 * 288 * 64 + 3136 * 128 + 128 * 10)),
    "keras-cifar": (
        361_034,
        2 * (30 * 30 * 27 * 32 + 13 * 13 * 288 * 64 + 4 * 4 * 576 * 128 + 512 * 512 + 5120),
    ),
    "vgg11": (
        9_225_610,
        2
        * (
            32 * 32 * 27 * 64
            + 16 * 16 * 576 * 128
            + 8 * 8 * (1152 + 2304) * 256
            + 4 * 4 * (2304 + 4608) * 512
            + 2 * 2 * 2 * 4608 * 512
            + 5120
        ),
    ),
    "alexnet": (
        61_100_840,
        2
        * (
            55 * 55 * 363 * 64
            + 27 * 27 * 1600 * 192
            + 13 * 13 * (1728 * 384 + 3456 * 256 + 2304 * 256)
            + 9216 * 4096
            + 4096 * 4096
            + 4096 * 1000
        ),
    ),
}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_sizes_of_the_networks(net):
    assert (net.parameters, net.predict_flops()) == SIZES[net.name]


def test_training_flops_leave_out_the_first_input_gradient():
    first = 2 * 28 * 28 * 25 * 6
    assert NETS["lenet5"].train_flops() == 3 * SIZES["lenet5"][1] - first


def test_weights_and_batches_follow_from_the_seed():
    weights, again = TINY.weights(7), TINY.weights(7)
    assert [w.shape for w in weights] == [(3, 3, 2, 4), (4,), (2, 2, 4, 3), (3,), (12, 5), (5,)]
    assert sum(w.size for w in weights) == TINY.parameters
    assert all(w.dtype == np.float32 and (w == v).all() for w, v in zip(weights, again, strict=True))
    assert (weights[0] != TINY.weights(8)[0]).any()
    (x, y), (other, _) = TINY.batches(2)
    assert x.shape == (3, 6, 6, 2) and y.shape == (3,) and y.min() >= 0 and y.max() < 5
    assert (x != other).any()


# -- runners


def test_fastcnn_runner_against_the_reference():
    run_fastcnn = pytest.importorskip("bench.versus.runners.run_fastcnn")
    weights, batches = TINY.weights(), TINY.batches(1)
    runner = run_fastcnn.FastCNN(TINY, weights, batches, threads=1)
    (x, y), (w1, b1, w2, b2, w3, b3) = batches[0], weights
    hidden = np.maximum(reference.conv2d(x, w1, b1, padding=1), 0)
    hidden = np.maximum(reference.conv2d(reference.max_pool2d(hidden, 2), w2, b2), 0)
    logits = reference.dense(hidden.reshape(3, -1), w3, b3)
    expected = -reference.log_softmax(logits)[np.arange(3), y].mean()
    assert runner.loss(0) == pytest.approx(expected, rel=1e-5)
    for _ in range(20):
        runner.train(0)
    assert runner.loss(0) < 0.9 * expected
    runner.predict(0)
    runner.predict_one(0)


# -- the talk between processes


def talk(make_runner, *requests):
    replies = io.StringIO()
    worker.serve(make_runner, io.StringIO("".join(json.dumps(r) + "\n" for r in requests)), replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_worker_answers():
    fake = Fake()
    hello, checked, timed = talk(
        lambda: fake,
        {"do": "check"},
        {"do": "time", "what": "predict-one", "steps": 6, "warmup": 3, "seconds": 60},
    )
    assert hello == {"version": "fake 1.0"}
    assert checked == {"losses": [10.0, 9.0, 8.0, 7.0]}
    assert len(timed["seconds"]) == 6 and min(timed["seconds"]) >= 0
    assert fake.calls[:3] == [("train", 0), ("train", 1), ("train", 2)]
    assert [call for call, _ in fake.calls[3:]] == ["predict_one"] * 9


def test_worker_stops_early_when_steps_are_slow():
    assert (
        len(
            talk(Fake, {"do": "time", "what": "train", "steps": 50, "warmup": 50, "seconds": 0})[1]["seconds"]
        )
        == 5
    )


def test_worker_says_what_is_missing():
    def fail():
        raise ImportError("No module named 'torch'")

    assert talk(fail) == [{"missing": "No module named 'torch'"}]


SCRIPT = """
import sys
sys.path.insert(0, "")
from bench.versus import worker
from tests.test_bench import Fake
worker.serve({make}, sys.stdin, sys.stdout)
"""


def test_client_and_worker_process():
    process = Worker("fake", [sys.executable, "-c", SCRIPT.format(make="Fake")])
    assert process.version == "fake 1.0"
    assert process.ask("check")["losses"] == [10.0, 9.0, 8.0, 7.0]
    with pytest.raises(WorkerError, match="(?s)fake ended with code 1.*no_such_thing"):
        process.ask("no_such_thing")
    process.close()


def test_client_of_a_missing_framework():
    with pytest.raises(Missing, match="no_such_framework"):
        Worker("fake", [sys.executable, "-c", SCRIPT.format(make="lambda: __import__('no_such_framework')")])


# -- the comparison


def test_runners_take_turns(monkeypatch):
    monkeypatch.setattr(versus, "SETTLE_SECONDS", 0)
    order = []

    class Asked:
        def __init__(self, name, ms):
            self.name, self.ms = name, ms

        def ask(self, do, what, **_):
            order.append((what, self.name))
            return {"seconds": [self.ms / 1e3, 1.0, 0.0]}

    args = argparse.Namespace(what=["train", "predict"], rounds=2, steps=3, warmup=1, seconds=1)
    results = versus.compare(
        TINY, {"fastcnn": Asked("fastcnn", 2), "jax": Asked("jax", 4)}, args, lambda: 100.0
    )
    turn = [("train", "fastcnn"), ("train", "jax"), ("predict", "fastcnn"), ("predict", "jax")]
    assert order == 2 * turn
    assert [(r.what, r.runner, r.rounds) for r in results[:2]] == [
        ("train", "fastcnn", [2, 2]),
        ("train", "jax", [4, 4]),
    ]
    assert results[0].flops == 3 * TINY.train_flops() and results[0].peaks == [100.0, 100.0]


def test_different_losses_stop_the_comparison():
    versus.agree("tiny", {"fastcnn": [2.0, 1.0], "keras": [2.00001, 1.005], "jax": [2.0, 1.0]})
    with pytest.raises(SystemExit, match="after 0 steps"):
        versus.agree("tiny", {"fastcnn": [2.001, 1.0], "keras": [2.0, 1.0], "jax": [2.0, 1.0]})
    with pytest.raises(SystemExit, match="(?s)after 1 steps.*fastcnn"):
        versus.agree("tiny", {"fastcnn": [2.0, 1.1], "keras": [2.0, 1.0], "jax": [2.0, 1.0]})
    with pytest.raises(SystemExit, match="after 0 steps"):
        versus.agree("tiny", {"fastcnn": [float("nan")], "keras": [2.0], "jax": [2.0]})


def results():
    """Two nets: on the first fastcnn is twice as fast as the best peer, on the second half; jax ran one."""

    def result(net, runner, *rounds):
        return Result("train", net, 64, runner, flops=1e9, rounds=list(rounds), peaks=[100.0] * len(rounds))

    return [
        result("lenet5", "fastcnn", 20, 25, 21),
        result("lenet5", "keras", 41, 42, 50),
        result("lenet5", "jax", 90, 90, 90),
        result("vgg11", "fastcnn", 400, 410, 390),
        result("vgg11", "keras", 200, 220, 180),
    ]


def test_table_of_a_comparison():
    head, _, lenet, vgg = report.table(results(), 100.0).splitlines()
    assert head == "| net (batch) | fastcnn | keras | jax | best peer | speed-up | of peak |"
    assert lenet == (
        "| lenet5 (64) | 21.00 (20.00 to 25.00) | 42.00 (41.00 to 50.00) | 90.00 (90.00 to 90.00) "
        "| keras | 2.00x | 48% |"
    )
    assert vgg == (
        "| vgg11 (64) | 400.00 (390.00 to 410.00) | 200.00 (180.00 to 220.00) | - | keras | 0.50x | 2% |"
    )


def test_losing_cases_are_named():
    assert "Slower than the best peer: vgg11 (train)." in report.markdown(results(), {"threads": 2})
    assert "Slower" not in report.markdown(results()[:3], {"threads": 2})


def test_disturbed_comparison_says_so():
    quiet, disturbed = results(), results()
    for result in disturbed:
        result.peaks = [200.0, 90.0, 100.0]
    assert "100 GFLOP/s" in report.markdown(quiet, {}) and "not quiet" not in report.markdown(quiet, {})
    assert "200 GFLOP/s" in report.markdown(disturbed, {}) and "not quiet" in report.markdown(disturbed, {})
    assert "| 24% |" in report.markdown(disturbed, {})  # of the best peak


def test_table_of_peers_alone():
    rows = report.table(results()[1:3], None).splitlines()
    assert rows[2].endswith("| keras | - | - |")


def test_saved_files(tmp_path):
    args = argparse.Namespace(out=str(tmp_path / "r.json"), plot=None, rounds=3)
    versus.save(results(), {"threads": 2}, args)
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["results"][0]["median_ms"] == 21 and data["results"][0]["max_ms"] == 25
    assert data["settings"]["rounds"] == 3
    assert "| lenet5 (64) |" in (tmp_path / "r.md").read_text()


# -- the kernels' benchmarks


def test_row_of_a_benchmark():
    row = Row("conv2d", "GFLOP/s", work=2e9, best=0.02, typical=0.04, limits=[100.0, 80.0, 200.0], quiet=50.0)
    assert (row.rate, row.share, row.best_share) == pytest.approx((50.0, 0.5, 0.5))
    assert not row.steady
    assert table([row])[1].split() == [
        "conv2d",
        "40.000",
        "20.000",
        "50.0",
        "GFLOP/s",
        "50%",
        "50%",
        "200.0",
        "~",
    ]


def test_prepared_work_repeats_the_operation():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 5, 5, 3), np.float32), rng.standard_normal((3, 3, 3, 4), np.float32)
    kept = []
    run = prepare(lambda *args: kept.append(ops.conv2d(*args)), x, w)
    expected = kept[0].copy()
    kept[0][...] = np.nan
    run()
    assert (kept[0] == expected).all()


def test_prepare_wants_an_operation_of_the_engine():
    with pytest.raises(ValueError, match="abs ran no program"):
        prepare(abs, -1)


@pytest.mark.parametrize("isa", _cpu.isas())
def test_multiply_add_loop_counts_its_work(isa):
    before = _cpu.isa()
    try:
        _cpu.select_isa(isa)
        _, rows, columns = _cpu.tile_sizes()
        loop = FmaLoop(1000, 2)
        assert loop.flops == 2 * 1000 * 2 * rows * columns
        run_op(loop)
        assert FmaProbe(1, seconds=1e-4)() > 0
    finally:
        _cpu.select_isa(before)


def test_copy_loop_copies():
    source, target = np.arange(96, dtype=np.uint8), np.zeros(96, np.uint8)
    run_op(CopyLoop(source, target, 6))
    assert (source == target).all()
    assert copy_bandwidth(1, megabytes=1, runs=1) > 0


def test_probes_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="threads"):
        FmaProbe(_cpu.get_num_threads() + 1)
    with pytest.raises(ValueError, match="multiple of 7"):
        CopyLoop(np.zeros(96, np.uint8), np.zeros(96, np.uint8), 7)
    with pytest.raises(ValueError, match="sizes differ"):
        CopyLoop(np.zeros(96, np.uint8), np.zeros(48, np.uint8), 6)
    with pytest.raises(ValueError, match="at least one"):
        FmaLoop(0, 1)
