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
from bench.versus.nets import (
    NETS,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Flatten,
    MaxPool,
    Net,
    Relu,
    Sketch,
    UpSample,
    chain,
)
from bench.versus.report import Result
from fastcnn import ops, reference
from fastcnn.kernels import _cpu
from fastcnn.kernels._executor import run_op
from fastcnn.kernels._probe import CopyLoop, FmaLoop
from fastcnn.kernels.probe import FmaProbe, copy_bandwidth

TINY = Net(
    "tiny",
    (6, 6, 2),
    3,
    chain(Conv(4, 3, padding=1), Relu(), MaxPool(2, 2), Conv(3, 2), Relu(), Flatten(), Dense(5)),
)


def forked() -> Net:
    """One of each layer that TINY has not; scores for each pixel."""
    g = Sketch()
    x = g.chain(0, Conv(4, 3, strides=2, padding=1, bias=False), BatchNorm(), Relu())
    y = g(Add(), x, g(DepthwiseConv(3, padding=1), x))
    up = g(UpSample(2), y)
    g.chain(g(Concat(), 0, up), Conv(3, 1))
    return Net("forked", (6, 6, 2), 3, tuple(g.nodes))


class Fake:
    """A runner that only remembers what it was asked; its loss falls by one per step."""

    version = "fake 1.0"

    def __init__(self, *_):
        self.calls = []

    def loss(self, i):
        return 10.0 - len(self.calls)

    def train(self, i):
        self.calls.append(("train", i))
        return 11.0 - len(self.calls)

    def predict_one(self, i):
        self.calls.append(("predict_one", i))

    def epoch(self, images, labels):
        self.calls.append(("epoch", images.shape, labels.shape))


# -- networks

# Parameters: as published for LeNet-5 and AlexNet (torchvision) and, with running means and variances added, for
# the residual networks and MobileNet; else by hand. FLOPs of one sample, forward.
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
    "resnet20": (
        272_474 + 2 * 784,
        2
        * (
            32 * 32 * 9 * (3 * 16 + 6 * 16 * 16)
            + 16 * 16 * (9 * 16 * 32 + 9 * 5 * 32 * 32 + 16 * 32)
            + 8 * 8 * (9 * 32 * 64 + 9 * 5 * 64 * 64 + 32 * 64)
            + 640
        ),
    ),
    "resnet18": (
        11_173_962 + 2 * 4800,
        2
        * (
            32 * 32 * 9 * (3 * 64 + 4 * 64 * 64)
            + 16 * 16 * (9 * 64 * 128 + 9 * 3 * 128 * 128 + 64 * 128)
            + 8 * 8 * (9 * 128 * 256 + 9 * 3 * 256 * 256 + 128 * 256)
            + 4 * 4 * (9 * 256 * 512 + 9 * 3 * 512 * 512 + 256 * 512)
            + 5120
        ),
    ),
    "mobilenet": (
        3_217_226 + 2 * 10_944,
        2
        * (
            32 * 32 * (27 * 32 + 9 * 32 + 32 * 64)
            + 16 * 16 * (9 * (64 + 128) + 64 * 128 + 128 * 128)
            + 8 * 8 * (9 * (128 + 256) + 128 * 256 + 256 * 256)
            + 4 * 4 * (9 * (256 + 5 * 512) + 256 * 512 + 5 * 512 * 512)
            + 2 * 2 * (9 * (512 + 1024) + 512 * 1024 + 1024 * 1024)
            + 10_240
        ),
    ),
    "unet": (
        2_140_674,
        2
        * (
            64 * 64 * 9 * (3 * 32 + 32 * 32 + 64 * 32 + 64 * 32 + 32 * 32)
            + 32 * 32 * 9 * (32 * 64 + 64 * 64 + 128 * 64 + 128 * 64 + 64 * 64)
            + 16 * 16 * 9 * (64 * 128 + 128 * 128 + 256 * 128 + 256 * 128 + 128 * 128)
            + 8 * 8 * 9 * (128 * 256 + 256 * 256)
            + 64 * 64 * 64
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
    assert [[w.shape for w in arrays] for arrays in weights if arrays] == [
        [(3, 3, 2, 4), (4,)],
        [(2, 2, 4, 3), (3,)],
        [(12, 5), (5,)],
    ]
    flat, flat_again = ([w for arrays in every for w in arrays] for every in (weights, again))
    assert sum(w.size for w in flat) == TINY.parameters
    assert all(w.dtype == np.float32 and (w == v).all() for w, v in zip(flat, flat_again, strict=True))
    assert (flat[0] != TINY.weights(8)[0][0]).any()
    (x, y), (other, _) = TINY.batches(2)
    assert x.shape == (3, 6, 6, 2) and y.shape == (3,) and y.min() >= 0 and y.max() < 5
    assert (x != other).any()
    images, labels = TINY.raw_images(7)
    assert images.dtype == np.uint8 and images.shape == (7, 6, 6, 2) and labels.shape == (7,)


def test_a_network_that_is_no_chain():
    net = forked()
    assert not net.is_chain and TINY.is_chain
    assert net.shapes[1:] == [*[(3, 3, 4)] * 5, (6, 6, 4), (6, 6, 6), (6, 6, 3)]
    assert [[w.shape for w in arrays] for arrays in net.weights()] == [
        [(3, 3, 2, 4)],
        [(4,)] * 4,
        [],
        [(3, 3, 4, 1)],
        [],
        [],
        [],
        [(1, 1, 6, 3), (3,)],
    ]
    first = 2 * 3 * 3 * 9 * 2 * 4
    assert net.predict_flops() == first + 2 * 3 * 3 * 9 * 4 + 2 * 36 * 6 * 3
    assert net.train_flops() == 3 * net.predict_flops() - first
    assert net.batches(1)[0][1].shape == (3, 6, 6)  # a label for each pixel


def test_evaluation_reads_the_right_values_and_keeps_none_too_long():
    net = forked()
    alive: set[int] = set()

    class Traced:
        def __init__(self, value):
            self.value = value
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    most = 0

    def apply(k, layer, *inputs):
        nonlocal most
        assert [x.value for x in inputs] == list(net.nodes[k].inputs)
        made = Traced(k + 1)
        most = max(most, len(alive))
        return made

    assert net.evaluate(Traced(0), apply).value == len(net.nodes)
    assert most == 4  # the image, what Add reads, what it makes


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_relu_is_the_only_reader_of_its_input(net):
    """PyTorch's runner lets it overwrite its input."""
    readers = [i for node in net.nodes for i in node.inputs]
    assert all(readers.count(node.inputs[0]) == 1 for node in net.nodes if isinstance(node.layer, Relu))


# -- runners


def test_fastcnn_runner_against_the_reference():
    run_fastcnn = pytest.importorskip("bench.versus.runners.run_fastcnn")
    weights, batches = TINY.weights(), TINY.batches(1)
    runner = run_fastcnn.FastCNN(TINY, weights, batches, threads=1)
    (x, y), (w1, b1, w2, b2, w3, b3) = batches[0], (w for arrays in weights for w in arrays)
    hidden = np.maximum(reference.conv2d(x, w1, b1, padding=1), 0)
    hidden = np.maximum(reference.conv2d(reference.max_pool2d(hidden, 2), w2, b2), 0)
    logits = reference.dense(hidden.reshape(3, -1), w3, b3)
    expected = -reference.log_softmax(logits)[np.arange(3), y].mean()
    assert runner.loss(0) == pytest.approx(expected, rel=1e-5)
    assert runner.train(0) == pytest.approx(expected, rel=1e-5)
    for _ in range(20):
        runner.train(0)
    assert runner.loss(0) < 0.9 * expected
    runner.predict(0)
    runner.predict_one(0)
    before = runner.loss(0)
    runner.epoch(*TINY.raw_images(8))
    assert runner.loss(0) != before  # the same weights learn from bytes
    runner.epoch_loader(*TINY.raw_images(8))


# -- the talk between processes


def talk(make_runner, *requests):
    lines, replies = io.StringIO("".join(json.dumps(r) + "\n" for r in requests)), io.StringIO()
    worker.serve(lambda: worker.Desk(make_runner, TINY, 1), lines, replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_worker_answers():
    fake = Fake()
    hello, checked, timed, epoch, memory = talk(
        lambda *_: fake,
        {"do": "check"},
        {"do": "time", "what": "predict-one", "steps": 6, "warmup": 3, "seconds": 60},
        {"do": "epoch", "what": "epoch", "images": 20},
        {"do": "memory", "steps": 2},
    )
    assert hello == {"version": "fake 1.0", "jobs": ["train", "predict-one", "epoch"]}
    assert checked == {"losses": [10.0, 10.0, 9.0, 9.0, 8.0, 8.0, 7.0]}
    assert len(timed["seconds"]) == 6 and min(timed["seconds"]) >= 0
    assert fake.calls[:3] == [("train", 0), ("train", 1), ("train", 2)]
    assert [call for call, _ in fake.calls[3:12]] == ["predict_one"] * 9
    # Three batches of 3 and the last of 2 before the whole, so that every size has been seen.
    assert fake.calls[12:14] == [("epoch", (n, 6, 6, 2), (n,)) for n in (11, 20)]
    assert len(epoch["seconds"]) == 1 and memory["megabytes"] >= 0
    assert fake.calls[14:] == [("train", 0), ("train", 1)]


def test_peak_memory_grows_with_use():
    before = worker.peak_megabytes()
    kept = np.ones(64 << 18)
    assert worker.peak_megabytes() - before > 64 and kept[0] == 1


def test_worker_stops_early_when_steps_are_slow():
    assert (
        len(
            talk(Fake, {"do": "time", "what": "train", "steps": 50, "warmup": 50, "seconds": 0})[1]["seconds"]
        )
        == 5
    )


def test_worker_says_what_is_missing():
    def fail(*_):
        raise ImportError("No module named 'torch'")

    assert talk(fail) == [{"missing": "ImportError: No module named 'torch'"}]


SCRIPT = """
import sys
sys.path.insert(0, "")
from bench.versus import worker
from tests.test_bench import TINY, Fake
worker.serve(lambda: worker.Desk({make}, TINY, 1), sys.stdin, sys.stdout)
"""


def test_client_and_worker_process():
    process = Worker("fake", [sys.executable, "-c", SCRIPT.format(make="Fake")])
    assert process.version == "fake 1.0"
    assert process.jobs == ["train", "predict-one", "epoch"]
    assert process.ask("check")["losses"][0] == 10.0
    with pytest.raises(WorkerError, match="(?s)fake ended with code 1.*no_such_thing"):
        process.ask("no_such_thing")
    process.close()


def test_client_of_a_missing_framework():
    with pytest.raises(Missing, match="no_such_framework"):
        Worker("fake", [sys.executable, "-c", SCRIPT.format(make="lambda *_: __import__('no_such_framework')")])


# -- the comparison


class Asked:
    """A worker's remote control without a worker."""

    def __init__(self, order, name, ms, jobs=worker.JOBS):
        self.order, self.name, self.ms, self.jobs = order, name, ms, jobs

    def ask(self, do, what, **_):
        self.order.append((what, self.name))
        return {"seconds": [self.ms / 1e3, 1.0, 0.0]}


def test_runners_take_turns(monkeypatch):
    monkeypatch.setattr(versus, "SETTLE_SECONDS", 0)
    args = versus.arguments(["--what", "train", "predict", "--rounds", "2"])
    order = []
    workers = {"fastcnn": Asked(order, "fastcnn", 2), "jax": Asked(order, "jax", 4)}
    results = versus.compare(TINY, workers, args, lambda: 100.0)
    turn = [("train", "fastcnn"), ("train", "jax"), ("predict", "fastcnn"), ("predict", "jax")]
    assert order == 2 * turn
    assert [(r.what, r.runner, r.rounds) for r in results[:2]] == [
        ("train", "fastcnn", [2, 2]),
        ("train", "jax", [4, 4]),
    ]
    assert results[0].flops == 3 * TINY.train_flops() and results[0].peaks == [100.0, 100.0]


def test_epochs_are_for_images_like_those_of_mnist_and_for_those_who_can(monkeypatch):
    monkeypatch.setattr(versus, "SETTLE_SECONDS", 0)
    args = versus.arguments(["--what", "epoch", "epoch-loader", "--rounds", "1", "--images", "500"])
    workers = {"fastcnn": Asked([], "fastcnn", 2), "jax": Asked([], "jax", 4, jobs=["epoch"])}
    results = versus.compare(NETS["lenet5"], workers, args, None)
    assert [(r.what, r.runner) for r in results] == [
        ("epoch", "fastcnn"),
        ("epoch", "jax"),
        ("epoch-loader", "fastcnn"),
    ]
    assert results[0].batch == 500 and results[0].rounds == [0.002]  # seconds
    assert results[0].flops == 500 * NETS["lenet5"].train_flops()
    assert not versus.compare(TINY, workers, args, None)


def test_policy_reaches_fastcnn_alone(monkeypatch):
    started = []
    monkeypatch.setattr(versus, "start", lambda name, net, threads, python, variables: started.append(variables))
    args = versus.arguments(["--policy", "direct"])
    for name in ("fastcnn", "jax"):
        versus.start_one(name, "lenet5", args)
    assert started == [{"FASTCNN_ALGORITHM_POLICY": "direct"}, {}]


def test_runner_that_cannot_be_made_is_left_out(monkeypatch):
    def start(name, *_):
        if name == "jax":
            raise Missing("ImportError: No module named 'jax'")
        return name

    monkeypatch.setattr(versus, "start", start)
    notes: list[str] = []
    args = versus.arguments(["--peers", "jax", "keras"])
    assert versus.start_all(args, "lenet5", notes) == {"fastcnn": "fastcnn", "keras": "keras"}
    assert notes == ["jax is left out of lenet5: ImportError: No module named 'jax'"]


def test_different_losses_stop_the_comparison():
    versus.agree("tiny", {"fastcnn": [2.0, 2.0, 1.0], "keras": [2.00001, 2.0, 1.01], "jax": [2.0, 2.0, 1.0]})
    with pytest.raises(SystemExit, match="after 0 steps"):
        versus.agree("tiny", {"fastcnn": [2.001, 1.0], "keras": [2.0, 1.0], "jax": [2.0, 1.0]})
    with pytest.raises(SystemExit, match="after 0 steps"):  # in training
        versus.agree("tiny", {"fastcnn": [2.0, 1.001], "keras": [2.0, 1.0], "jax": [2.0, 1.0]})
    with pytest.raises(SystemExit, match="(?s)after 1 steps.*fastcnn"):
        versus.agree("tiny", {"fastcnn": [2.0, 2.0, 1.1], "keras": [2.0, 2.0, 1.0], "jax": [2.0, 2.0, 1.0]})
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
    assert head == "| net (batch) | fastcnn | keras | jax | best peer | ratio | of peak |"
    assert lenet == (
        "| lenet5 (64) | 21.0 (20.0 to 25.0) | 42.0 (41.0 to 50.0) | 90.0 (90.0 to 90.0) "
        "| keras | 2.00x | 48% |"
    )
    assert vgg == "| vgg11 (64) | 400 (390 to 410) | 200 (180 to 220) | - | keras | 0.50x | 2% |"


def test_memory_has_no_share_of_the_peak():
    used = [Result("memory", "lenet5", 64, name, rounds=[size]) for name, size in (("fastcnn", 9.5), ("jax", 38))]
    assert report.table(used, 100.0).splitlines()[2] == "| lenet5 (64) | 9.50 | 38.0 | jax | 4.00x | - |"
    assert "of a training step, less that of the import**, MB" in report.markdown(used, {})


def test_epoch_is_in_seconds():
    epoch = Result("epoch", "lenet5", 100, "fastcnn", flops=5e9, rounds=[0.5])
    assert report.table([epoch], 100.0).splitlines()[2] == "| lenet5 (100) | 0.500 | - | - | 10% |"


@pytest.mark.parametrize(
    "value, text", [(0.0123, "0.0123"), (0.5, "0.500"), (9.876, "9.88"), (1234.5, "1234"), (0, "0")]
)
def test_three_digits(value, text):
    assert report.number(value) == text


def test_losing_cases_are_named():
    assert "Worse than the best peer: vgg11 (train)." in report.markdown(results(), {"threads": 2})
    assert "Worse" not in report.markdown(results()[:3], {"threads": 2})


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
    versus.save(results(), {"threads": 2}, ["jax is left out"], args)
    data = json.loads((tmp_path / "r.json").read_text())
    first = data["results"][0]
    assert (first["unit"], first["median"], first["max"]) == ("ms", 21, 25)
    assert data["notes"] == ["jax is left out"]
    assert data["settings"]["rounds"] == 3
    assert "| lenet5 (64) |" in (tmp_path / "r.md").read_text()


def test_plot_of_a_comparison(tmp_path):
    pytest.importorskip("matplotlib")
    memory = Result("memory", "lenet5", 64, "jax", rounds=[100.0])
    report.plot([*results(), memory], tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 10_000


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
