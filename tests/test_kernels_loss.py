"""Loss kernels against the reference, on every instruction set and several thread counts."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.kernels import _loss
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._op import Tensor
from fastcnn.ops._engine import tensor
from tests.check import assert_close, assert_same, guarded, small_ints

COLUMNS = (1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 100)


class Result:
    """Outputs of one loss op, from arrays inside guard bands."""

    def __init__(self, kind, x, prediction=True, group=1, chunk=None, **words):
        rows = x.shape[:-1]
        outputs = {name: guarded(rows) for name in ("loss_rows", "correct")}
        outputs.update({name: guarded(x.shape) for name in ("p", "dx")})
        for name, (array, _) in outputs.items():
            setattr(self, name, array)
        if prediction:
            words.update(p=tensor(self.p), correct=self.correct)
        op = kind(tensor(x), self.loss_rows, dx=tensor(self.dx), **words)
        Program([Stage([op], op.items, group, chunk)]).run()
        for _, check in outputs.values():
            check()


def distribution(rng, shape):
    t = rng.uniform(0, 1, shape)
    return (t / t.sum(-1, keepdims=True)).astype(np.float32)


# ---- softmax cross-entropy ----


@pytest.mark.parametrize("smoothing", [0, 0.125])
def test_softmax_cross_entropy(machine, smoothing, rng):
    for c in COLUMNS:
        x = (3 * rng.standard_normal((9, c))).astype(np.float32)
        labels = rng.integers(0, c, 9).astype(np.int32)
        words = {"scale": 1 / 9, "label_smoothing": smoothing}
        for given in ({"labels": labels}, {"targets": np.eye(c, dtype=np.float32)[labels]},
                      {"targets": distribution(rng, x.shape)}):
            target = next(iter(given.values()))
            loss, dx = reference.softmax_cross_entropy(x, target, smoothing)
            got = Result(_loss.SoftmaxCrossEntropy, x, **given, **words)
            assert_close(got.loss_rows, loss, c)
            assert_close(got.dx, dx, c, scale=1 / 9)
            assert_close(got.p, reference.softmax(x), c)
            wanted = labels if "labels" in given else target.argmax(1)
            assert_same(got.correct, (x.argmax(1) == wanted) * 1.0)


@pytest.mark.parametrize("ignored", [255, -1, 0])
def test_ignored_labels_do_not_count(machine, ignored, rng):
    for c in COLUMNS:
        x = rng.standard_normal((9, c)).astype(np.float32)
        labels = rng.integers(0, c, 9).astype(np.int32)
        weights = rng.uniform(1, 2, 9).astype(np.float32)
        plain = Result(_loss.SoftmaxCrossEntropy, x, labels=labels, weights=weights)
        given = labels.copy()
        given[::3] = ignored
        got = Result(_loss.SoftmaxCrossEntropy, x, labels=given, weights=weights, ignored=ignored)
        counts = given != ignored
        assert_same(got.p, plain.p)
        for name in ("loss_rows", "correct", "dx"):
            want = getattr(plain, name)
            assert_same(getattr(got, name), want * counts.reshape(-1, *(1,) * (want.ndim - 1)))


def test_cross_entropy_of_pixels_with_halo(machine, rng):
    """Rows of an image are not contiguous; per-row arrays are."""
    n, h, w, c = 3, 4, 5, 6
    frame = np.full((3, n, h + 2, w + 3, c), np.nan, np.float32)
    x, p, dx = frame[:, :, 1:-1, 2:-1]
    x[...] = rng.standard_normal(x.shape)
    labels = rng.integers(0, c, (n, h, w)).astype(np.int32)
    weights = rng.uniform(0, 2, labels.shape).astype(np.float32)
    (loss, check), correct = guarded(labels.shape), np.empty(labels.shape, np.float32)
    run_op(_loss.SoftmaxCrossEntropy(*(Tensor(x.shape, x, ((1, 1), (2, 1))), loss), labels=labels,
                                     p=Tensor(x.shape, p), dx=Tensor(x.shape, dx), weights=weights,
                                     correct=correct))
    check()
    want, gradient = reference.softmax_cross_entropy(x, labels)
    assert_close(loss, want * weights, c)
    assert_close(dx, gradient * labels.size * weights[..., None], c)
    assert_close(p, reference.softmax(x), c)
    assert_same(correct, (x.argmax(-1) == labels) * 1.0)
    x[...] = p[...] = dx[...] = np.nan
    assert np.isnan(frame).all(), "written outside the tensors"


def test_cross_entropy_in_place_and_without_outputs(machine, rng):
    for c in (10, 40):
        x = rng.standard_normal((7, c)).astype(np.float32)
        labels = rng.integers(0, c, 7).astype(np.int32)
        want = Result(_loss.SoftmaxCrossEntropy, x, labels=labels)
        for outputs in ({}, {"p": x.copy()}, {"dx": x.copy()}):
            logits = next(iter(outputs.values()), x)
            t = tensor(logits)
            loss = np.full(7, np.nan, np.float32)
            run_op(_loss.SoftmaxCrossEntropy(t, loss, labels=labels, **{name: t for name in outputs}))
            assert_same(loss, want.loss_rows)
            for name, array in outputs.items():
                assert_same(array, getattr(want, name))


def test_cross_entropy_is_stable(machine):
    for c in (3, 20):
        x = np.zeros((4, c), np.float32)
        x[0, 0], x[1, 1], x[2, :] = 1e4, 1e4, -3e38
        x[3, 1:] = -np.inf  # impossible classes, none of them the label
        got = Result(_loss.SoftmaxCrossEntropy, x, labels=np.array([0, 0, 1, 0], np.int32))
        assert_close(got.loss_rows, np.array([0, 1e4, np.log(c), 0]), c)
        assert np.isfinite(got.dx).all()
        assert_same(got.correct, np.array([1, 0, 0, 1], np.float32))
        one_hot = Result(_loss.SoftmaxCrossEntropy, x, targets=np.eye(c, dtype=np.float32)[[0, 0, 1, 0]])
        assert_same(one_hot.loss_rows, got.loss_rows)
        assert_same(one_hot.dx, got.dx)


def test_first_of_equal_logits_is_the_prediction(machine):
    for c in (6, 40):
        x = np.zeros((3, c), np.float32)
        x[:, [2, 5]] = 1
        target = np.zeros((3, c), np.float32)
        target[0, 2] = target[1, 5] = target[2, [2, 5]] = 1
        got = Result(_loss.SoftmaxCrossEntropy, x, targets=target)
        assert_same(got.correct, np.array([1, 0, 1], np.float32))
        got = Result(_loss.SoftmaxCrossEntropy, x, labels=np.array([2, 5, 0], np.int32))
        assert_same(got.correct, np.array([1, 0, 0], np.float32))


def test_nan_and_wrong_labels_spoil_their_row_only(machine):
    for c in (6, 40):
        x = np.zeros((5, c), np.float32)
        x[1, 3] = np.nan
        got = Result(_loss.SoftmaxCrossEntropy, x, labels=np.array([0, 3, c, -1, 2**31 - 1], np.int32))
        assert_close(got.loss_rows, np.array([np.log(c)] + [np.nan] * 4), c)
        assert np.isfinite(got.dx[0]).all() and np.isnan(got.dx[1:]).all()
        assert_same(got.correct, np.array([1, 0, 0, 0, 0], np.float32))
        x = np.zeros((c, c), np.float32)
        np.fill_diagonal(x, np.nan)  # wherever the NaN is, the label at a largest number is not right
        got = Result(_loss.SoftmaxCrossEntropy, x, labels=(np.arange(c) == 0).astype(np.int32))
        assert np.isnan(got.loss_rows).all() and np.isnan(got.dx).all() and not got.correct.any()


def test_scale_is_read_at_every_run(machine):
    x, dx, loss = np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32), np.zeros(1, np.float32)
    labels, scale = np.array([1], np.int32), np.ones(1, np.float32)
    op = _loss.SoftmaxCrossEntropy(tensor(x), loss, labels=labels, dx=tensor(dx), scale=scale)
    for scale[0] in (1, 8):
        run_op(op)
        assert_same(dx, scale[0] * np.array([[0.25, -0.75, 0.25, 0.25]], np.float32))


# ---- means over the row ----


@pytest.mark.parametrize("smoothing", [0, 0.25])
def test_sigmoid_binary_cross_entropy(machine, smoothing, rng):
    for c in COLUMNS:
        x = (4 * rng.standard_normal((9, c))).astype(np.float32)
        targets = rng.integers(0, 2, x.shape).astype(np.float32)
        got = Result(_loss.SigmoidBinaryCrossEntropy, x, targets=targets, scale=1 / 9,
                     label_smoothing=smoothing)
        loss, dx = reference.sigmoid_binary_cross_entropy(x, targets, smoothing)
        assert_close(got.loss_rows, loss, 1)
        assert_close(got.dx, dx, 1, scale=1 / x.size)
        assert_close(got.p, reference.sigmoid(x), 1)
        assert_close(got.correct, ((x > 0) == targets).mean(1), 1)


def test_sigmoid_binary_cross_entropy_of_large_logits(machine):
    x = np.array([[1e4], [-1e4], [1e4], [np.nan]], np.float32)
    got = Result(_loss.SigmoidBinaryCrossEntropy, x, targets=np.array([[1], [0], [0], [1]], np.float32))
    assert_same(got.loss_rows, np.array([0, 0, 1e4, np.nan], np.float32))
    assert_same(got.dx, np.array([[0], [0], [1], [np.nan]], np.float32))
    assert_same(got.correct, np.array([1, 1, 0, 0], np.float32))


@pytest.mark.parametrize("name, wanted", [("MeanSquaredError", reference.mean_squared_error),
                                          ("MeanAbsoluteError", reference.mean_absolute_error)])
def test_regression_losses(machine, name, wanted, rng):
    kind = getattr(_loss, name)
    for c in COLUMNS:
        x, targets = small_ints(rng, (9, c)), small_ints(rng, (9, c))
        loss, dx = wanted(x, targets)
        got = Result(kind, x, prediction=False, targets=targets, scale=1 / 9)
        assert_close(got.loss_rows, loss, 1)
        assert_close(got.dx, dx, 1)
        exact = Result(kind, x, prediction=False, targets=targets, scale=float(c))
        assert_close(exact.dx, dx * x.size, 1)
    x[0, 0] = np.nan
    got = Result(kind, x, prediction=False, targets=targets)
    assert np.isnan(got.dx[0, 0]) and np.isnan(got.loss_rows[0])
    assert np.isfinite(got.dx[0, 1:]).all() and np.isfinite(got.loss_rows[1:]).all()


@pytest.mark.parametrize("name", ["SigmoidBinaryCrossEntropy", "MeanSquaredError", "MeanAbsoluteError"])
def test_weights_of_rows(machine, name, rng):
    x, targets = rng.standard_normal((5, 11)).astype(np.float32), distribution(rng, (5, 11))
    weights = np.array([0, 1, 2, 0.5, -1], np.float32)
    kind, prediction = getattr(_loss, name), name.startswith("Sigmoid")
    plain = Result(kind, x, prediction, targets=targets)
    got = Result(kind, x, prediction, targets=targets, weights=weights)
    assert_close(got.loss_rows, plain.loss_rows * weights, 1)
    assert_close(got.dx, plain.dx * weights[:, None], 1)


def test_bits_do_not_depend_on_the_cut(machine, rng):
    x = rng.standard_normal((23, 10)).astype(np.float32)
    targets = distribution(rng, x.shape)
    for kind in (_loss.SoftmaxCrossEntropy, _loss.SigmoidBinaryCrossEntropy):
        want = Result(kind, x, targets=targets, group=23)
        got = Result(kind, x, targets=targets, group=7, chunk=3)
        assert (got.loss_rows == want.loss_rows).all() and (got.dx == want.dx).all()


# ---- totals ----


def test_total_is_a_sum_in_double_precision(machine, rng):
    for rows in (0, 1, 2, 3, 7, 8, 9, 17, 1000):
        loss = rng.standard_normal(rows).astype(np.float32)
        correct = rng.integers(0, 2, rows).astype(np.float32)
        totals, check = guarded((2,), dtype=np.float64)
        run_op(_loss.LossTotal(loss, totals, correct))
        check()
        assert abs(totals[0] - loss.astype(np.float64).sum()) <= 1e-13 * max(1, np.abs(loss).sum())
        assert totals[1] == correct.sum()
        run_op(_loss.LossTotal(loss, totals))
        assert totals[1] == 0


# ---- errors ----

X, ROWS = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
LABELS = np.zeros(2, np.int32)


def cross_entropy(**words):
    arguments = {"x": tensor(X), "loss_rows": ROWS, "labels": LABELS, **words}
    return lambda: _loss.SoftmaxCrossEntropy(arguments.pop("x"), arguments.pop("loss_rows"), **arguments)


@pytest.mark.parametrize("make, message", [
    (cross_entropy(labels=None), "either labels or targets"),
    (cross_entropy(targets=X), "either labels or targets"),
    (cross_entropy(labels=LABELS.astype(np.int64)), "2 elements of int32"),
    (cross_entropy(labels=LABELS[:1]), "2 elements of int32"),
    (cross_entropy(labels=[0, 1]), "labels: expected 2 elements"),
    (cross_entropy(labels=None, targets=X.astype(np.float64)), "targets: expected 6 elements of float32"),
    (cross_entropy(loss_rows=np.zeros(3, np.float32)), "loss_rows"),
    (cross_entropy(weights=np.ones(3, np.float32)), "weights"),
    (cross_entropy(correct=np.ones(2, np.uint8)), "correct"),
    (cross_entropy(scale=np.ones(2, np.float32)), "scale"),
    (cross_entropy(label_smoothing=1.0), "label smoothing"),
    (cross_entropy(label_smoothing=np.nan), "label smoothing"),
    (cross_entropy(dx=tensor(X[:1])), "one shape"),
    (cross_entropy(x=tensor(np.zeros((2, 0), np.float32))), "columns"),
    (lambda: _loss.MeanSquaredError(tensor(X), ROWS, X[:1]), "targets"),
    (lambda: _loss.MeanAbsoluteError(tensor(X), ROWS, None), "targets"),
    (lambda: _loss.LossTotal(ROWS, np.zeros(2, np.float32)), "totals"),
    (lambda: _loss.LossTotal(ROWS, np.zeros(2), ROWS[:1]), "2 elements"),
])
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_prediction_and_gradient_must_differ():
    t = tensor(X.copy())
    with pytest.raises(ValueError, match="must be different"):
        _loss.SoftmaxCrossEntropy(tensor(X), ROWS, labels=LABELS, p=t, dx=t)
