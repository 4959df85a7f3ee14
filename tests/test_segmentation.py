"""A class for every pixel: losses of maps, labels that do not count, weights of classes and pixels, overlap."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import losses, metrics
from fastcnn.plan.losses import kernel_of

VOID = 255
Z = np.random.RandomState(0).randn(2, 2, 3, 4).astype(np.float32)
P = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)
LABELS = np.array([[[0, 1, VOID], [3, 2, VOID]], [[1, 1, 0], [VOID, 3, 2]]])
FILLED = np.where(LABELS == VOID, 0, LABELS)
ONE_HOT = np.eye(4)[FILLED]
WEIGHTS = np.arange(12).reshape(2, 2, 3) / 4
SPARSE, CATEGORICAL = losses.SparseCategoricalCrossentropy, losses.CategoricalCrossentropy


@pytest.mark.parametrize(("loss", "y", "prediction", "weights", "want"), [
    (SPARSE(True, ignore_class=VOID), LABELS, Z, None, 1.8878669738769531),
    (SPARSE(ignore_class=VOID), LABELS, P, None, 1.8878669738769531),
    (SPARSE(True, ignore_class=VOID), LABELS, Z, WEIGHTS, 2.449734926223755),
    (SPARSE(True, ignore_class=0), FILLED, Z, None, 2.002352476119995),
    (SPARSE(True), FILLED, Z, None, 2.0129973888397217),
    (SPARSE(True), FILLED, Z, WEIGHTS, 2.520968437194824),
    (CATEGORICAL(True, 0.1), ONE_HOT, Z, WEIGHTS, 2.526986598968506),
    (losses.Dice(), ONE_HOT, P, None, 0.7627119421958923),
    (losses.Dice(axis=(1, 2)), ONE_HOT, P, None, 0.7823509573936462),
    (losses.Dice(axis=(1, 2, 3)), ONE_HOT, P, None, (0.85225946 + 0.6731644) / 2),
], ids=repr)
def test_keras_agrees(loss, y, prediction, weights, want):
    """Stored results of Keras 3.15 on TensorFlow."""
    assert loss(y, prediction, weights) == pytest.approx(want, rel=1e-6)


def test_gradients_agree_with_keras():
    slope = SPARSE(True, ignore_class=VOID).gradient(LABELS, Z)[0]
    np.testing.assert_allclose(slope[0, 0], [-0.07767026, 0.00854959, 0.01524824, 0.05387244], rtol=1e-5)
    np.testing.assert_allclose(slope[1, 1], [0.07008686, 0.01281348, -0.08959669, 0.00669634], rtol=1e-5)
    assert not slope[:, 2].any()
    slope = losses.Dice().gradient(ONE_HOT, P)[0, 0]
    np.testing.assert_allclose(slope[:2, :2], [[-0.07344634, 0.009887], [0.009887, -0.07344634]], rtol=1e-5)


def with_weights(cases):
    """Each case without weights, with those of samples and, but for losses of whole regions, of pixels."""
    kinds = {"plain": None, "samples": [0.5, 3.0], "pixels": WEIGHTS}
    return [pytest.param(*case, weights, id=f"{case[0]!r} {kind}") for case in cases
            for kind, weights in kinds.items() if kind != "pixels" or not isinstance(case[0], losses.Dice)]


@pytest.mark.parametrize(("loss", "y", "prediction", "weights"), with_weights([
    (SPARSE(True, 0.1, VOID), LABELS, Z), (SPARSE(ignore_class=VOID), LABELS, P),
    (losses.Dice(), ONE_HOT, P), (losses.Dice(2), ONE_HOT, P), (losses.Dice((1, 2)), ONE_HOT, P)]))
def test_gradients_against_differences(loss, y, prediction, weights, rng):
    p, d = prediction.astype(np.float64), rng.standard_normal(prediction.shape)
    slope = loss.gradient(y, p) if weights is None else loss.weighted_gradient(y, p, weights)
    numeric = (loss(y, p + 1e-6 * d, weights) - loss(y, p - 1e-6 * d, weights)) / 2e-6
    assert (slope * d).sum() == pytest.approx(numeric, rel=1e-6)


def map_net(loss, activation=None, **words):
    """A linear classifier of pixels: its gradient is the sum over pixels of x' dz."""
    fc.seed(0)
    model = fc.Sequential([L.Conv2D(4, 1, activation=activation, input_shape=(2, 3, 5))])
    model.compile(fc.optimizers.SGD(1.0), loss, **words)
    return model


@pytest.mark.parametrize(("loss", "y", "activation", "weights"), with_weights([
    (SPARSE(True, ignore_class=VOID), LABELS, None), (SPARSE(ignore_class=VOID), LABELS, "softmax"),
    (CATEGORICAL(True, 0.1), ONE_HOT, None), (CATEGORICAL(), ONE_HOT, "softmax"),
    (losses.Dice(), ONE_HOT, "softmax"), (losses.MeanSquaredError(), ONE_HOT, None)]))
def test_training_follows_the_loss(loss, y, activation, weights, rng):
    """The engine's loss and step, fused or not, are those of the loss in NumPy."""
    x = rng.standard_normal((2, 2, 3, 5)).astype(np.float32)
    model = map_net(loss, activation)
    (kernel, _), predicted = model.get_weights(), model.predict(x).astype(np.float64)
    slope = loss.gradient(y, predicted) if weights is None else loss.weighted_gradient(y, predicted, weights)
    if activation:
        slope = predicted * (slope - (slope * predicted).sum(-1, keepdims=True))
    history = model.fit(x, y, batch_size=2, shuffle=False, sample_weight=weights, verbose=0).history
    assert history["loss"] == [pytest.approx(loss(y, predicted, weights), rel=1e-5)]
    step = np.einsum("nhwi,nhwo->io", x, slope)
    np.testing.assert_allclose((kernel - model.get_weights()[0])[0, 0], step, rtol=1e-4, atol=1e-6)


def test_cross_entropy_of_maps_is_fused():
    """Softmax and loss are one step over all pixels, as in classification."""
    model = map_net(SPARSE(ignore_class=VOID), "softmax")
    model.train_on_batch(np.zeros((2, 2, 3, 5)), LABELS)
    (plan,) = model._plans.values()
    names = [name for name, _ in plan.steps]
    assert kernel_of(model.losses[0]) == "softmax_cross_entropy"
    assert sum("loss" in name for name in names) == 2 and not any("softmax" in name for name in names)
    assert len(plan.calls) == 1, "the engine stops for nothing"


def test_batches_count_their_own_pixels(rng):
    """A batch's loss is the mean over its pixels that count, an epoch's the mean over samples; none at all is 0."""
    x = rng.standard_normal((3, 2, 3, 5)).astype(np.float32)
    y = np.concatenate([LABELS, np.full((1, 2, 3), VOID)])
    loss = SPARSE(True, ignore_class=VOID)
    model = map_net(loss, metrics=["accuracy", "mean_iou"])
    predicted = model.predict(x)
    each = [loss(y[i:i + 1], predicted[i:i + 1]) for i in range(3)]
    assert each[2] == 0
    before = model.get_weights()
    assert model.train_on_batch(x[2:], y[2:])[0] == 0
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    got = model.evaluate(x, y, batch_size=1, return_dict=True, verbose=0)
    assert got["loss"] == pytest.approx(np.mean(each), rel=1e-5)
    counts = y != VOID
    assert got["accuracy"] == pytest.approx((predicted.argmax(-1) == y)[counts].mean())
    iou = metrics.MeanIoU(4, ignore_class=VOID, sparse_y_pred=False)
    iou.update(y, predicted)
    assert got["mean_iou"] == pytest.approx(iou.result())


def test_class_weights_hold_for_pixels(rng):
    """The weight of a pixel is that of its class, times that of its sample."""
    x = rng.standard_normal((2, 2, 3, 5)).astype(np.float32)
    classes, samples = {0: 0.5, 3: 4.0, 7: 9.0}, np.array([1.0, 2.0])
    per_pixel = np.array([0.5, 1, 1, 4])[FILLED]
    for loss, y in ((SPARSE(True, ignore_class=VOID), LABELS), (CATEGORICAL(True), ONE_HOT)):
        predicted = map_net(loss).predict(x)
        got = map_net(loss).fit(x, y, class_weight=classes, sample_weight=samples, shuffle=False, verbose=0)
        want = loss(y, predicted, per_pixel * samples[:, None, None])
        assert got.history["loss"] == [pytest.approx(want, rel=1e-5)]


def test_a_negative_label_can_be_ignored(rng):
    x = rng.standard_normal((2, 2, 3, 5)).astype(np.float32)
    void = SPARSE(True, ignore_class=VOID), LABELS
    minus = SPARSE(True, ignore_class=-100), np.where(LABELS == VOID, -100, LABELS)
    got = [map_net(loss, metrics=["accuracy"]).fit(x, y, class_weight={1: 3.0}, verbose=0, shuffle=False).history
           for loss, y in (void, minus)]
    assert got[0] == got[1]


@pytest.mark.parametrize(("metric", "y", "prediction", "want"), [
    (metrics.MeanIoU(4, ignore_class=VOID, sparse_y_pred=False), LABELS, Z, 0.05),
    (metrics.MeanIoU(4, ignore_class=0, sparse_y_pred=False), FILLED, Z, 0.0833333358168602),
    (metrics.OneHotMeanIoU(4), ONE_HOT, P, 0.06666667014360428),
], ids=repr)
def test_overlap_agrees_with_keras(metric, y, prediction, want):
    for i in range(2):
        metric.update(y[i:i + 1], prediction[i:i + 1])
    assert metric.result() == pytest.approx(want)


def test_metrics_take_weights_of_pixels():
    accuracy = metrics.SparseCategoricalAccuracy(ignore_class=VOID)
    accuracy.update(LABELS, Z, WEIGHTS)
    right, counts = Z.argmax(-1) == LABELS, LABELS != VOID
    assert accuracy.result() == pytest.approx((right * WEIGHTS)[counts].sum() / WEIGHTS[counts].sum())
    assert metrics.get(accuracy.get_config() and {"class_name": "SparseCategoricalAccuracy",
                                                  "config": accuracy.get_config()}).ignore_class == VOID


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: SPARSE(ignore_class=0.5), TypeError, "ignore_class must be a whole number or None, got 0.5"),
    (lambda: SPARSE(True).check_targets(LABELS, Z.shape), ValueError,
     r"label 255 at index \(0, 0, 2\) is outside 0..3.*ignore_class leaves a label out"),
    (lambda: losses.Dice(axis=0), ValueError, "dice: axis must be None or axes behind the batch"),
    (lambda: losses.Dice(axis=4)(ONE_HOT, P), ValueError, "does not fit predictions of shape"),
    (lambda: losses.Dice()(ONE_HOT, P, WEIGHTS), ValueError, r" sample_weight of shape \(2,\), got \(2, 2, 3\)"),
    (lambda: SPARSE(True)(FILLED, Z, WEIGHTS[:, :1]), ValueError, r"of shape \(2,\) or \(2, 2, 3\), got \(2, 1, 3\)"),
    (lambda: map_net(SPARSE(True)).fit(np.zeros((2, 2, 3, 5)), FILLED, sample_weight=WEIGHTS[..., :2], verbose=0),
     ValueError, r"sample_weight must be 2 numbers, or numbers of shape \(2, 2, 3\)"),
])
def test_mistakes_are_explained(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_the_ignored_class_comes_back_from_a_file(tmp_path):
    model = map_net(SPARSE(True, ignore_class=VOID), metrics=["accuracy", metrics.MeanIoU(4, ignore_class=VOID,
                                                                                        sparse_y_pred=False)])
    x = np.random.default_rng(0).random((2, 2, 3, 5))
    model.train_on_batch(x, LABELS)
    model.save(tmp_path / "model.safetensors")
    again = fc.load_model(tmp_path / "model.safetensors")
    assert again.test_on_batch(x, LABELS) == model.test_on_batch(x, LABELS)
