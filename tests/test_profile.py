"""Profiles: every op's time in one row, operations and bytes from shapes, and nothing learned meanwhile."""

from __future__ import annotations

import json
from math import prod

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import cli, profiling
from fastcnn import layers as L
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._probe import FmaLoop
from fastcnn.kernels.probe import _fma_program

N = 6


@pytest.fixture(autouse=True)
def known_limits(monkeypatch):
    """Measuring them takes longer than all tests here."""
    monkeypatch.setattr(profiling, "fma_peak", lambda threads, bursts: 100.0)
    monkeypatch.setattr(profiling, "copy_bandwidth", lambda threads, megabytes: 10.0)


@pytest.fixture
def model():
    made = fc.Sequential([L.Conv2D(8, 3, padding="same", activation="relu", input_shape=(8, 8, 3), name="first"),
                          L.MaxPooling2D(2, name="pool"), L.Dropout(0.1),
                          L.Conv2D(5, 3, activation="tanh", name="second"), L.Flatten(name="flat"),
                          L.Dense(4, activation="softmax", name="last")])
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((N, 8, 8, 3), np.float32), rng.integers(0, 4, N)


FLOPS = {"first": 2 * 8 * 8 * 8 * 27, "second": 2 * 2 * 2 * 5 * 72, "last": 2 * 20 * 4}


# -- times of ops in the executor


def test_program_times_each_op():
    loops = [FmaLoop(2_000, 2), FmaLoop(200_000, 2)]
    program = Program([Stage([loops[0]], 2), Stage(loops[::-1], 2)])
    assert program.n_ops == 3 and program.times is None
    program.times = np.zeros((fc.get_num_threads(), 3), np.int64)
    program.run()
    once = program.times.sum(axis=0)
    assert (once > 0).all()
    assert once[1] > 10 * max(once[0], once[2])  # a hundred times the work
    program.run(1)
    assert program.times.sum(axis=0)[0] == once[0]  # the first stage was not run
    assert (program.times.sum(axis=0)[1:] > once[1:]).all()  # added up
    kept = program.times
    program.times = None
    before = kept.copy()
    program.run()
    assert (kept == before).all()


@pytest.mark.parametrize("times", [np.zeros((1, 2), np.int64), np.zeros((1, 1), np.int32), np.zeros(1, np.int64),
                                   np.zeros((2, 2), np.int64)[:, ::2]])
def test_program_refuses_other_arrays(times):
    program, _ = _fma_program(10, 1)
    with pytest.raises(ValueError, match="contiguous int64 array"):
        program.times = times


def test_program_wants_a_row_per_thread():
    before = fc.get_num_threads()
    try:
        fc.set_num_threads(3)
        program, _ = _fma_program(10, 3)
        program.times = np.zeros((2, 1), np.int64)
        with pytest.raises(ValueError, match="rows for 2 threads, 3 are running"):
            program.run()
    finally:
        fc.set_num_threads(before)


# -- rows


def test_rows_of_a_training_step(model, data):
    profile = model.profile(*data, repeats=3)
    rows = {(row.layer, row.pass_): row for row in profile.rows}
    assert len(rows) == len(profile.rows)
    for name, flops in FLOPS.items():
        passes = {pass_ for layer, pass_ in rows if layer == name and pass_ in profiling.PRODUCTS}
        assert passes == {"forward", "weight gradient"} | ({"input gradient"} if name != "first" else set())
        for pass_ in passes:
            row = rows[name, pass_]
            assert row.flops == N * flops and row.algorithm == "direct"
            assert row.gflops == pytest.approx(row.flops / row.ms / 1e6)
            assert row.peak_share == pytest.approx(row.gflops / 100)
    assert rows["second", "other"].algorithm == "eltwise"  # tanh, which is not part of the product
    assert {"loss", "adam"} <= {row.layer for row in profile.rows}
    assert profile.unlisted == ["pool", "flat"]
    assert profile.training and profile.batch_size == N and profile.threads == fc.get_num_threads()


def test_rows_add_up_to_the_step(model, data):
    profile = model.profile(*data, repeats=1)
    assert sum(row.ms for row in profile.rows) == pytest.approx(profile.total.ms, rel=1e-6)
    assert sum(row.share for row in profile.rows) == pytest.approx(1)
    assert all(row.ms >= 0 for row in profile.rows) and profile.rows[-1].layer == profiling.REST
    assert profile.total.flops == N * (2 * FLOPS["first"] + 3 * (FLOPS["second"] + FLOPS["last"]))


def test_bytes_of_a_prediction(model, data):
    rows = {(row.layer, row.pass_): row for row in model.profile(data[0]).rows}
    last = rows["last", "forward"]
    assert last.bytes == 4 * (N * (20 + 4) + 20 * 4 + 4)
    pooled = 4 * 4 * 8
    assert rows["first", "forward"].bytes == 4 * (N * (prod((8, 8, 3)) + pooled) + 27 * 8 + 8)
    assert not any("gradient" in pass_ for _, pass_ in rows)
    assert ("adam", "other") not in rows


def test_phases_of_a_strided_gradient_count_their_bytes_once(data):
    model = fc.Sequential([L.Conv2D(4, 1, input_shape=(8, 8, 3)), L.Conv2D(5, 3, strides=2, name="down"),
                           L.GlobalAveragePooling2D()])
    model.compile("sgd", "mse")
    rows = {(row.layer, row.pass_): row for row in model.profile(data[0], np.zeros((N, 5)), repeats=1).rows}
    assert rows["down", "input gradient"].bytes == 4 * (N * (8 * 8 * 4 + 3 * 3 * 5) + 9 * 4 * 5 + 5)


def test_layers_in_numpy_and_penalties_have_rows():
    class Twice(L.Layer):
        def forward(self, x, training):
            return 2 * x

        def backward(self, dy):
            return 2 * dy

    model = fc.Sequential([L.Dense(3, kernel_regularizer="l2", input_shape=(4,)), Twice(name="twice"), L.Dense(2)])
    model.compile(fc.optimizers.SGD(clipnorm=1.0), "mse")
    rows = {(row.layer, row.pass_): row for row in model.profile(np.ones((5, 4)), np.ones((5, 2)), repeats=1).rows}
    assert rows["twice", "forward"].algorithm == rows["twice", "backward"].algorithm == "numpy"
    assert rows["twice", "backward"].ms > 0 and rows["add_penalties", "other"].ms > 0


def test_layer_called_twice_counts_twice():
    x = fc.Input((4,))
    shared = L.Dense(4, name="shared")
    model = fc.Model(x, shared(shared(x)))
    rows = {(row.layer, row.pass_): row for row in model.profile(np.ones((3, 4))).rows}
    assert rows["shared", "forward"].flops == 2 * 3 * 2 * 4 * 4


# -- what it leaves behind


def test_algorithms_have_one_name_for_all_passes():
    """However many modules compute them."""
    x = fc.Input((24, 24, 32))
    y = L.Conv2D(32, 3, padding="same", algorithm="winograd", name="second")(L.Conv2D(32, 3, padding="same")(x))
    net = fc.Model(x, L.Dense(3)(L.Flatten()(y)))
    net.compile("sgd", "mse")
    rows = net.profile(np.ones((4, 24, 24, 32)), np.ones((4, 3)), batch_size=4).rows
    assert {row.algorithm for row in rows if row.layer == "second"} == {"winograd"}


def test_model_learns_nothing(model, data):
    model.train_on_batch(*data)
    before, iterations = model.get_weights(), model.optimizer.iterations
    slots = {name: slot.copy() for name, slot in model._store.slots.items()}
    counter = model._dropout_counter.copy()
    model.profile(*data, repeats=2)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert all((slots[name] == slot).all() for name, slot in model._store.slots.items())
    assert model.optimizer.iterations == iterations and (model._dropout_counter == counter).all()
    plan = model._plan("train", N)
    assert plan.program.times is None and all(isinstance(call, tuple) for call in plan.calls)


def test_model_is_as_before_when_profiling_fails(model, data, monkeypatch):
    def fail(plan):
        model._store.values[...] = 7
        raise RuntimeError("no luck")

    before = model.get_weights()
    monkeypatch.setattr(profiling.Plan, "run", fail)
    with pytest.raises(RuntimeError, match="no luck"):
        model.profile(*data)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


# -- what it shows


def test_printed_table(model, data):
    lines = str(model.profile(*data, batch_size=4, repeats=1)).splitlines()
    assert lines[0].startswith(f"{model.name}: training step, batch 4, ")
    assert lines[1] == "Multiply-add peak 100 GFLOP/s, copying 10.0 GB/s"
    assert lines[3].split() == ["layer", "pass", "algorithm", "ms", "share", "GFLOP/s", "of", "peak", "MB", "GB/s"]
    ends = {len(line) for line in lines[5:-2] if line[0] != "-"}
    assert len(ends) == 1  # aligned to the right
    assert lines[-2].startswith("total") and "100.0%" in lines[-2]
    assert lines[-1].startswith("In the row of the layer before: ")


def test_as_json(model, data):
    told = json.loads(json.dumps(model.profile(data[0], repeats=1).to_dict()))
    assert told["batch_size"] == N and told["peak"] == 100 and not told["training"]
    assert {"layer", "pass_", "ms", "share", "flops", "bytes", "gflops"} <= told["rows"][0].keys()


def test_roofline(model, data, tmp_path):
    pytest.importorskip("matplotlib")
    model.profile(*data, repeats=1).plot(tmp_path / "roof.svg")
    text = (tmp_path / "roof.svg").read_text()
    assert text.count("<!-- first -->") == 2 and text.count("<!-- second -->") == 3  # in the key, for each pass
    assert "<!-- multiply-add peak 100 GFLOP/s -->" in text


def test_roofline_needs_operations(tmp_path):
    pytest.importorskip("matplotlib")
    model = fc.Sequential([L.MaxPooling2D(2, input_shape=(4, 4, 1))])
    with pytest.raises(ValueError, match="nothing to plot"):
        model.profile(np.ones((1, 4, 4, 1))).plot(tmp_path / "roof.png")


@pytest.mark.parametrize("words, error, message", [
    ({"repeats": 0}, ValueError, "repeats must be a whole number of 1 or more"),
    ({"batch_size": 1.5}, TypeError, "batch_size must be a whole number"),
    ({"x": np.ones((0, 8, 8, 3))}, ValueError, "profile: the batch holds no samples"),
    ({"x": np.ones((2, 8, 8))}, ValueError, "profile: the model expects x of shape"),
    ({"y": np.zeros(5)}, ValueError, "same number of samples"),
])
def test_wrong_arguments(model, data, words, error, message):
    with pytest.raises(error, match=message):
        model.profile(**{"x": data[0], **words})


def test_command_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(profiling, "WARMUP_RUNS", 0)
    assert cli.main(["bench", "--profile", "--batch-size", "2"]) == 0
    out = capsys.readouterr().out
    assert "training step, batch 2" in out and "weight gradient" in out
