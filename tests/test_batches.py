"""Single batches, what compile takes, and how metrics are weighted."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import metrics, optimizers
from tests.check import bits
from tests.small_nets import SPARSE, X, Y, compiled, tiny_cnn

pytestmark = pytest.mark.usefixtures("usual_threads")

WEIGHTS = np.linspace(0, 2, len(X))
BY_CLASS = {0: 3.0, 2: 0.25}


def twins(number=2, **words):
    models = [compiled(tiny_cnn(), optimizers.SGD(0.1), metrics=["accuracy"], **words) for _ in range(number)]
    for model in models[1:]:
        model.set_weights(models[0].get_weights())
    return models


def line(metrics=(), weighted_metrics=()):
    """y = x, for numbers."""
    net = fc.Sequential([L.Dense(1, use_bias=False, kernel_initializer="ones", input_shape=(1,))], name="net")
    return compiled(net, optimizers.SGD(0.0), "mse", metrics=list(metrics), weighted_metrics=list(weighted_metrics))


# ------------------------------------------------------------------------------------------ on_batch


@pytest.mark.parametrize("words", [{}, {"sample_weight": WEIGHTS}, {"class_weight": BY_CLASS},
                                   {"sample_weight": WEIGHTS, "class_weight": BY_CLASS}])
def test_train_on_batch_is_a_step_of_fit(words):
    one, other = twins()
    values = one.train_on_batch(X, Y, **words)
    history = other.fit(X, Y, batch_size=len(X), shuffle=False, verbose=0, **words).history
    assert values == [history["loss"][0], history["accuracy"][0]]
    assert bits(one) == bits(other)


@pytest.mark.parametrize("words", [{}, {"sample_weight": WEIGHTS}])
def test_test_on_batch_is_an_evaluation(words):
    model = twins(1)[0]
    before = bits(model)
    assert model.test_on_batch(X, Y, **words) == model.evaluate(X, Y, verbose=0, **words)
    assert bits(model) == before


def test_batches_can_be_reported_by_name():
    model = twins(1)[0]
    tested, trained = model.test_on_batch(X, Y, return_dict=True), model.train_on_batch(X, Y, return_dict=True)
    assert list(tested) == ["loss", "accuracy"] == model.metrics_names and tested == trained
    for call in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(TypeError, match="_on_batch: return_dict must be True or False, got 1"):
            call(X, Y, return_dict=1)


def test_each_batch_is_reported_alone():
    net = line(["mae"])
    assert net.train_on_batch([2.0], [0.0]) == [4, 2]
    assert net.train_on_batch([1.0, 3.0], [0.0, 0.0]) == [5, 2]
    assert net.test_on_batch([5.0], [0.0]) == [25, 5]


def test_predict_on_batch():
    model = tiny_cnn()
    assert model.predict_on_batch(X).tobytes() == model.predict(X).tobytes()
    assert model.predict_on_batch(X[:0]).shape == (0, 5)
    with pytest.raises(ValueError, match=r"predict_on_batch: the model expects x of shape \(None, 12, 12, 3\)"):
        model.predict_on_batch(X[0])


def test_sample_weights_of_a_batch_are_checked():
    model = twins(1)[0]
    with pytest.raises(ValueError, match="train_on_batch: sample_weight must be 23 numbers"):
        model.train_on_batch(X, Y, sample_weight=WEIGHTS[:5])
    with pytest.raises(TypeError, match="train_on_batch: class_weight must be a dict"):
        model.train_on_batch(X, Y, class_weight=[1, 2])
    with pytest.raises(ValueError, match="train_on_batch: y is missing"):
        model.train_on_batch(X)


def test_numbers_may_lack_the_axis_of_one_feature():
    net, x = line(), np.arange(4.0)
    for call in (net, net.predict, net.predict_on_batch):
        assert call(x).tobytes() == call(x[:, None]).tobytes()
    assert net.evaluate(x, x + 1, verbose=0) == net.train_on_batch(x, x + 1) == 1
    with pytest.raises(ValueError, match=r"expects x of shape \(None, 3\), got \(3,\)"):
        fc.Sequential([L.Dense(1, input_shape=(3,))]).predict(np.ones(3))


# ------------------------------------------------------------------------------------------ names, weights


def test_names_of_metrics_are_those_of_the_results():
    model = compiled(fc.Sequential([L.Flatten(), L.Dense(5, "softmax")], name="net"), "sgd", SPARSE, metrics=["acc"])
    with pytest.raises(ValueError, match="net has no shapes yet"):
        _ = model.metrics_names
    logs = model.evaluate(X, Y, return_dict=True, verbose=0)
    assert model.metrics_names == list(logs) == ["loss", "acc"]
    with pytest.raises(ValueError, match="must be compiled first"):
        _ = tiny_cnn().metrics_names


def test_weights_that_training_leaves_alone():
    model = fc.Sequential([L.Conv2D(2, 3, input_shape=(5, 5, 1), name="conv"), L.BatchNormalization(name="norm")])
    conv, norm = model.layers
    assert [v.path for v in norm.non_trainable_weights] == ["norm/moving_mean", "norm/moving_variance"]
    assert model.non_trainable_weights == norm.non_trainable_weights
    conv.trainable = False
    assert [v.name for v in conv.non_trainable_weights] == ["kernel", "bias"] and conv.trainable_weights == []
    assert model.non_trainable_weights == [*conv.weights, *norm.non_trainable_weights]
    assert model.variables == model.weights and model.trainable_variables == model.trainable_weights
    assert norm.non_trainable_variables == norm.non_trainable_weights
    assert {*model.weights} == {*model.trainable_weights, *model.non_trainable_weights}


# ------------------------------------------------------------------------------------------ weighted metrics


def test_metrics_with_and_without_weights():
    """Values of Keras 3 for the same call."""
    numbers = np.arange(12.0)
    logs = line(["mae"], ["mae", "mse"]).train_on_batch(numbers, np.zeros(12), sample_weight=numbers, return_dict=True)
    assert logs == {"loss": pytest.approx(363.0), "mae": pytest.approx(5.5), "weighted_mae": pytest.approx(7.6666665),
                    "mse": pytest.approx(66.0)}


@pytest.mark.parametrize(("chosen", "weighted", "names"), [
    (["mae"], [], ["mae"]), ([], ["mae"], ["mae"]), (["mae"], ["mae"], ["mae", "weighted_mae"]),
    ([], ["mae", "mae", "mae"], ["mae", "weighted_mae", "weighted_mae_1"]), (["mse"], ["mae"], ["mse", "mae"]),
])
def test_names_of_weighted_metrics(chosen, weighted, names):
    assert line(chosen, weighted).metrics_names == ["loss", *names]


@pytest.mark.parametrize("words", [{"sample_weight": WEIGHTS}, {"class_weight": BY_CLASS}])
def test_weighted_accuracy_over_batches(words):
    model = twins(1, weighted_metrics=["accuracy", metrics.SparseTopKCategoricalAccuracy(2, name="top")])[0]
    ranks = (model.predict(X) > model.predict(X)[np.arange(len(X)), Y][:, None]).sum(1)
    weights = words.get("sample_weight", np.array([BY_CLASS.get(label, 1.0) for label in Y]))
    model.optimizer.learning_rate = 0.0
    history = model.fit(X, Y, batch_size=7, verbose=0, **words).history
    assert history["accuracy"] == [pytest.approx((ranks == 0).mean())]
    assert history["weighted_accuracy"] == [pytest.approx(np.average(ranks == 0, weights=weights))]
    assert history["top"] == [pytest.approx(np.average(ranks < 2, weights=weights))]


def test_without_weights_both_kinds_agree():
    logs = twins(1, weighted_metrics=["accuracy"])[0].evaluate(X, Y, batch_size=7, verbose=0)
    assert logs[1] == logs[2]


def test_weighted_metrics_of_several_outputs_and_of_positions():
    x = fc.Input((4, 4, 1), name="x")
    maps, total = L.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="map")(x), L.Flatten(name="flat")(x)
    model = fc.Model(x, [maps, total])
    model.compile("sgd", ["mse", "mse"], metrics={"map": ["mae"]}, weighted_metrics={"map": ["mae"], "flat": ["mae"]})
    rng = np.random.default_rng(0)
    images, weights = rng.random((3, 4, 4, 1)), rng.random((3, 4, 4))
    logs = model.evaluate(images, [np.zeros_like(images), np.zeros((3, 16))], verbose=0, return_dict=True,
                          sample_weight=[weights, np.array([1.0, 2, 0])])
    assert list(logs) == ["loss", "map_loss", "flat_loss", "map_mae", "map_weighted_mae", "flat_mae"]
    assert logs["map_mae"] == pytest.approx(images.mean())
    assert logs["map_weighted_mae"] == pytest.approx(np.average(images[..., 0], weights=weights), rel=1e-6)
    assert logs["flat_mae"] == pytest.approx(np.average(images.reshape(3, 16).mean(1), weights=[1, 2, 0]), rel=1e-6)


def test_weighted_metrics_are_kept_in_files(tmp_path):
    path = tmp_path / "model.safetensors"
    twins(1, weighted_metrics=["accuracy", metrics.SparseTopKCategoricalAccuracy(2, name="top")])[0].save(path)
    assert fc.load_model(path).metrics_names == ["loss", "accuracy", "weighted_accuracy", "top"]


@pytest.mark.parametrize(("words", "error", "message"), [
    ({"weighted_metrics": "mae"}, TypeError, r"weighted_metrics must be a list, such as \['accuracy'\]"),
    ({"weighted_metrics": ["acuracy"]}, ValueError, "unknown metric 'acuracy'"),
    ({"run_eagerly": True}, ValueError, "run_eagerly=True is not possible: a model is traced once"),
    ({"run_eagerly": 2}, TypeError, "run_eagerly must be True or False"),
    ({"steps_per_execution": 8}, ValueError, "steps_per_execution=8 is not possible: callbacks are called for every"),
    ({"steps_per_execution": "many"}, TypeError, "steps_per_execution must be a whole number"),
    ({"jit_compile": "always"}, TypeError, "jit_compile must be True or False, got 'always'"),
    ({"auto_scale_loss": 1}, TypeError, "auto_scale_loss must be True or False"),
])
def test_compile_says_what_it_cannot_do(words, error, message):
    with pytest.raises(error, match=rf"^net\.compile: {message}"):
        line().compile("sgd", "mse", **words)


def test_compile_takes_what_changes_nothing():
    one, other = twins()
    for jit, eagerly, steps, scale in (("auto", False, 1, True), (True, None, None, False), (None, False, 1, None)):
        other.compile(optimizers.SGD(0.1), SPARSE, metrics=["accuracy"], jit_compile=jit, run_eagerly=eagerly,
                      steps_per_execution=steps, auto_scale_loss=scale)
    assert one.train_on_batch(X, Y) == other.train_on_batch(X, Y)
    assert bits(one) == bits(other)


# ------------------------------------------------------------------------------------------ unknown arguments


@pytest.mark.parametrize(("call", "message"), [
    (lambda net: net.fit(X, Y, epoch=3), "Sequential.fit: unknown argument 'epoch'. Did you mean 'epochs'?"),
    (lambda net: net.fit(X, Y, nb_epoch=3), "Sequential.fit: unknown argument 'nb_epoch'. Did you mean 'epochs'?"),
    (lambda net: net.fit(), "Sequential.fit: missing a required argument: 'x'; its arguments are x, y, batch_size"),
    (lambda net: net.compile(optimiser="sgd"), "compile: unknown argument 'optimiser'. Did you mean 'optimizer'?"),
    (lambda net: net.evaluate(X, Y, step=3), "Sequential.evaluate: unknown argument 'step'. Did you mean 'steps'?"),
    (lambda net: net.predict(X, workers=3), "Sequential.predict: unknown argument 'workers'. Choose one of: batch"),
    (lambda net: net.train_on_batch(X, Y, reset_metrics=True), "train_on_batch: unknown argument 'reset_metrics'."),
    (lambda net: net.test_on_batch(X, Y, None, True, 3), "Sequential.test_on_batch: too many positional arguments"),
    (lambda net: fc.Model(inputs=net.input, output=net.output), "Model: unknown argument 'output'. Did you mean 'outp"),
    (lambda net: fc.Sequential(layer=[]), "Sequential: unknown argument 'layer'. Did you mean 'layers'?"),
    (lambda net: L.Dense(3)(X, trainin=True), "Dense: unknown argument 'trainin'. Did you mean 'training'?"),
    (lambda net: L.Add()([X, X], axis=1), "Add: unknown argument 'axis'. Choose one of: inputs, training"),
    (lambda net: L.Dense(3)(), "Dense: missing a required argument: 'inputs'"),
    (lambda net: optimizers.SGD(lr=0.1), "SGD: unknown argument 'lr'. Did you mean 'learning_rate'?"),
    (lambda net: optimizers.SGD(decay=1e-6), "SGD: unknown argument 'decay'. Choose one of: clipnorm"),
    (lambda net: optimizers.AdamW(lr=0.1), "AdamW: unknown argument 'lr'. Did you mean 'learning_rate'?"),
    (lambda net: metrics.AUC(threshold=3), "AUC: unknown argument 'threshold'"),
    (lambda net: fc.regularizers.L2(l=0.1), "L2: unknown argument 'l'. Did you mean 'l2'?"),
    (lambda net: fc.losses.Huber(detla=2), "Huber: unknown argument 'detla'. Did you mean 'delta'?"),
    (lambda net: fc.callbacks.EarlyStopping(patiences=2), "EarlyStopping: unknown argument 'patiences'. Did you mean"),
    (lambda net: fc.schedules.CosineDecay(0.1, steps=2), "CosineDecay: unknown argument 'steps'"),
])
def test_unknown_arguments_name_what_was_called(call, message):
    with pytest.raises(TypeError) as caught:
        call(tiny_cnn())
    assert message in str(caught.value)


def test_methods_of_subclasses_go_by_their_name():
    class Net(fc.Model):
        def __init__(self, width):
            super().__init__()
            self.out = L.Dense(width)

        def call(self, x):
            return self.out(x)

    with pytest.raises(TypeError, match="^Net: unknown argument 'widht'. Did you mean 'width'"):
        Net(widht=3)
    with pytest.raises(TypeError, match="^Net.predict: unknown argument 'batchsize'. Did you mean 'batch_size'"):
        Net(3).predict(np.ones((2, 3)), batchsize=3)


def test_errors_within_a_call_are_left_as_they_are():
    def wrong(epoch, logs):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="^mine$"):
        compiled(tiny_cnn()).fit(X, Y, verbose=0, callbacks=fc.callbacks.LambdaCallback(on_epoch_begin=wrong))


# ------------------------------------------------------------------------------------------ a last axis of one


def test_a_channel_axis_may_be_missing_or_one_too_many():
    model = compiled(fc.Sequential([L.Conv2D(2, 3, input_shape=(6, 5, 1)), L.Flatten(), L.Dense(3)]), "sgd", "mse")
    x, y = np.random.default_rng(2).random((7, 6, 5, 1)), np.ones((7, 3))
    want = model.predict(x), model.evaluate(x, y, verbose=0)
    start = model.get_weights()
    trained = []
    for given in (x, x[..., 0], x[..., None], np.asfortranarray(x[..., 0])):
        model.set_weights(start)
        assert model.predict(given).tobytes() == model(given).tobytes() == want[0].tobytes()
        assert model.evaluate(given, y, verbose=0) == want[1]
        batches = model.fit([(given[:4], y[:4])], epochs=1, verbose=0).history
        trained.append([model.train_on_batch(given, y), batches, bits(model)])
    assert trained[1:] == trained[:1] * 3
    for wrong in (x[:, :, 0], x[0], x[0, :, :, 0], x[..., None, None], np.zeros((7, 6, 5, 2))[..., None]):
        with pytest.raises(ValueError, match=r"expects x of shape \(None, 6, 5, 1\), got"):
            model.predict(wrong)
