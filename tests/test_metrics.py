"""Metrics: values counted by hand or by brute force, in one batch or in many, weighted or not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastcnn import losses, metrics
from fastcnn.metrics import (
    AUC,
    BinaryAccuracy,
    CategoricalAccuracy,
    ConfusionMatrix,
    MeanAbsoluteError,
    MeanIoU,
    MeanLoss,
    MeanSquaredError,
    Precision,
    Recall,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)

SCORES = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]])
LABELS = np.array([1, 0, 0, 2])
ONE_HOT = np.eye(3)[LABELS]
PROBABILITIES = np.array([[0.9], [0.6], [0.4], [0.5]])
BITS = np.array([1, 0, 1, 0])
WEIGHTS = np.array([1.0, 2.0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("metric", "y_true", "y_pred", "plain", "weighted"),
    [
        (SparseCategoricalAccuracy(), LABELS, SCORES, 2 / 4, 3 / 4),
        (SparseCategoricalAccuracy(), LABELS[:, None], SCORES, 2 / 4, 3 / 4),
        (CategoricalAccuracy(), ONE_HOT, SCORES, 2 / 4, 3 / 4),
        (BinaryAccuracy(), BITS, PROBABILITIES, 2 / 4, 1.5 / 4),  # 0.5 is not above the threshold
        (BinaryAccuracy(threshold=0.3), BITS, PROBABILITIES, 2 / 4, 1.5 / 4),
        (SparseTopKCategoricalAccuracy(k=2), LABELS, SCORES, 4 / 4, 1.0),  # ties count for the label
        (SparseTopKCategoricalAccuracy(k=1), LABELS, SCORES, 2 / 4, 3 / 4),
        (TopKCategoricalAccuracy(k=1), ONE_HOT, SCORES, 2 / 4, 3 / 4),
        (Precision(), BITS, PROBABILITIES, 1 / 2, 1 / 3),
        (Recall(), BITS, PROBABILITIES, 1 / 2, 1 / 1.5),
        (Precision(0.3), BITS, PROBABILITIES, 2 / 4, 1.5 / 4),
        (Precision(0.45), LABELS, SCORES, 2 / 3, 3 / 3.5),
        (Recall(0.45), ONE_HOT, SCORES, 2 / 4, 3 / 4),
        (Recall(0.45, class_id=0), ONE_HOT, SCORES, 1 / 2, 2 / 2.5),
        (MeanSquaredError(), BITS, PROBABILITIES,
         (0.01 + 2 * 0.36 + 0.25) / 4, (0.01 + 0.72 + 0.18 + 0.125) / 4),
        (MeanAbsoluteError(), BITS, PROBABILITIES, (0.1 + 0.6 + 0.6 + 0.5) / 4, (0.1 + 1.2 + 0.3 + 0.25) / 4),
        (MeanLoss("huber"), BITS, PROBABILITIES, 0.98 / 8, 1.035 / 8),
        (MeanIoU(3, sparse_y_pred=False), LABELS, SCORES,
         (1 / 2 + 1 / 2 + 0) / 3, (2 / 2.5 + 1 / 1.5 + 0) / 3),
    ],
    ids=lambda value: repr(value) if isinstance(value, metrics.Metric) else "",
)  # fmt: skip
def test_values_whole_in_parts_and_weighted(metric, y_true, y_pred, plain, weighted):
    metric.update(y_true, y_pred)
    assert metric.result() == pytest.approx(plain)
    metric.reset()
    for part in (slice(0, 1), slice(1, 4)):
        metric.update(y_true[part], y_pred[part].astype(np.float32))
    assert metric.result() == pytest.approx(plain)
    assert isinstance(metric.result(), float)
    metric.reset()
    assert metric.result() == 0.0
    metric.update(y_true, y_pred, WEIGHTS)
    assert metric.result() == pytest.approx(weighted)


def test_maps_count_every_position():
    labels = np.array([[[0, 1], [1, 1]]])
    scores = np.eye(2)[np.array([[[0, 1], [0, 1]]])]
    accuracy = SparseCategoricalAccuracy()
    accuracy.update(labels, scores, [2.0])
    assert accuracy.result() == 0.75
    iou = MeanIoU(2, sparse_y_pred=False)
    iou.update(labels[..., None], scores)
    assert iou.result() == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_auc_counts_the_pairs_in_order():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 10, 60) / 10 + 0.05  # far from each other, so thresholds tell them apart
    actual = rng.integers(0, 2, 60)
    pairs = list(itertools.product(scores[actual == 1], scores[actual == 0]))
    expected = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)
    auc = AUC()
    for part in (slice(0, 17), slice(17, 60)):
        auc.update(actual[part], scores[part, None])
    assert abs(expected - 0.5) > 0.01
    assert auc.result() == pytest.approx(expected)
    logits = AUC(from_logits=True)
    logits.update(actual, np.log(scores / (1.001 - scores))[:, None])
    assert logits.result() == pytest.approx(expected)


def test_auc_with_few_thresholds_and_weights():
    # The example of four points at three thresholds: the curve runs (0,0), (0,0.5), (1,1).
    auc = AUC(num_thresholds=3)
    auc.update(np.array([0, 0, 1, 1]), np.array([0, 0.5, 0.3, 0.9]))
    assert auc.result() == pytest.approx(0.75)
    auc.reset()
    auc.update(np.array([0, 0, 1, 1]), np.array([0, 0.5, 0.3, 0.9]), [1, 0, 0, 1])
    assert auc.result() == 1.0
    auc.reset()
    assert auc.result() == 0.0


def test_auc_at_the_ends():
    auc = AUC()
    auc.update(np.array([0, 1]), np.array([[0.0], [1.0]]))
    assert auc.result() == 1.0
    auc.reset()
    auc.update(np.array([0, 1]), np.array([[1.0], [1.0]]))
    assert auc.result() == 0.5


def test_confusion_matrix():
    expected = [[1, 0, 1], [0, 1, 0], [0, 1, 0]]  # rows: truth
    for y_true in (LABELS, LABELS[:, None], ONE_HOT):
        matrix = ConfusionMatrix()
        matrix.update(y_true, SCORES)
        np.testing.assert_array_equal(matrix.result(), expected)
    matrix.update(LABELS[:2], SCORES[:2], [10, 20])
    np.testing.assert_array_equal(matrix.result(), [[21, 0, 1], [0, 11, 0], [0, 1, 0]])
    matrix.result()[0] = -1
    assert matrix.result()[0, 0] == 21
    binary = ConfusionMatrix()
    binary.update(BITS, PROBABILITIES)
    np.testing.assert_array_equal(binary.result(), [[1, 1], [1, 1]])
    classes = ConfusionMatrix(num_classes=3)
    classes.update(LABELS, SCORES.argmax(1))
    np.testing.assert_array_equal(classes.result(), expected)


def test_mean_iou_of_classes():
    iou = MeanIoU(num_classes=2)
    iou.update([0, 0, 1, 1], [0, 1, 0, 1])
    assert iou.result() == pytest.approx(1 / 3)
    iou = MeanIoU(num_classes=5, ignore_class=255)  # classes that never occur do not count
    iou.update(np.array([[0, 1, 255]]), np.array([[0, 0, 4]]))
    assert iou.result() == pytest.approx((1 / 2 + 0) / 2)


@pytest.mark.parametrize(
    ("metric", "y_true", "y_pred", "words"),
    [
        (SparseCategoricalAccuracy(), ONE_HOT, SCORES, "expected labels of shape .4,. .*one-hot"),
        (CategoricalAccuracy(), LABELS, SCORES, "do not match predictions"),
        (SparseTopKCategoricalAccuracy(), [7, 0, 0, 0], SCORES, "label 7 at index 0 is outside 0..2"),
        (AUC(), BITS, PROBABILITIES * 3, "from_logits=True"),
        (Precision(class_id=3), ONE_HOT, SCORES, "class_id 3 is outside 0..2"),
        (ConfusionMatrix(), LABELS, LABELS, "pass num_classes"),
        (ConfusionMatrix(2), LABELS, SCORES, r"label 2 at index 3 is outside 0..1"),
        (MeanIoU(3), LABELS, SCORES[:, 0], "sparse_y_pred=False"),
    ],
)
def test_refused(metric, y_true, y_pred, words):
    with pytest.raises(ValueError, match=words):
        metric.update(np.asarray(y_true), y_pred)


def test_weights_must_fit():
    with pytest.raises(ValueError, match=r"sample_weight of shape \(4,\), got \(3,\)"):
        SparseCategoricalAccuracy().update(LABELS, SCORES, [1, 2, 3])


SPARSE = losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY = losses.BinaryCrossentropy()


@pytest.mark.parametrize(
    ("loss", "output_shape", "kind"),
    [
        (SPARSE, (None, 10), SparseCategoricalAccuracy),
        (losses.CategoricalCrossentropy(), (None, 10), CategoricalAccuracy),
        (BINARY, (None, 1), BinaryAccuracy),
        (BINARY, (None, 10), CategoricalAccuracy),
        (losses.MeanSquaredError(), (None, 1), BinaryAccuracy),
        (losses.MeanSquaredError(), (None, 10), CategoricalAccuracy),
        (SPARSE, (None, 8, 8, 10), SparseCategoricalAccuracy),
        (SPARSE, None, SparseCategoricalAccuracy),
        (BINARY, None, BinaryAccuracy),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "acc"])
def test_accuracy_depends_on_the_loss(name, loss, output_shape, kind):
    metric = metrics.get(name, loss, output_shape)
    assert type(metric) is kind and metric.name == name


def test_binary_accuracy_of_logits_splits_at_zero():
    metric = metrics.get("accuracy", losses.BinaryCrossentropy(from_logits=True), (None, 1))
    metric.update([1, 0], np.array([[0.2], [-0.2]]))
    assert metric.result() == 1.0
    assert metrics.get("accuracy", BINARY, (None, 1)).threshold == 0.5


def test_names():
    assert metrics.get("mse").name == "mse"
    assert isinstance(metrics.get("AUC"), AUC)
    assert metrics.get(Precision()).name == "precision"
    crossentropy = metrics.get("categorical_crossentropy")
    crossentropy.update(ONE_HOT, SCORES)
    assert crossentropy.name == "categorical_crossentropy"
    assert crossentropy.result() == pytest.approx(losses.CategoricalCrossentropy()(ONE_HOT, SCORES))
    assert metrics.get(losses.Huber()).name == "huber_loss"
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        metrics.get("acuracy", SPARSE)
    with pytest.raises(ValueError, match="depends on the loss"):
        metrics.get("accuracy")


def test_functions_are_averaged_over_samples():
    def largest_error(y_true, y_pred):
        return np.abs(y_true - y_pred).max(axis=1)

    metric = metrics.get(largest_error)
    assert metric.name == "largest_error"
    metric.update(np.zeros((2, 2)), np.array([[1.0, -3.0], [0.0, 1.0]]))
    metric.update(np.zeros((1, 2)), np.array([[2.0, 0.0]]), [2.0])
    assert metric.result() == pytest.approx((3 + 1 + 2 * 2) / 4)
    single = metrics.get(lambda y_true, y_pred: y_pred.mean())
    single.update(np.zeros((3, 1)), np.full((3, 1), 1.0))
    single.update(np.zeros((1, 1)), np.full((1, 1), 5.0))
    assert single.result() == pytest.approx((3 * 1 + 5) / 4)
    with pytest.raises(TypeError, match="cannot be written to a file"):
        metric.get_config()


def test_a_metric_of_ones_own():
    class Count(metrics.Metric):
        def reset(self):
            self.n = 0

        def update(self, y_true, y_pred, sample_weight=None):
            self.n += len(y_pred)

        def result(self):
            return float(self.n)

    count = metrics.get(Count("count"))
    count.update(LABELS, SCORES)
    assert count.result() == 4.0
