"""What every module of names shares: errors, the generator, one-hot targets, configurations, regularizers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastcnn import initializers, losses, metrics, optimizers, random, regularizers, schedules
from fastcnn.errors import unknown_name
from fastcnn.utils import serialize, to_categorical


def test_an_unknown_name_lists_the_choices_and_the_nearest():
    error = unknown_name("activation", "Rleu", ["tanh", "relu", "linear"], "Conv2D")
    assert isinstance(error, ValueError)
    assert str(error) == (
        "Conv2D: unknown activation 'Rleu'. Did you mean 'relu'? Choose one of: linear, relu, tanh."
    )


def test_no_guess_where_nothing_is_near():
    assert "Did you mean" not in str(unknown_name("loss", "qqqqq", ["mse", "mae"]))


def test_seed_repeats_the_stream():
    random.seed(5)
    first = [random.next_seed() for _ in range(3)], random.generator().normal(size=2).tolist()
    random.seed(5)
    assert ([random.next_seed() for _ in range(3)], random.generator().normal(size=2).tolist()) == first
    random.seed(6)
    assert random.next_seed() != first[0][0]
    assert all(0 <= s < 2**64 for s in first[0]) and max(first[0]) > 2**32


@pytest.mark.parametrize(("wrong", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError)])
def test_seed_refuses(wrong, error):
    with pytest.raises(error, match="seed"):
        random.seed(wrong)


def test_to_categorical():
    expected = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    for labels in ([1, 0, 2], np.array([[1], [0], [2]], np.uint8), np.array([1.0, 0.0, 2.0])):
        one_hot = to_categorical(labels)
        assert one_hot.dtype == np.float32
        np.testing.assert_array_equal(one_hot, expected)
    assert to_categorical([1, 0], 5).shape == (2, 5)
    assert to_categorical([], 5).shape == (0, 5)
    assert to_categorical(np.zeros((2, 3, 4), int), 7).shape == (2, 3, 4, 7)


@pytest.mark.parametrize(
    ("labels", "classes", "error", "words"),
    [
        ([0, 3], 3, ValueError, r"label 3 at index 1 is outside 0..2 \(3 classes\)"),
        ([[0], [-1]], 3, ValueError, "label -1 at index 1"),
        ([0.5], None, ValueError, "integer class labels, got 0.5 at index 0"),
        ([np.nan], None, ValueError, "nan at index 0"),
        ([np.inf], None, ValueError, "inf at index 0"),
        (["cat"], None, TypeError, "integer class labels"),
        ([], None, ValueError, "pass num_classes"),
    ],
)
def test_to_categorical_refuses(labels, classes, error, words):
    with pytest.raises(error, match=words):
        to_categorical(labels, classes)


MODULES = {
    initializers: [
        initializers.HeNormal(seed=3),
        initializers.VarianceScaling(2.5, "fan_out", "uniform"),
        initializers.Constant([1.0, 2.0]),
        initializers.Orthogonal(gain=2.0),
    ],
    regularizers: [regularizers.L1(0.5), regularizers.L2(), regularizers.L1L2(0.1, 0.2)],
    schedules: [
        schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True),
        schedules.PiecewiseConstantDecay([3, 5], [1.0, 0.5, 0.1]),
        schedules.CosineDecay(0.0, 10, 0.1, warmup_target=1.0, warmup_steps=4),
        schedules.OneCycle(1.0, 100),
    ],
    losses: [losses.CategoricalCrossentropy(True, 0.1), losses.Huber(2.0), losses.Hinge()],
    metrics: [
        metrics.AUC(50, from_logits=True),
        metrics.MeanIoU(4, ignore_class=0),
        metrics.MeanLoss(losses.Huber(3.0)),
        metrics.ConfusionMatrix(),
        metrics.Precision(0.3, class_id=1),
    ],
    optimizers: [
        optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=2.0),
        optimizers.AdamW(schedules.ExponentialDecay(0.1, 10, 0.5)),
        optimizers.RMSprop(centered=True, weight_decay=0.1),
    ],
}


@pytest.mark.parametrize(
    ("module", "item"), [(module, item) for module, items in MODULES.items() for item in items], ids=repr
)
def test_configurations_survive_json(module, item):
    described = serialize(item)
    rebuilt = module.get(json.loads(json.dumps(described)))
    assert type(rebuilt) is type(item)
    assert serialize(rebuilt) == described
    assert repr(rebuilt) == repr(item)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_get_takes_names_classes_and_objects(module):
    for item in MODULES[module]:
        assert module.get(item) is item
    names = {
        initializers: "GlorotUniform",
        regularizers: "l1_l2",
        losses: "MSE",
        metrics: "mean_absolute_error",
        optimizers: "RMSprop",
    }
    if module in names:
        assert module.get(names[module]) is not None
        with pytest.raises(ValueError, match="compile: unknown .* Choose one of"):
            module.get("no such name", where="compile")
    with pytest.raises(TypeError, match="expected the name of a"):
        module.get(3)


def test_get_makes_an_object_of_a_class():
    assert isinstance(optimizers.get(optimizers.Adam), optimizers.Adam)
    assert isinstance(initializers.get(initializers.Ones), initializers.Ones)


def test_the_nearest_optimizer_is_proposed():
    with pytest.raises(ValueError, match="Did you mean 'adam'"):
        optimizers.get("adm")


W = np.array([[1.0, -2.0], [0.0, 3.0]], np.float32)


@pytest.mark.parametrize(
    ("regularizer", "penalty", "gradient"),
    [
        (regularizers.L1(0.5), 3.0, [[0.5, -0.5], [0, 0.5]]),
        (regularizers.L2(0.5), 7.0, [[1, -2], [0, 3]]),
        (regularizers.L1L2(0.5, 0.5), 10.0, [[1.5, -2.5], [0, 3.5]]),
        (regularizers.get("l2"), 0.14, [[0.02, -0.04], [0, 0.06]]),
    ],
)
def test_regularizers(regularizer, penalty, gradient):
    assert regularizer(W) == pytest.approx(penalty)
    assert regularizer.gradient(W).dtype == np.float32
    np.testing.assert_allclose(regularizer.gradient(W), gradient, rtol=1e-6)


def test_regularizers_know_their_factors_and_refuse_negative_ones():
    assert (regularizers.L1(0.5).l1, regularizers.L1(0.5).l2) == (0.5, 0.0)
    assert regularizers.get(None) is None
    with pytest.raises(ValueError, match="L2: l2 must be at least 0, got -1"):
        regularizers.L2(-1)
