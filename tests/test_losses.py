"""Losses: values worked out by hand, gradients against differences, and the targets they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastcnn import losses
from fastcnn.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Hinge,
    Huber,
    KLDivergence,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

LOG = math.log


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred", "expected"),
    [
        (CategoricalCrossentropy(), [[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]],
         [-LOG(0.95), -LOG(0.1)]),
        (CategoricalCrossentropy(), [[0, 1]], [[3.0, 1.0]], [-LOG(0.25)]),  # rescaled to sum 1
        (CategoricalCrossentropy(), [[1, 0]], [[0.0, 1.0]], [-LOG(1e-7)]),  # clipped
        (CategoricalCrossentropy(from_logits=True), [[1, 0]], [[LOG(3.0), 0.0]], [-LOG(0.75)]),
        (CategoricalCrossentropy(from_logits=True), [[1, 0]], [[-1000.0, 0.0]], [1000.0]),
        (CategoricalCrossentropy(label_smoothing=0.2), [[1, 0]], [[0.75, 0.25]],
         [-0.9 * LOG(0.75) - 0.1 * LOG(0.25)]),
        (SparseCategoricalCrossentropy(), [1, 2], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]],
         [-LOG(0.95), -LOG(0.1)]),
        (SparseCategoricalCrossentropy(from_logits=True), [[0]], [[LOG(3.0), 0.0]], [-LOG(0.75)]),
        (SparseCategoricalCrossentropy(label_smoothing=0.2), [0], [[0.75, 0.25]],
         [-0.9 * LOG(0.75) - 0.1 * LOG(0.25)]),
        (BinaryCrossentropy(), [[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]],
         [-LOG(0.4), -(LOG(0.6) + LOG(0.4)) / 2]),
        (BinaryCrossentropy(), [1, 0], [[1.0], [1.0]], [1e-7, -LOG(1e-7)]),
        (BinaryCrossentropy(from_logits=True), [[1], [0], [0]], [[LOG(3.0)], [LOG(3.0)], [800.0]],
         [-LOG(0.75), -LOG(0.25), 800.0]),
        (BinaryCrossentropy(label_smoothing=0.2), [[1]], [[0.75]], [-0.9 * LOG(0.75) - 0.1 * LOG(0.25)]),
        (MeanSquaredError(), [[0, 1], [2, 2]], [[1, 3], [2, 2]], [2.5, 0]),
        (MeanAbsoluteError(), [[0, 1], [2, 2]], [[1, 3], [2, 2]], [1.5, 0]),
        (Huber(), [[0, 0]], [[0.5, -3.0]], [(0.125 + 2.5) / 2]),
        (Huber(delta=2.0), [[0, 0]], [[0.5, -3.0]], [(0.125 + 4.0) / 2]),
        (KLDivergence(), [[0.5, 0.5]], [[0.25, 0.75]], [0.5 * LOG(2) + 0.5 * LOG(2 / 3)]),
        (Hinge(), [[-1, 1]], [[0.5, 0.25]], [(1.5 + 0.75) / 2]),
        (Hinge(), [[0, 1]], [[0.5, 3.0]], [1.5 / 2]),
    ],
)  # fmt: skip
def test_values(loss, y_true, y_pred, expected):
    values = loss.per_sample(np.array(y_true), np.array(y_pred))
    assert values.dtype == np.float64 and values.shape == (len(y_true),)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-9)
    assert loss(y_true, np.array(y_pred, float)) == pytest.approx(np.mean(expected), rel=1e-6)


def test_maps_are_averaged_over_positions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (3, 5, 6))
    scores = rng.normal(size=(3, 5, 6, 4))
    loss = SparseCategoricalCrossentropy(from_logits=True)
    flat = loss.per_sample(labels.reshape(-1), scores.reshape(-1, 4)).reshape(3, -1)
    np.testing.assert_allclose(loss.per_sample(labels, scores), flat.mean(axis=1))
    np.testing.assert_allclose(loss.per_sample(labels[..., None], scores), flat.mean(axis=1))


def test_sample_weights_divide_by_the_number_of_samples():
    mse = MeanSquaredError()
    y_true, y_pred = np.zeros((2, 1)), np.array([[1.0], [2.0]])
    assert mse(y_true, y_pred, [1.0, 0.5]) == (1.0 + 2.0) / 2
    np.testing.assert_allclose(mse.weighted_gradient(y_true, y_pred, [1.0, 0.5]), [[1.0], [1.0]])
    with pytest.raises(ValueError, match=r"sample_weight of shape \(2,\), got \(3,\)"):
        mse(y_true, y_pred, [1, 1, 1])


def test_an_empty_batch_costs_nothing():
    assert MeanSquaredError()(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


RNG = np.random.default_rng(1)
SCORES = RNG.normal(size=(3, 2, 4))
POSITIVE = RNG.uniform(0.05, 0.95, (3, 2, 4))
LABELS = RNG.integers(0, 4, (3, 2))
SHARES = POSITIVE / POSITIVE.sum(-1, keepdims=True)
BITS = RNG.integers(0, 2, (3, 2, 4))


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred"),
    [
        (CategoricalCrossentropy(), SHARES[::-1], POSITIVE),
        (CategoricalCrossentropy(label_smoothing=0.3), SHARES[::-1], POSITIVE),
        (CategoricalCrossentropy(from_logits=True), 2 * SHARES, SCORES),
        (SparseCategoricalCrossentropy(), LABELS, POSITIVE),
        (SparseCategoricalCrossentropy(True, 0.1), LABELS, 5 * SCORES),
        (BinaryCrossentropy(), BITS, POSITIVE),
        (BinaryCrossentropy(True, 0.1), BITS, SCORES),
        (MeanSquaredError(), SHARES, SCORES),
        (MeanAbsoluteError(), SHARES, SCORES),
        (Huber(0.7), SHARES, SCORES),
        (KLDivergence(), SHARES, POSITIVE),
        (Hinge(), BITS, SCORES),
    ],
    ids=repr,
)
def test_gradients_against_differences(loss, y_true, y_pred):
    gradient = loss.gradient(y_true, y_pred)
    numeric = np.empty_like(y_pred)
    for index in np.ndindex(y_pred.shape):
        step = np.zeros_like(y_pred)
        step[index] = 1e-6
        numeric[index] = (loss(y_true, y_pred + step) - loss(y_true, y_pred - step)) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)
    assert np.abs(numeric).max() > 1e-3
    single = loss.gradient(y_true, y_pred.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred"),
    [
        (BinaryCrossentropy(), [[0.0, 1.0]], [[1.0, 0.0]]),
        (KLDivergence(), [[0.5, 0.5]], [[0.0, 2.0]]),
        (CategoricalCrossentropy(), [[1.0, 0.0]], [[0.0, 1.0]]),
    ],
    ids=repr,
)
def test_clipped_probabilities_have_no_slope(loss, y_true, y_pred):
    np.testing.assert_array_equal(loss.gradient(np.array(y_true), np.array(y_pred)), [[0, 0]])


@pytest.mark.parametrize("loss", [CategoricalCrossentropy(True), BinaryCrossentropy(True)], ids=repr)
def test_huge_logits_stay_finite(loss):
    y_true, y_pred = np.array([[1, 0]]), np.array([[-3e38, 3e38]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(loss.per_sample(y_true, y_pred)).all()
        assert np.isfinite(loss.gradient(y_true, y_pred)).all()


def test_fused_forms():
    kernels = {name: losses.get(name).kernel for name in losses.TABLE}
    assert kernels == {
        "categorical_crossentropy": "softmax_cross_entropy",
        "sparse_categorical_crossentropy": "softmax_cross_entropy",
        "binary_crossentropy": "sigmoid_cross_entropy",
        "bce": "sigmoid_cross_entropy",
        "mean_squared_error": "mse",
        "mse": "mse",
        "mean_absolute_error": "mae",
        "mae": "mae",
        "huber": None,
        "kl_divergence": None,
        "kld": None,
        "hinge": None,
        "dice": None,
    }


@pytest.mark.parametrize(
    ("loss", "y", "output_shape", "expected"),
    [
        (SparseCategoricalCrossentropy(), np.array([0, 9], np.uint8), (None, 10), [0, 9]),
        (SparseCategoricalCrossentropy(), [[0.0], [9.0]], (2, 10), [0, 9]),
        (SparseCategoricalCrossentropy(), np.ones((1, 2, 2, 1)), (None, 2, 2, 3), [[[1, 1], [1, 1]]]),
        (CategoricalCrossentropy(), [[0, 1], [1, 0]], (None, 2), [[0, 1], [1, 0]]),
        (BinaryCrossentropy(), [0, 1], (None, 1), [[0], [1]]),
        (BinaryCrossentropy(), [True, False], (None, 1), [[1], [0]]),
        (MeanSquaredError(), [1.5, -2], (None, 1), [[1.5], [-2]]),
        (Hinge(), [[0], [1], [1]], (None, 1), [[-1], [1], [1]]),
    ],
)
def test_targets_are_converted(loss, y, output_shape, expected):
    targets = loss.check_targets(y, output_shape)
    assert targets.dtype == (np.int32 if isinstance(loss, SparseCategoricalCrossentropy) else np.float32)
    np.testing.assert_array_equal(targets, expected)
    assert targets.flags.c_contiguous


@pytest.mark.parametrize(
    ("loss", "y", "output_shape", "error", "words"),
    [
        ("sparse_categorical_crossentropy", [0, 3, 10], (None, 10), ValueError,
         r"fit: sparse_categorical_crossentropy: label 10 at index 2 is outside 0..9 \(10 classes\). Number"),
        ("sparse_categorical_crossentropy", [0, -1], (None, 10), ValueError, "label -1 at index 1"),
        ("sparse_categorical_crossentropy", [0.5, 1], (None, 10), ValueError, "got 0.5 at index 0"),
        ("sparse_categorical_crossentropy", [np.nan], (None, 10), ValueError, "got nan at index 0"),
        ("sparse_categorical_crossentropy", ["cat"], (None, 10), TypeError, "dtype <U3"),
        ("sparse_categorical_crossentropy", np.eye(10), (None, 10), ValueError,
         "one-hot targets belong to loss='categorical_crossentropy'"),
        ("sparse_categorical_crossentropy", [0, 1], (None, 1), ValueError, "loss='binary_crossentropy'"),
        ("sparse_categorical_crossentropy", [0, 1, 2], (2, 10), ValueError,
         r"shape \(2,\) .*got targets of shape \(3,\)"),
        ("categorical_crossentropy", [1, 2], (None, 10), ValueError,
         r"use loss='sparse_categorical_crossentropy', or fastcnn.utils.to_categorical\(y, 10\)"),
        ("categorical_crossentropy", [[1], [2]], (None, 10), ValueError, "sparse_categorical_crossentropy"),
        ("categorical_crossentropy", np.eye(9), (None, 10), ValueError, r"shape \(None, 10\), got \(9, 9\)"),
        ("binary_crossentropy", [3, 7], (None, 10), ValueError, "sparse_categorical_crossentropy"),
        ("binary_crossentropy", [-1, 1], (None, 1), ValueError, r"from 0 to 1, got -1.0 at index \(0, 0\)"),
        ("kl_divergence", [[2.0, 0.0]], (None, 2), ValueError, r"probabilities from 0 to 1, got 2.0"),
        ("hinge", [2], (None, 1), ValueError, r"-1 or 1 \(or 0 or 1\), got 2.0"),
        ("mse", np.zeros((4, 3)), (None, 2), ValueError, r"shape \(None, 2\), got \(4, 3\)"),
        ("mse", [["a"]], (None, 1), TypeError, "expected numbers as targets"),
        ("mse", [[1j]], (None, 1), TypeError, "complex"),
    ],
)  # fmt: skip
def test_targets_are_refused(loss, y, output_shape, error, words):
    with pytest.raises(error, match=words):
        losses.get(loss).check_targets(y, output_shape, "fit")


def test_names_and_functions():
    assert isinstance(losses.get("categorical_crossentropy"), CategoricalCrossentropy)
    assert losses.get("KLD").name == "kl_divergence"
    with pytest.raises(ValueError, match="Did you mean 'categorical_crossentropy'"):
        losses.get("categorical_crossentropi")
    with pytest.raises(TypeError, match="no gradient; make a subclass of fastcnn.losses.Loss"):
        losses.get(lambda y_true, y_pred: 0.0)
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and at most 1"):
        BinaryCrossentropy(label_smoothing=1.5)


def test_shapes_must_match():
    with pytest.raises(
        ValueError, match=r"targets of shape \(2, 3\) do not match predictions of shape \(2, 2\)"
    ):
        MeanSquaredError()(np.zeros((2, 3)), np.zeros((2, 2)))


def test_a_loss_of_ones_own():
    class Cubic(losses.Loss):
        def per_sample(self, y_true, y_pred):
            return (np.abs(y_true - y_pred) ** 3).sum(axis=1)

        def gradient(self, y_true, y_pred):
            return 3 * (y_pred - y_true) * np.abs(y_pred - y_true) / len(y_pred)

    cubic = losses.get(Cubic("cubic"))
    y_true, y_pred = np.zeros((2, 1)), np.array([[1.0], [2.0]])
    assert cubic(y_true, y_pred) == 4.5
    assert cubic.kernel is None
    np.testing.assert_array_equal(cubic.weighted_gradient(y_true, y_pred, [1, 2]), [[1.5], [12.0]])
    np.testing.assert_array_equal(cubic.check_targets([1, 2], (None, 1)), [[1], [2]])
