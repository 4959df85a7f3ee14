"""fastcnn.data.Dataset: which examples come, in which order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn.random
from fastcnn.data import Dataset

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)


def labels(dataset: Dataset) -> list[list[int]]:
    return [y.tolist() for _, y in dataset]


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"),
    [(3, False, [3, 3, 3, 1]), (3, True, [3, 3, 3]), (5, True, [5, 5]), (64, False, [10]), (64, True, [])],
)
def test_batches_cover_the_examples_in_order(batch_size, drop_last, sizes):
    dataset = Dataset(X, Y, batch_size=batch_size, drop_last=drop_last)
    batches = list(dataset)
    assert [len(x) for x, _ in batches] == sizes
    assert len(dataset) == len(sizes)
    assert dataset.num_samples == 10
    seen = np.concatenate([y for _, y in batches]) if batches else np.empty(0)
    np.testing.assert_array_equal(seen, Y[: sum(sizes)])
    for x, y in batches:
        np.testing.assert_array_equal(x, X[y])
    assert labels(dataset) == [y.tolist() for _, y in batches]  # a second loop sees the same


def test_shuffle_visits_each_example_once_and_keeps_pairs():
    dataset = Dataset(X, Y, batch_size=4, shuffle=True, seed=1)
    epochs = []
    for _ in range(2):
        batches = list(dataset)
        for x, y in batches:
            np.testing.assert_array_equal(x, X[y])
        epochs.append(np.concatenate([y for _, y in batches]))
        assert sorted(epochs[-1]) == list(range(10))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], Y)


def test_orders_follow_from_the_seed():
    def two_epochs(seed):
        dataset = Dataset(X, Y, shuffle=True, seed=seed)
        return labels(dataset) + labels(dataset)

    assert two_epochs(7) == two_epochs(7)
    assert two_epochs(7) != two_epochs(8)


def test_without_seed_the_global_generator_decides():
    dataset = Dataset(X, Y, shuffle=True)
    fastcnn.random.seed(3)
    first = labels(dataset)
    second = labels(dataset)
    fastcnn.random.seed(3)
    assert labels(dataset) == first
    assert first != second


def test_without_y_the_second_of_the_pair_is_none():
    assert [(len(x), y) for x, y in Dataset(X, batch_size=8)] == [(8, None), (2, None)]


def test_several_inputs_and_outputs_are_lists():
    (xs, ys) = next(iter(Dataset([X, X + 1], [Y, -Y], batch_size=3)))
    np.testing.assert_array_equal(xs[1], X[:3] + 1)
    np.testing.assert_array_equal(ys[1], [0, -1, -2])


def test_a_list_of_numbers_is_one_array():
    assert labels(Dataset([[1.0], [2.0], [3.0]], [4, 5, 6], batch_size=2)) == [[4, 5], [6]]


def test_transform_may_change_its_batches_in_place():
    x = X.copy()

    def double(x_batch, y_batch):
        x_batch *= 2
        return x_batch, y_batch + 100

    batches = list(Dataset(x, Y, batch_size=10, transform=double))
    np.testing.assert_array_equal(batches[0][0], 2 * X)
    np.testing.assert_array_equal(batches[0][1], Y + 100)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": X, "y": Y[:9]}, ValueError, ["x has 10", "y has 9"]),
        ({"x": [X, X[:4]], "y": Y}, ValueError, ["x[0] has 10", "x[1] has 4"]),
        ({"x": np.float32(1)}, ValueError, ["x", "single value"]),
        ({"x": X, "batch_size": 0}, ValueError, ["batch_size", "0"]),
        ({"x": X, "batch_size": -3}, ValueError, ["batch_size", "-3"]),
        ({"x": X, "batch_size": 2.5}, TypeError, ["batch_size", "2.5"]),
        ({"x": X, "transform": "flip"}, TypeError, ["transform", "str"]),
    ],
)
def test_wrong_arguments(arguments, error, words):
    with pytest.raises(error) as caught:
        Dataset(**arguments)
    assert all(word in str(caught.value) for word in ["Dataset", *words])


def test_transform_that_forgets_to_return():
    with pytest.raises(TypeError, match="must return the pair .* got NoneType"):
        next(iter(Dataset(X, Y, transform=lambda x, y: None)))
