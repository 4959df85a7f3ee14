"""Single predictions and steps: what lies between the user's call and the engine, and that it is little."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L
from fastcnn import zoo
from fastcnn.kernels._executor import run_op
from fastcnn.kernels._load import Load, all_finite, class_labels
from fastcnn.kernels._op import Tensor
from fastcnn.plan import plan

X = np.random.default_rng(0).random((7, 28, 28, 1), np.float32)


@pytest.fixture
def model():
    made = zoo.lenet5()
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


def python_calls(function) -> int:
    """Function calls, of Python and of C, that one call makes."""
    count = 0

    def hook(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(hook)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_little_python_runs_for_a_prediction_or_a_step(model):
    x, y = X[:1], np.array([3])
    for call, most in ((lambda: model(x), 70), (lambda: model.predict(x), 60),
                       (lambda: model.train_on_batch(x, y), 110)):
        call()
        assert python_calls(call) <= most
    few, many = (python_calls(lambda n=n: model.fit(X[:n], np.zeros(n), batch_size=1, verbose=0)) for n in (2, 7))
    assert (many - few) / 5 <= 50  # of a batch


def test_one_batch_or_many_are_the_same_predictions(model):
    want = model.predict(X, batch_size=3)
    assert model.predict(X).tobytes() == model(X).tobytes() == want.tobytes()
    assert model.predict(X, verbose=2).tobytes() == want.tobytes()


def test_predictions_do_not_share_memory(model):
    first = model(X)
    kept = first.copy()
    model(X[::-1])
    assert (first == kept).all()
    first[...] = 0
    assert (model(X) == kept).all()


def test_predictions_follow_the_weights(model):
    before = model(X)
    model.layers[0].variables[0].value[...] *= 2
    changed = model(X)
    assert (changed != before).any() and (model.predict(X) == changed).all()
    other = fc.Sequential(model.layers[:-1])  # takes the weights over into its own memory
    other(X)
    other.layers[0].variables[0].assign(other.layers[0].variables[0].value / 2)
    assert model(X).tobytes() == before.tobytes()


def test_a_weight_added_or_replaced_is_seen():
    class Scale(L.Layer):
        def build(self, input_shape):
            self.add_weight((1,), "ones", "factor")

        def forward(self, x, training):
            return x * self.variables[0].value

    scale = Scale()
    model = fc.Sequential([L.Dense(2, input_shape=(3,)), scale])
    x = np.ones((1, 3))
    before = model(x)
    scale.variables.clear()
    scale.add_weight((1,), "zeros", "other")
    assert (before != 0).any() and (model(x) == 0).all()
    scale.add_weight((4,), "zeros", "more")
    model(x)
    assert len(model._store.variables) == 4
    scale.variables.pop()
    model(x)
    assert len(model._store.variables) == 3


def test_small_plans_stay_on_one_thread(model, monkeypatch, two_threads):
    both = model(X[:3])
    assert model._plan("predict", 3).program.threads == 2
    monkeypatch.setattr(plan, "SERIAL_WORK", 3 * plan.work_of(model.graph) + 1)
    twin = zoo.lenet5()
    twin.set_weights(model.get_weights())
    assert twin(X[:3]).tobytes() == both.tobytes()
    assert [twin._plan("predict", n).program.threads for n in (3, 4)] == [1, 2]
    twin.compile("sgd", "mse")
    for n, threads in ((1, 1), (2, 2)):  # a step makes three passes
        twin.train_on_batch(X[:n], np.zeros((n, 10)))
        assert twin._plan("train", n).program.threads == threads


def test_work_counts_operations_and_values():
    x = fc.Input((4, 4, 2))
    graph = fc.Model(x, L.MaxPooling2D(4)(L.Conv2D(3, 1)(x))).graph
    values = 4 * 4 * 3 + 3
    assert plan.work_of(graph) == 2 * 4 * 4 * 2 * 3 + 16 * 3 + plan.VALUE_WORK * values


# -- loading a batch


def load() -> tuple[Load, np.ndarray]:
    target = np.full((2, 3, 1, 2), np.nan, np.float32)
    return Load(Tensor(target.shape, target)), target


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_load_takes_samples_by_number_or_in_a_row(dtype):
    source = np.arange(5 * 6).reshape(5, 3, 1, 2).astype(dtype)
    op, target = load()
    op.point_at(source, first=3)
    run_op(op)
    assert (target == source[3:]).all()
    op.point_at(source, np.array([4, 0]))
    run_op(op)
    assert (target == source[[4, 0]]).all()


@pytest.mark.parametrize("source", [np.zeros((5, 3, 1, 2), np.float16), np.zeros((5, 3, 1, 2), ">f4"),
                                    np.zeros((5, 3, 1, 2), bool), np.zeros((10, 3, 1, 2), np.float32)[::2],
                                    np.zeros((5, 3, 1, 2), np.complex64)])
def test_load_refuses_what_it_cannot_read(source):
    with pytest.raises(ValueError, match="contiguous array of .'float32', 'uint8', 'float64'., got"):
        load()[0].point_at(source)


@pytest.mark.parametrize("samples", [np.zeros(2, np.int32), np.zeros(3, np.intp), np.zeros(4, np.intp)[::2],
                                     np.zeros(2, np.uint64)])
def test_load_refuses_other_indices(samples):
    with pytest.raises(ValueError, match="2 intp indices"):
        load()[0].point_at(np.zeros((5, 3, 1, 2), np.float32), samples)


@pytest.mark.parametrize("where", [{"samples": np.array([0, 5])}, {"samples": np.array([-1, 0])}, {"first": 4},
                                   {"first": -1}])
def test_load_checks_the_range(where):
    with pytest.raises(IndexError, match="out of range"):
        load()[0].point_at(np.zeros((5, 3, 1, 2), np.float32), **where)


def test_load_wants_samples_of_its_size():
    with pytest.raises(ValueError, match="samples of 6 numbers"):
        load()[0].point_at(np.zeros((5, 3, 2, 2), np.float32))


# -- looking at a batch


@pytest.mark.parametrize("size", [0, 1, 3, 4, 15, 16, 17, 31, 64, 65, 150])
def test_one_value_that_is_not_finite_is_seen(isa, size):
    largest = np.finfo(np.float32).max
    for values in (np.zeros(size, np.float32), np.full(size, largest), np.full(size, -largest), -np.zeros(size)):
        values = values.astype(np.float32)
        framed = np.full(size + 2, np.nan, np.float32)  # what lies before and after does not count
        framed[1:-1] = values
        assert all_finite(framed[1:-1]) is True
        for at in range(size):
            for value in (np.nan, -np.nan, np.inf, -np.inf):
                framed[1 + at] = value
                assert all_finite(framed[1:-1]) is False, (at, value)
            framed[1 + at] = values[at]


@pytest.mark.parametrize("values", [np.zeros(4), np.zeros((4, 4), np.float32)[:, :2], np.zeros(4, np.uint8)])
def test_only_plain_floats_are_looked_at(values):
    with pytest.raises(ValueError, match="contiguous array of float32"):
        all_finite(values)


@pytest.mark.parametrize("dtype", [np.intp, np.int32, np.uint8])
def test_labels_of_known_classes(dtype):
    labels = np.array([[0, 4], [3, 1]], dtype)
    got = class_labels(labels, 5)
    assert got.dtype == np.int32 and (got == labels).all() and not np.shares_memory(got, labels)
    assert class_labels(labels, 4) is None
    assert (class_labels(labels, 4, 4) == labels).all()
    assert class_labels(labels, 4, 5) is None
    assert class_labels(np.zeros((0, 2), dtype), 5).shape == (0, 2)


@pytest.mark.parametrize("labels", [np.array([0, -1]), np.array([2**32]), np.array([-2**63]), np.array([0.0]),
                                    np.array([True]), np.zeros(4, int)[::2], np.array([1], ">i8")])
def test_labels_that_need_a_closer_look(labels):
    assert class_labels(labels, 5) is None


def test_an_ignored_label_may_be_negative():
    assert (class_labels(np.array([-1, 2]), 3, -1) == [-1, 2]).all()
    assert class_labels(np.array([-1, 2]), 3) is None
