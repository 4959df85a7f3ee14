"""fit, evaluate and predict: every kind of data, what is reported, what callbacks may do."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import sys
import weakref

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import callbacks, metrics, optimizers
from fastcnn import layers as L  # noqa: N812
from fastcnn.callbacks import callback as callback_module
from fastcnn.data import Dataset
from tests.check import bits
from tests.small_nets import SPARSE, X, Y, compiled, tiny_cnn

pytestmark = pytest.mark.usefixtures("usual_threads")


# ------------------------------------------------------------------------------------------ data


def test_every_kind_of_data_trains_alike(rng):
    """Arrays of any dtype and layout, Dataset, batches and generator: the same bits in the same order."""
    integers = rng.integers(0, 255, X.shape).astype(np.uint8)
    batches = [(integers[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]
    read_only = integers.astype(np.float32)
    read_only.flags.writeable = False
    kinds = {
        "uint8": (integers, Y),
        "float64": (integers.astype(np.float64), Y),
        "int64": (integers.astype(np.int64), Y[:, None]),
        "fortran": (np.asfortranarray(integers.astype(np.float32)), Y.astype(np.float64)),
        "read only": (read_only, Y),
        "strided": (np.repeat(integers, 2, axis=2)[:, :, ::2], Y.tolist()),
        "list": ([integers.astype(">f4")], [Y]),
        "Dataset": (Dataset(integers, Y, batch_size=8), None),
        "batches": (batches, None),
        "generator": ((batch for batch in batches), None),
        "iterator": (iter(batches), None),
    }
    results = {}
    for name, (x, y) in kinds.items():
        fc.seed(1)
        model = compiled(
            fc.Sequential([L.Rescaling(1 / 255), L.Conv2D(4, 3), L.Flatten(), L.Dense(5, "softmax")])
        )
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        results[name] = bits(model)
    assert {name for name, result in results.items() if result != results["uint8"]} == set()


def test_evaluate_and_predict_take_iterables():
    model = compiled(tiny_cnn(), metrics=["accuracy"])
    batches = [(X[:10], Y[:10]), (X[10:], Y[10:])]
    want = model.evaluate(X, Y, verbose=0)
    assert model.evaluate(batches, verbose=0) == pytest.approx(want)
    assert model.evaluate(Dataset(X, Y), verbose=0) == pytest.approx(want)
    assert model.predict(Dataset(X, Y, batch_size=9)).tobytes() == model.predict(X).tobytes()
    assert model.predict(iter([X[:10], X[10:]])).tobytes() == model.predict(X).tobytes()


class Loader:
    """Batches as PyTorch's loaders give them: lists [x, y], a length that is an error, no batch_size."""

    batch_size = None

    def __iter__(self):
        return iter([[X[:10], Y[:10]], [X[10:], Y[10:]]])

    def __len__(self):
        raise TypeError("a stream has no length")


def test_loaders_of_lists():
    model = compiled(tiny_cnn(), metrics=["accuracy"])
    assert model.evaluate(Loader(), verbose=0) == pytest.approx(model.evaluate(X, Y, verbose=0))
    assert model.predict(Loader()).tobytes() == model.predict(X).tobytes()
    history = model.fit(Loader(), epochs=2, validation_data=(X, Y), verbose=0).history
    assert len(history["val_loss"]) == 2
    with pytest.raises(ValueError, match="numpy.stack"):
        model.predict(iter([[X[0], X[1]]]))


class Slices:
    """As Keras's PyDataset: a length and items, which never raise IndexError."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


def test_items_by_number_end_with_the_length():
    model = compiled(tiny_cnn())
    assert model.evaluate(Slices(), verbose=0) == model.evaluate(Dataset(X, Y, batch_size=8), verbose=0)
    assert len(model.predict(Slices())) == 23
    assert model.fit(Slices(), epochs=2, verbose=0).epoch == [0, 1]


def test_predictions_of_batches_show_progress(capsys):
    tiny_cnn().predict(Dataset(X, batch_size=9), verbose=1)
    assert capsys.readouterr().out.startswith("Predict - ")


def test_inputs_are_not_modified():
    x, y = X.copy(), Y.copy()
    model = compiled(fc.Sequential([L.ReLU(input_shape=(12, 12, 3)), L.Flatten(), L.Dense(5, "softmax")]))
    model.fit(x, y, verbose=0)
    model.predict(x)
    model(x)
    assert (x == X).all()
    assert (y == Y).all()


def test_results_are_copies():
    model = tiny_cnn()
    first = model(X)
    kept = first.copy()
    model(X[::-1])
    model.predict(X[::-1])
    assert (first == kept).all()


class SpoiltError(fc.losses.Loss):
    """The mean squared error of a user who works in place."""

    def per_sample(self, y_true, y_pred):
        y_pred -= y_true
        y_true[...] = np.nan
        y_pred **= 2
        return y_pred.mean(1)

    def gradient(self, y_true, y_pred):
        y_pred -= y_true
        y_true[...] = np.nan
        y_pred *= 2 / y_pred.size
        return y_pred


def spoilt_error(y_true, y_pred):
    y_pred -= y_true
    y_true[...] = np.nan
    y_pred **= 2
    return y_pred.mean(1)


class Spoiler(fc.metrics.Mean):
    def values(self, y_true, y_pred):
        y_pred[...] = 0
        return y_pred.mean(1)


def net_of_rows():
    return fc.Sequential([L.Flatten(input_shape=(12, 12, 3)), L.Dense(5, kernel_initializer="ones")])


def test_losses_and_functions_may_work_in_place(rng):
    targets = rng.standard_normal((len(X), 5)).astype(np.float32)
    results = []
    for loss, metric in (("mse", "mse"), (SpoiltError(), spoilt_error)):
        model = compiled(net_of_rows(), "sgd", loss, metrics=[metric, "mae"])
        history = model.fit(X, targets, batch_size=8, shuffle=False, epochs=2, verbose=0).history
        results.append([*history.values(), model.evaluate(X, targets, verbose=0), model.predict(X)])
    for kernel, spoilt in zip(*results, strict=True):
        np.testing.assert_allclose(spoilt, kernel, rtol=1e-4)


def test_metrics_of_ones_own_cannot_change_what_others_read(rng):
    model = compiled(net_of_rows(), "sgd", "mse", metrics=[Spoiler("spoiler"), "mae"])
    with pytest.raises(ValueError, match="read-only"):
        model.evaluate(X, rng.standard_normal((len(X), 5)), verbose=0)


def test_samples_in_lists_of_numbers():
    x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    model = fc.Sequential([L.Dense(8, activation="tanh"), L.Dense(1, activation="sigmoid")])
    compiled(model, optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=100, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] == 1.0
    assert (model.predict(x)[:, 0].round() == y).all()


def test_shuffling_visits_every_sample_once():
    seen = []

    class Watch(L.Layer):
        def forward(self, x, training):
            seen.extend(x[:, 0].tolist())
            return x

        def backward(self, dy):
            return dy

    model = compiled(
        fc.Sequential(
            [L.Dense(1, input_shape=(1,), kernel_initializer="ones", trainable=False), Watch(), L.Dense(1)]
        ),
        "sgd",
        "mse",
    )
    model.fit(np.arange(10.0)[:, None], np.zeros(10), batch_size=4, epochs=2, verbose=0)
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:] != list(range(10))


def test_validation_split_takes_the_last_samples(rng):
    weights = rng.random(23)
    model = compiled(tiny_cnn(), optimizers.SGD(0.0), metrics=["accuracy"])
    history = model.fit(
        X, Y, validation_split=0.3, sample_weight=weights, class_weight={0: 9.0}, verbose=0
    ).history
    cut = int(23 * 0.7)
    by_hand = model.fit(
        X[:cut], Y[:cut], validation_data=(X[cut:], Y[cut:], weights[cut:]), verbose=0
    ).history
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history["val_loss"] == pytest.approx(by_hand["val_loss"], rel=1e-6)
    assert history["val_accuracy"] == by_hand["val_accuracy"]
    probability = model.predict(X[cut:])[np.arange(23 - cut), Y[cut:]]
    assert history["val_loss"] == [pytest.approx((-np.log(probability) * weights[cut:]).mean(), rel=1e-5)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: (X[:9], Y[:9]),
        lambda: Dataset(X[:9], Y[:9], batch_size=4),
        lambda: iter([(X[:4], Y[:4]), (X[4:9], Y[4:9])]),
    ],
)
def test_validation_data_of_every_kind(make):
    model = compiled(tiny_cnn())
    history = model.fit(X, Y, validation_data=make(), verbose=0).history
    assert history["val_loss"] == [pytest.approx(model.evaluate(X[:9], Y[:9], verbose=0), rel=1e-6)]


def test_several_metrics():
    """Each must be what its own class makes of the predictions, over all batches of an evaluation."""
    chosen = [
        "accuracy",
        "sparse_top_k_categorical_accuracy",
        metrics.SparseTopKCategoricalAccuracy(k=2, name="top2"),
        metrics.ConfusionMatrix(),
        metrics.Precision(class_id=1),
        "sparse_categorical_crossentropy",
        lambda y_true, y_pred: y_pred.max(axis=-1),
    ]
    chosen[-1].__name__ = "confidence"
    model = compiled(tiny_cnn(), metrics=chosen)
    logs = model.evaluate(X, Y, batch_size=7, return_dict=True, verbose=0)
    p = model.predict(X)
    ranks = (p > p[np.arange(23), Y][:, None]).sum(1)
    confusion = np.zeros((5, 5))
    np.add.at(confusion, (Y, p.argmax(1)), 1)
    positive = p[:, 1] > 0.5
    want = {
        "loss": logs["loss"],
        "accuracy": (ranks == 0).mean(),
        "sparse_top_k_categorical_accuracy": 1.0,
        "top2": (ranks < 2).mean(),
        "confusion_matrix": confusion,
        "precision": (Y[positive] == 1).mean() if positive.any() else 0.0,
        "sparse_categorical_crossentropy": logs["loss"],
        "confidence": p.max(1).mean(),
    }
    assert list(logs) == list(want)
    for name, value in want.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-6, err_msg=name)
    assert all(type(value) is float for name, value in logs.items() if name != "confusion_matrix")


def test_names_of_metrics_differ():
    """As in Keras: accuracy, accuracy_1; and none takes the place of the loss."""
    chosen = ["accuracy", "accuracy", metrics.SparseTopKCategoricalAccuracy(2, name="loss")]
    model = compiled(tiny_cnn(), metrics=chosen)
    logs = model.evaluate(X, Y, return_dict=True, verbose=0)
    assert list(logs) == ["loss", "accuracy", "accuracy_1", "loss_1"]
    assert len(model.evaluate(X, Y, verbose=0)) == 4 and logs["accuracy"] == logs["accuracy_1"]
    assert logs["loss"] == pytest.approx(compiled(model).evaluate(X, Y, verbose=0))


def test_accuracy_means_what_the_loss_needs():
    for loss, units, y in (
        (SPARSE, 5, Y),
        ("categorical_crossentropy", 5, np.eye(5)[Y]),
        ("binary_crossentropy", 1, Y > 2),
    ):
        model = fc.Sequential(
            [L.Flatten(input_shape=(12, 12, 3)), L.Dense(units, "sigmoid" if units == 1 else "softmax")]
        )
        p = compiled(model, "sgd", loss, metrics=["accuracy"]).predict(X)
        right = (p[:, 0] > 0.5) == y if units == 1 else p.argmax(1) == Y
        assert model.evaluate(X, y, verbose=0)[1] == pytest.approx(right.mean())


def test_a_new_output_gets_its_own_accuracy():
    """'accuracy' of one unit, then, without compiling again, of five."""
    model = fc.Sequential([L.Flatten(input_shape=(12, 12, 3)), L.Dense(1, "sigmoid")])
    compiled(model, "sgd", "mse", metrics=["accuracy"]).fit(X, Y > 2, verbose=0)
    model.pop()
    model.add(L.Dense(5, activation="softmax"))
    right = model.predict(X).argmax(1) == Y
    assert model.evaluate(X, np.eye(5)[Y], verbose=0)[1] == pytest.approx(right.mean())


# ------------------------------------------------------------------------------------------ callbacks


def test_early_stopping_ends_with_the_best_weights():
    """Trained with a rate that soon makes things worse on shuffled labels held back."""
    model = compiled(tiny_cnn(), optimizers.Adam(0.02))
    stop = callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = model.fit(X, Y, epochs=60, validation_data=(X[::-1], Y), callbacks=[stop], verbose=0).history
    losses_seen = history["val_loss"]
    assert 3 <= len(losses_seen) < 60
    assert len(losses_seen) == int(np.argmin(losses_seen)) + 3
    assert model.evaluate(X[::-1], Y, verbose=0) == pytest.approx(min(losses_seen), rel=1e-6)


def test_model_checkpoint_keeps_the_best_model(tmp_path):
    model = compiled(tiny_cnn(), optimizers.Adam(0.02), metrics=["accuracy"])
    best = callbacks.ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    every = callbacks.ModelCheckpoint(tmp_path / "{epoch}.safetensors", save_weights_only=True)
    history = model.fit(
        X, Y, epochs=6, validation_data=(X[::-1], Y), callbacks=[best, every], verbose=0
    ).history
    loaded = fc.load_model(tmp_path / "best.safetensors")
    assert loaded.evaluate(X[::-1], Y, verbose=0)[0] == pytest.approx(min(history["val_loss"]), rel=1e-6)
    for epoch, loss in enumerate(history["val_loss"], 1):
        loaded.load_weights(tmp_path / f"{epoch}.safetensors")
        assert loaded.evaluate(X[::-1], Y, verbose=0)[0] == pytest.approx(loss, rel=1e-6)


def test_hooks_are_called_in_keras_order():
    seen = []
    names = [
        f"on_{phase}_{edge}"
        for phase in ("train", "epoch", "train_batch", "test", "test_batch")
        for edge in ("begin", "end")
    ]
    record = callbacks.LambdaCallback(**{name: lambda *_, n=name: seen.append(n[3:]) for name in names})
    compiled(tiny_cnn()).fit(
        X, Y, batch_size=16, validation_data=(X[:5], Y[:5]), callbacks=[record], verbose=0
    )
    batch, test = ["train_batch_begin", "train_batch_end"], ["test_batch_begin", "test_batch_end"]
    assert seen == [
        "train_begin",
        "epoch_begin",
        *batch,
        *batch,
        "test_begin",
        *test,
        "test_end",
        "epoch_end",
        "train_end",
    ]


def test_evaluate_and_predict_call_hooks():
    """Keras's order; batches of prediction come with their outputs."""
    seen, outputs = [], []
    names = [f"on_{phase}_{edge}" for phase in ("test", "test_batch", "predict", "predict_batch")
             for edge in ("begin", "end")]
    record = callbacks.LambdaCallback(**{name: lambda *_, n=name: seen.append(n[3:]) for name in names})
    keep = callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: outputs.append(logs["outputs"]))
    model = compiled(tiny_cnn(), metrics=["accuracy"])
    plain = model.evaluate(X, Y, batch_size=12, verbose=0)
    assert model.evaluate(X, Y, batch_size=12, verbose=0, callbacks=[record]) == plain
    assert seen == ["test_begin", *2 * ["test_batch_begin", "test_batch_end"], "test_end"]
    for x, size in ((X, 12), (X, 32), (Dataset(X, batch_size=8), 32)):
        seen.clear(), outputs.clear()
        predictions = model.predict(x, batch_size=size, callbacks=[record, keep])
        batches = len(x) if isinstance(x, Dataset) else -(-len(x) // size)
        assert seen == ["predict_begin", *batches * ["predict_batch_begin", "predict_batch_end"], "predict_end"]
        assert len(outputs) == batches
        np.testing.assert_array_equal(np.concatenate(outputs), predictions)
        np.testing.assert_array_equal(predictions, model.predict(X))


def test_weights_of_samples_as_a_column(rng):
    weights = rng.random(len(X)).astype(np.float32)
    results = []
    for given in (weights, weights[:, None]):
        fc.seed(0)
        model = compiled(tiny_cnn())
        history = model.fit(X, Y, sample_weight=given, validation_data=(X, Y, given), verbose=0).history
        assert history["val_loss"] == [model.evaluate(X, Y, sample_weight=given, verbose=0)]
        results.append(history)
    assert results[0] == results[1]
    assert history["val_loss"][0] != model.evaluate(X, Y, verbose=0)
    for loss in (fc.losses.MeanSquaredError(), fc.losses.Dice()):
        maps = rng.random((len(X), 4, 4, 2)).astype(np.float32)
        assert loss(maps, maps[::-1], weights[:, None]) == loss(maps, maps[::-1], weights)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_epoch_end", "on_test_batch_end", "on_predict_batch_end"])
def test_an_error_ends_the_line_of_the_progress_bar(hook, monkeypatch):
    def fail(*_):
        raise RuntimeError("the callback fails")

    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    calls, model = [callbacks.LambdaCallback(**{hook: fail})], compiled(tiny_cnn())
    work = {"on_test_batch_end": lambda: model.evaluate(X, Y, callbacks=calls),
            "on_predict_batch_end": lambda: model.predict(X, verbose=1, callbacks=calls)}
    with pytest.raises(RuntimeError, match="the callback fails") as error:  # kept, as the loop that it came from
        work.get(hook, lambda: model.fit(X, Y, epochs=2, callbacks=calls))()
    assert terminal.getvalue().endswith("\n")
    left = terminal.getvalue()
    del error
    gc.collect()
    assert terminal.getvalue() == left


def test_hooks_may_ask_for_their_logs():
    """As in Keras, logs are always given: functions and hooks need no default for them."""
    told = {}
    hooks = {
        hook: (lambda number, logs, hook=hook: told.setdefault(hook, logs))
        if "epoch" in hook or "batch" in hook
        else (lambda logs, hook=hook: told.setdefault(hook, logs))
        for hook in callback_module.ALL_HOOKS
        if "predict" not in hook
    }
    history = compiled(tiny_cnn()).fit(
        X, Y, epochs=2, validation_split=0.5, callbacks=callbacks.LambdaCallback(**hooks), verbose=0
    ).history
    assert told.keys() == hooks.keys()
    assert {hook for hook, logs in told.items() if logs == {}} == {hook for hook in hooks if hook.endswith("begin")}
    assert told["on_train_end"] == {name: values[-1] for name, values in history.items()}


def test_a_callback_can_stop_training_and_change_the_rate():
    model = compiled(tiny_cnn(), optimizers.SGD(0.1))

    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    history = model.fit(X, Y, batch_size=4, epochs=5, callbacks=[Stop()], verbose=0)
    assert (model.optimizer.iterations, history.epoch) == (2, [0])
    before = bits(model)
    model.fit(X, Y, epochs=2, callbacks=[callbacks.LearningRateScheduler(lambda epoch: 0.0)], verbose=0)
    assert bits(model) == before


def test_initial_epoch_and_the_history():
    model = compiled(tiny_cnn(), metrics=["accuracy"])
    history = model.fit(X, Y, epochs=5, initial_epoch=3, verbose=0)
    assert history is model.history
    assert history.epoch == [3, 4]
    assert {name: len(values) for name, values in history.history.items()} == {"loss": 2, "accuracy": 2}


def test_a_model_without_a_name_is_gone_with_its_memory():
    """Large models made in a loop should not wait for the garbage collector."""
    gc.disable()
    try:
        model = compiled(tiny_cnn(), metrics=["accuracy"])
        history = model.fit(X, Y, validation_split=0.5, verbose=0)
        model.predict(X)
        model(X, training=True)
        parts = [weakref.ref(part) for part in (model, model._store, *model._plans.values())]
        del model
        assert len(parts) >= 5 and not [part for part in parts if part() is not None]
        assert history.model is None and len(history.history["loss"]) == 1
    finally:
        gc.enable()


def test_a_history_can_be_kept():
    model = compiled(tiny_cnn())
    history = model.fit(X, Y, epochs=2, verbose=0)
    assert history.model is model
    for kept in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert kept.history == history.history and kept.epoch == [0, 1] and kept.model is None


def test_the_history_of_an_interrupted_fit_is_there():
    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    model = compiled(tiny_cnn())
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, epochs=9, callbacks=[callbacks.LambdaCallback(on_epoch_begin=interrupt)], verbose=0)
    assert model.history.epoch == [0, 1] and len(model.history.history["loss"]) == 2
