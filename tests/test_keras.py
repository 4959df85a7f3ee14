"""Agreement with Keras: layers, losses and optimizers in training, metrics, initializers and schedules by their values.

Keras 3 on TensorFlow, in float64, given the same weights and data. Its results are stored; those of now are compared
where this Python has Keras and TensorFlow, or FASTCNN_KERAS_PYTHON names one that has.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fastcnn import initializers, layers, losses, metrics, optimizers, schedules
from tests import keras_peer, layer_cases, value_cases
from tests.curves import Results, assert_digests_agree, assert_results_agree, digest, peer_python
from tests.layer_cases import CASES, LAYERS, LOSSES, OPTIMIZERS
from tests.value_cases import INITIALIZERS, METRICS, SCHEDULES

STORED = keras_peer.stored()

# What has no case of its own, and why.
WITHOUT_CASE = {
    layers: {"InputLayer", "Layer"},  # no computation
    losses: {"Loss", "PositionLoss"},
    optimizers: {"Optimizer"},
    metrics: {"Metric", "Mean", "FunctionMetric", "MeanLoss"},  # bases; MeanLoss is in "mean ..."
}


def limit(name: str) -> float:
    """Relative to the norm of each array.

    Adam's default rates are no floats, and Keras rounds them; where batches or groups are normalised, gradients of what
    that takes away again are 0, but for rounding.
    """
    return 1e-4 if name.startswith(("optimizer Adam", "BatchNormalization", "GroupNormalization")) else 2e-5


@cache
def trained(name: str) -> Results:
    return layer_cases.train(name, CASES[name])


@pytest.fixture(scope="module")
def from_keras():
    """What Keras computes now."""
    python = peer_python("FASTCNN_KERAS_PYTHON", "keras", "tensorflow")
    if python is None:
        pytest.skip("no Keras with TensorFlow here, and no FASTCNN_KERAS_PYTHON")
    return keras_peer.ask(python)


@pytest.fixture(params=["stored", "now"])
def values(request):
    """Keras's values of metrics, initializers and schedules by case."""
    if request.param == "stored":
        return STORED
    return request.getfixturevalue("from_keras")


# ------------------------------------------------------------------------------------------ nothing is left out


@pytest.mark.parametrize("module, cases", [
    (layers, {case.layer[0] for case in LAYERS.values()}),
    (losses, {case.loss[0] for case in LOSSES.values()}),
    (optimizers, {case.optimizer[0] for case in OPTIMIZERS.values()}),
    (metrics, {case.metric[0] for case in METRICS.values()}),
], ids=["layers", "losses", "optimizers", "metrics"])  # fmt: skip
def test_everything_public_has_a_case(module, cases):
    """Of the classes, which functions of similar names call; other names of a class are the class itself."""
    covered = {getattr(module, name, None) for name in cases}
    assert {name for name in module.__all__ if isinstance(getattr(module, name), type)
            and getattr(module, name) not in covered} == WITHOUT_CASE[module]


def classes(module, base: type) -> set[str]:
    """Names of the classes in a module that derive from one."""
    return {c.__name__ for c in vars(module).values() if isinstance(c, type) and issubclass(c, base) and c is not base}


def test_every_initializer_and_schedule_has_a_case():
    """A user's function has nothing to compare, and Keras has no OneCycle."""
    initialized = {description[0] for description, _ in INITIALIZERS.values()}
    assert classes(initializers, initializers.Initializer) - initialized == {"FunctionInitializer"}
    scheduled = {description[0] for description in SCHEDULES.values()}
    assert classes(schedules, schedules.LearningRateSchedule) - scheduled == {"OneCycle"}


def test_every_activation_has_a_case():
    named = {case.layer[1]["activation"] for case in LAYERS.values() if case.layer[0] == "Activation"}
    assert named == set(layers.activations.ACTIVATIONS)


def test_stored_results_are_those_of_the_cases():
    assert set(STORED) == {*CASES, *METRICS, *INITIALIZERS, *SCHEDULES}


# ------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("name", CASES)
def test_training_agrees_with_stored_results_of_keras(name):
    """Forward, all gradients, ten steps; `python -m tools.make_keras_results` stores them."""
    assert_digests_agree(digest(trained(name)), STORED[name], limit(name))


@pytest.mark.parametrize("name", CASES)
def test_training_agrees_with_keras(name, from_keras):
    """The same, value for value."""
    assert_results_agree(trained(name), from_keras[name], limit(name))


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("name", METRICS)
def test_metrics_agree_with_keras(name, values):
    np.testing.assert_allclose(value_cases.measure(name, METRICS[name]), values[name]["result"], rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_agree_with_keras(name, values):
    np.testing.assert_allclose(value_cases.rates(SCHEDULES[name]), values[name]["rates"], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_agree_with_keras(name, values):
    assert_one_distribution(name, value_cases.initialize(*INITIALIZERS[name]), values[name])


def assert_one_distribution(name, found, wanted):
    """Means and deviations, the shares of values below Keras's quantiles, and the bounds if there are any.

    All but the last are random: to some four of their own deviations.
    """
    quantiles, (mean, deviation) = np.asarray(wanted["quantiles"]), wanted["moments"]
    assert found.mean() == pytest.approx(mean, rel=1e-6, abs=6 * deviation / np.sqrt(value_cases.VALUES))
    assert found.std() == pytest.approx(deviation, rel=0.015, abs=1e-9)
    if deviation > 1e-9:
        shares = (found[:, None] <= quantiles[1:-1]).mean(0)
        np.testing.assert_allclose(shares, np.linspace(0, 1, len(quantiles))[1:-1], atol=0.012)
    if not any(word in name for word in value_cases.WITHOUT_BOUNDS):
        np.testing.assert_allclose([found.min(), found.max()], quantiles[[0, -1]], atol=2e-3 * np.ptp(quantiles) + 1e-7)


# ------------------------------------------------------------------------------------------ mistakes are noticed


def first_of_each_layer() -> list[str]:
    """The first case with weights of each layer class."""
    found: dict[str, str] = {}
    for name, case in LAYERS.items():
        own = f"gradients/{len(case.shapes)}/"
        if any(key.startswith(own) for key in STORED[name]):
            found.setdefault(case.layer[0], name)
    return list(found.values())


@pytest.mark.parametrize("name", first_of_each_layer())
def test_another_weight_is_noticed(name, monkeypatch):
    """One value of one weight, by a hundredth of a usual size."""
    case, usual = LAYERS[name], layer_cases.initial_weight
    variables = layer_cases.Network(name, case).layers[len(case.shapes)].variables
    for variable in variables:
        def perturbed(owner, kind, shape, wrong=variable.name):
            values = usual(owner, kind, shape)
            if (owner, kind) == (f"{name} {len(case.shapes)}", wrong):
                values.flat[-1] += 1e-2
            return values

        monkeypatch.setattr(layer_cases, "initial_weight", perturbed)
        with pytest.raises(AssertionError):
            assert_digests_agree(digest(layer_cases.train(name, case)), STORED[name], limit(name))


def like(kind: str, **words) -> str:
    """The name of the first case of a layer with these arguments."""
    return next(name for name, case in LAYERS.items()
                if case.layer[0] == kind and all(case.layer[1].get(key) == value for key, value in words.items()))


def exchanged(case, kind=None, inputs=None, **words):
    """A case with other arguments of its layer, or another layer, or another order of its inputs."""
    return replace(case, layer=(kind or case.layer[0], {**case.layer[1], **words}), inputs=inputs or case.inputs)


WRONG_LAYERS = [
    (like("Conv2D", strides=3), {"strides": [4, 3]}),
    (like("Conv2D", strides=2), {"strides": 1}),
    (like("Conv2D", padding=[[2, 0], [1, 1]]), {"padding": [[0, 2], [1, 1]]}),
    (like("Conv2D", dilation_rate=2, padding="same"), {"dilation_rate": 1}),
    (like("Conv2D", activation="gelu"), {"activation": "silu"}),
    (like("Conv2D", kernel_regularizer="l2"), {"kernel_regularizer": "l1"}),
    (like("Conv1D", padding="causal"), {"padding": [[2, 2]]}),
    (like("Conv3D", padding=[[0, 1], [1, 1], [2, 0]]), {"padding": [[1, 0], [1, 1], [2, 0]]}),
    (like("Conv2DTranspose", padding=[[1, 1], [0, 2]]), {"padding": [[1, 1], [2, 0]]}),
    (like("DepthwiseConv2D", dilation_rate=2), {"dilation_rate": 1}),
    (like("MaxPooling2D", strides=2), {"kind": "AveragePooling2D"}),
    (like("AveragePooling2D", strides=2), {"pool_size": 2}),
    (like("BatchNormalization", momentum=0.8), {"momentum": 0.81}),
    (like("BatchNormalization", epsilon=0.01), {"epsilon": 0.011}),
    (like("LayerNormalization", axis=[1, 2, 3]), {"epsilon": 0.011}),
    (like("GroupNormalization", groups=3), {"groups": 2}),
    (like("LeakyReLU", negative_slope=0.05), {"negative_slope": 0.051}),
    (like("ELU", alpha=0.4), {"alpha": 0.401}),
    (like("ReLU", max_value=6), {"max_value": None}),
    (like("UpSampling2D", interpolation="bilinear"), {"interpolation": "nearest"}),
    (like("ZeroPadding2D", padding=[[1, 2], [0, 3]]), {"padding": [[2, 1], [0, 3]]}),
    (like("Cropping2D", cropping=[[1, 2], [0, 3]]), {"cropping": [[2, 1], [0, 3]]}),
    (like("Permute", dims=[3, 1, 2]), {"dims": [3, 2, 1]}),
    (like("Rescaling"), {"offset": -0.301}),
    (like("Subtract"), {"inputs": (1, 0)}),
    (like("Maximum"), {"kind": "Average"}),
    (like("Concatenate", axis=-2), {"inputs": (1, 0)}),
]  # fmt: skip


@pytest.mark.parametrize("name, wrong", WRONG_LAYERS, ids=[f"{name} {wrong}" for name, wrong in WRONG_LAYERS])
def test_another_layer_is_noticed(name, wrong):
    case = exchanged(LAYERS[name], **wrong)
    with pytest.raises(AssertionError):
        assert_digests_agree(digest(layer_cases.train(name, case)), STORED[name], limit(name))


WRONG_RULES = [
    ("optimizer SGD momentum", {"nesterov": True}), ("optimizer SGD weight decay", {"weight_decay": 0.101}),
    ("optimizer SGD clipnorm", {"clipnorm": None, "global_clipnorm": 0.1}),
    ("optimizer SGD clipvalue", {"clipvalue": 0.0101}), ("optimizer Adam", {"kind": "Nadam"}),
    ("optimizer Adam betas", {"beta_1": 0.801}), ("optimizer Adam betas", {"beta_2": 0.951}),
    ("optimizer Adam betas", {"epsilon": 1.1e-3}), ("optimizer AdamW", {"weight_decay": 0.0}),
    ("optimizer Nadam betas", {"beta_2": 0.951}), ("optimizer RMSprop momentum", {"momentum": 0.901}),
    ("optimizer RMSprop centered", {"centered": False}), ("optimizer RMSprop momentum", {"rho": 0.801}),
    ("optimizer Adagrad start", {"initial_accumulator_value": 0.501}), ("optimizer Adadelta rate", {"rho": 0.801}),
    ("loss Huber delta", {"delta": 0.301}), ("loss CategoricalCrossentropy smooth", {"label_smoothing": 0.101}),
    ("loss BinaryCrossentropy of logits", {"label_smoothing": 0.201}), ("loss Dice of each class", {"axis": [1, 2, 3]}),
    ("loss SparseCategoricalCrossentropy without a class", {"ignore_class": 2}),
    ("loss MeanSquaredError", {"kind": "Huber"}),
]  # fmt: skip


@pytest.mark.parametrize("name, wrong", WRONG_RULES, ids=[f"{name} {wrong}" for name, wrong in WRONG_RULES])
def test_another_optimizer_or_loss_is_noticed(name, wrong):
    case, field = CASES[name], name.split()[0]
    kind, words = getattr(case, field)
    words = {**words, **wrong}
    case = replace(case, **{field: (words.pop("kind", kind), words)})
    with pytest.raises(AssertionError):
        assert_digests_agree(digest(layer_cases.train(name, case)), STORED[name], limit(name))


@pytest.mark.parametrize("key", ["layer", "outputs", "outputs after", "losses", "gradients/1/0",
                                 "gradients of inputs/0"])
def test_a_wrong_array_is_noticed(key):
    """The comparison itself, in both forms."""
    name = like("Conv2D")
    right, at = trained(name), limit(name)
    assert_results_agree(right, right, at)
    wrong = {**right, key: right[key].copy()}
    wrong[key].flat[-1] += 1e-3 * np.linalg.norm(wrong[key])
    with pytest.raises(AssertionError):
        assert_results_agree(wrong, right, at)
    with pytest.raises(AssertionError):
        assert_digests_agree(digest(wrong), digest(right), at)
    with pytest.raises(AssertionError):
        assert_results_agree({k: v for k, v in right.items() if k != key}, right, at)


@pytest.mark.parametrize("name, other", [
    ("HeNormal (3,3,4,8)", ("GlorotNormal", {})), ("HeNormal (3,3,4,8)", ("HeUniform", {})),
    ("TruncatedNormal (20,7)", ("RandomNormal", {})), ("RandomNormal (20,7)", ("TruncatedNormal", {})),
    ("LecunNormal (20,7)", ("VarianceScaling", {"mode": "fan_avg"})),
    ("LecunNormal (20,7)", ("VarianceScaling", {"distribution": "untruncated_normal"})),
    ("GlorotUniform (3,3,4,8)", ("VarianceScaling", {"scale": 1.02, "mode": "fan_avg", "distribution": "uniform"})),
    ("Orthogonal (20,7)", ("RandomNormal", {"stddev": 0.22})),
    ("Constant value=0.3 (30,)", ("Constant", {"value": 0.301})),
])  # fmt: skip
def test_another_initializer_is_noticed(name, other):
    with pytest.raises(AssertionError):
        assert_one_distribution(name, value_cases.initialize(other, INITIALIZERS[name][1]), STORED[name])
