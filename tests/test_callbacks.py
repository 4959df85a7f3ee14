"""Callbacks, driven by a pretended training loop whose logs are known."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import struct
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from fastcnn.callbacks import (
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgressBar,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
    events,
    progress,
)
from fastcnn.optimizers import SGD
from fastcnn.schedules import CosineDecay


class Model:
    """What callbacks ask of a model; its one weight is the number of epochs trained."""

    def __init__(self):
        self.stop_training = False
        self.optimizer = SGD(0.1)
        self.weights = [np.zeros(1)]
        self.saved = []

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        self.weights = [w.copy() for w in weights]

    def save(self, path):
        self.saved.append(("model", path))

    def save_weights(self, path):
        self.saved.append(("weights", path))


def train(given, losses, key="val_loss", batches=2, model=None, **kwargs):
    """Run epochs that log `losses` under `key`, until they end or training is stopped."""
    model = model or Model()
    params = {"epochs": len(losses), "steps": batches, "verbose": kwargs.get("verbose", 0)}
    hooks = CallbackList(given, add_history=True, model=model, params=params, **kwargs)
    hooks.on_train_begin()
    for epoch, value in enumerate(losses):
        hooks.on_epoch_begin(epoch)
        for batch in range(batches if hooks.has_batch_hooks else 0):
            hooks.on_train_batch_begin(batch)
            hooks.on_train_batch_end(batch, {"loss": value})
        model.weights[0] += 1
        hooks.on_epoch_end(epoch, {key: value})
        if model.stop_training:
            break
    hooks.on_train_end()
    return model, hooks.history


def test_history():
    _, history = train([], [3.0, 2.0])
    assert history.history == {"val_loss": [3.0, 2.0]}
    assert history.epoch == [0, 1]
    history.on_train_begin()
    assert history.history == {} and history.epoch == []


def test_every_hook_is_called_in_order():
    called = []

    class Recorder(Callback):
        def __init__(self, name):
            super().__init__()
            for hook in dir(Callback):
                if hook.startswith("on_"):
                    setattr(self, hook, lambda *a, hook=hook: called.append((name, hook, *a)))

    hooks = CallbackList([Recorder("a"), Recorder("b")])
    for hook in ("on_train_begin", "on_test_end", "on_predict_begin"):
        getattr(hooks, hook)()
    hooks.on_test_batch_end(3, {"loss": 1.0})
    assert called == [
        (name, *call)
        for call in (
            ("on_train_begin", {}),
            ("on_test_end", {}),
            ("on_predict_begin", {}),
            ("on_test_batch_end", 3, {"loss": 1.0}),
        )
        for name in "ab"
    ]
    with pytest.raises(AttributeError, match="on_nothing"):
        hooks.on_nothing()


def test_batch_hooks_are_noticed():
    class OnBatch(Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    class OnTestBatch(Callback):
        def on_test_batch_begin(self, batch, logs=None):
            pass

    quiet = [
        History(),
        EarlyStopping(),
        checkpoint("x"),
        LambdaCallback(on_epoch_end=print),
        ProgressBar(2),
    ]
    loud = [
        OnBatch(),
        OnTestBatch(),
        TerminateOnNaN(),
        checkpoint("x", save_freq=3),
        LambdaCallback(on_train_batch_end=print),
    ]
    assert not CallbackList(quiet).has_batch_hooks
    for callback in loud:
        assert CallbackList([*quiet, callback]).has_batch_hooks, callback


def test_the_short_names_of_batch_hooks():
    """Keras calls on_batch_end as well as on_train_batch_end, of training only."""
    seen = []

    class OnBatch(Callback):
        def on_batch_begin(self, batch, logs=None):
            seen.append(("begin", batch))

        def on_batch_end(self, batch, logs=None):
            seen.append(("end", batch, logs))

    function = LambdaCallback(on_batch_end=lambda batch, logs: seen.append(("function", batch, logs)))
    calls = CallbackList([OnBatch(), function])
    assert CallbackList([OnBatch()]).has_batch_hooks and CallbackList([function]).has_batch_hooks
    calls.on_train_batch_begin(3)
    calls.on_train_batch_end(3, {"loss": 1.0})
    calls.on_test_batch_end(4, {"loss": 2.0})
    assert seen == [("begin", 3), ("end", 3, {"loss": 1.0}), ("function", 3, {"loss": 1.0})]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(patience="3"), "EarlyStopping: patience must be a whole number of 0 or more, got '3'"),
        (lambda: ReduceLROnPlateau(patience=1.5), "ReduceLROnPlateau: patience must be a whole number"),
        (lambda: LearningRateScheduler(0.1), "schedule must be a function of the epoch, got 0.1"),
        (lambda: LambdaCallback(on_epoch_end=3), "LambdaCallback: on_epoch_end must be a function, got 3"),
    ],
)
def test_arguments_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_progress_without_a_standard_output(monkeypatch):
    """As in programs without a console."""
    monkeypatch.setattr(sys, "stdout", None)
    bar = ProgressBar("auto")
    bar.on_epoch_begin(0)
    bar.on_epoch_end(0, {"loss": 1.0})


def test_what_may_stand_in_the_list():
    mine = History()
    assert CallbackList(mine, add_history=True).history is mine
    assert CallbackList().callbacks == [] and not CallbackList().has_batch_hooks
    assert isinstance(CallbackList(verbose=2).callbacks[0], ProgressBar)
    with pytest.raises(TypeError, match=r"expected fastcnn.callbacks.Callback objects.*write History\(\)"):
        CallbackList([History])
    with pytest.raises(TypeError, match="got 'early_stopping'"):
        CallbackList(["early_stopping"])
    with pytest.raises(TypeError, match="Callback objects, got 3"):
        CallbackList(3)


@pytest.mark.parametrize(
    ("options", "key", "values", "epochs"),
    [
        ({}, "val_loss", [3, 2, 2, 1], 3),
        ({"patience": 2}, "val_loss", [3, 2, 2, 2.5, 1, 1], 4),
        ({"patience": 2}, "val_loss", [3, 2, 2, 1, 2, 2, 2], 6),
        ({"patience": 1, "min_delta": 0.5}, "val_loss", [3, 2.4, 2.0, 1.0], 3),
        ({"patience": 1, "monitor": "val_accuracy"}, "val_accuracy", [0.1, 0.2, 0.15, 0.9], 3),
        ({"patience": 1, "monitor": "score", "mode": "max"}, "score", [1, 2, 1, 3], 3),
        ({"patience": 2, "baseline": 1.0}, "val_loss", [5, 4, 3, 3, 3], 4),
        ({"patience": 2, "baseline": 4.5}, "val_loss", [5, 4, 3, 2, 1], 5),
        ({"patience": 1, "start_from_epoch": 3}, "val_loss", [1, 2, 3, 4, 5, 6], 5),
        ({}, "val_loss", [float("nan"), 2, 1, 3, 0], 4),
    ],
)
def test_early_stopping(options, key, values, epochs):
    stopping = EarlyStopping(**options)
    model, history = train(stopping, values, key)
    assert len(history.epoch) == epochs
    assert model.stop_training == (epochs < len(values))
    _, history = train(stopping, values, key)  # an object used twice starts afresh
    assert len(history.epoch) == epochs


@pytest.mark.parametrize(("restore", "weight"), [(True, 2), (False, 4)])
def test_early_stopping_restores_the_best_weights(restore, weight, capsys):
    stopping = EarlyStopping(patience=2, restore_best_weights=restore, verbose=1)
    model, _ = train(stopping, [3, 1, 2, 2, 0])
    assert model.weights[0] == weight
    assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (1, 1, 3)
    printed = capsys.readouterr().out
    assert "Epoch 4: early stopping" in printed
    assert ("Weights of epoch 2 restored" in printed) == restore


def test_a_missing_entry_warns_once_and_names_the_rest():
    with pytest.warns(UserWarning) as caught:
        train(EarlyStopping("val_loss"), [1, 1, 1], key="loss")
    assert [str(w.message) for w in caught] == [
        "EarlyStopping monitors 'val_loss', which is not among the logs: loss"
    ]


@pytest.mark.parametrize("name", ["loss", "val_mean_squared_error", "val_mse", "face_accent_loss"])
def test_auto_mode_of_errors(name):
    assert EarlyStopping(name).mode == "min"


@pytest.mark.parametrize("name", ["accuracy", "val_acc", "val_mean_io_u", "auc", "val_recall"])
def test_auto_mode_of_scores(name):
    assert EarlyStopping(name).mode == "max"


def test_modes_refused():
    with pytest.raises(ValueError, match="cannot tell whether 'val_score'.*mode='min' or mode='max'"):
        EarlyStopping("val_score")
    with pytest.raises(ValueError, match="unknown mode 'maxx'. Did you mean 'max'"):
        EarlyStopping(mode="maxx")


def checkpoint(name, *arguments, **words):
    return ModelCheckpoint(f"{name}.safetensors", *arguments, **words)


def test_checkpoint_every_epoch(tmp_path, capsys):
    path = tmp_path / "new" / "m-{epoch:02d}-{val_loss:.2f}.safetensors"
    model, _ = train(ModelCheckpoint(path, verbose=1), [0.5, 0.256])
    names = [f"{tmp_path}/new/m-01-0.50.safetensors", f"{tmp_path}/new/m-02-0.26.safetensors"]
    assert model.saved == [("model", name) for name in names]
    assert (tmp_path / "new").is_dir()
    assert f"Epoch 2: saved {names[1]}" in capsys.readouterr().out


def test_checkpoint_of_the_best_weights():
    every = checkpoint("w-{epoch}", save_best_only=True, save_weights_only=True)
    model, _ = train(every, [3, 2, 2.5, 1])
    assert model.saved == [("weights", f"w-{epoch}.safetensors") for epoch in (1, 2, 4)]
    model, _ = train(
        checkpoint("w-{epoch}", save_best_only=True, initial_value_threshold=2.2), [3, 2, 1]
    )
    assert [Path(path).stem for _, path in model.saved] == ["w-2", "w-3"]
    best = checkpoint("w-{epoch}", "val_accuracy", save_best_only=True)
    model, _ = train(best, [0.1, 0.3, 0.2], key="val_accuracy")
    assert [Path(path).stem for _, path in model.saved] == ["w-1", "w-2"]


def test_checkpoint_every_few_batches():
    model, _ = train(checkpoint("{epoch}-{batch}-{loss:.0f}", save_freq=3), [7, 8, 9], batches=4)
    assert [Path(path).stem for _, path in model.saved] == ["1-3-7", "2-2-8", "3-1-9", "3-4-9"]


def test_checkpoint_without_its_entry_saves_and_warns():
    with pytest.warns(UserWarning, match="ModelCheckpoint monitors 'val_loss'"):
        model, _ = train(checkpoint("m", save_best_only=True), [1, 2], key="loss")
    assert len(model.saved) == 2


def test_checkpoint_refuses():
    with pytest.raises(ValueError, match="save_freq must be 'epoch' or a number of batches, got 'batch'"):
        checkpoint("m", save_freq="batch")
    with pytest.raises(ValueError, match="asks for 'val_acc', which is not among the logs: val_loss, epoch"):
        train(checkpoint("{val_acc:.2f}"), [1])
    with pytest.raises(ValueError, match="ModelCheckpoint: the file name must end in '.safetensors', got 'm.keras'"):
        ModelCheckpoint("m.keras")
    with pytest.raises(TypeError, match="ModelCheckpoint: expected the path of a file, got None"):
        ModelCheckpoint(None)
    checkpoint("m", monitor="anything")  # nothing is compared, so no mode is needed


@pytest.mark.parametrize(
    ("options", "values", "rates"),
    [
        ({"patience": 2}, [3, 3, 3, 3, 3, 3], [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]),
        ({"patience": 2}, [3, 3, 2, 2, 2, 2], [0.1, 0.1, 0.1, 0.1, 0.1, 0.05]),
        ({"patience": 1, "cooldown": 2}, [3, 3, 3, 3, 3, 3], [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]),
        ({"patience": 1, "min_lr": 0.04}, [3, 3, 3, 3], [0.1, 0.1, 0.05, 0.04]),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.2], [0.1, 0.1, 0.05]),
        ({"patience": 1, "mode": "max"}, [3, 4, 4], [0.1, 0.1, 0.1]),
    ],
)
def test_reduce_on_plateau(options, values, rates):
    _, history = train(ReduceLROnPlateau(factor=0.5, **options), values)
    np.testing.assert_allclose(history.history["learning_rate"], rates)


def test_reduce_on_plateau_refuses():
    with pytest.raises(ValueError, match="factor must lie between 0 and 1, got 1.0"):
        ReduceLROnPlateau(factor=1.0)
    model = Model()
    model.optimizer = SGD(CosineDecay(0.1, 10))
    with pytest.raises(TypeError, match="follows CosineDecay"):
        train(ReduceLROnPlateau(patience=1), [1, 1], model=model)


@pytest.mark.parametrize(
    "schedule", [lambda epoch: 0.1 / 2**epoch, lambda epoch, lr: lr / 2 if epoch else lr]
)
def test_learning_rate_scheduler(schedule, capsys):
    model, history = train(LearningRateScheduler(schedule, verbose=1), [1, 1, 1])
    np.testing.assert_allclose(history.history["learning_rate"], [0.1, 0.05, 0.025])
    assert model.optimizer.learning_rate == pytest.approx(0.025)
    assert "Epoch 3: learning rate set to 0.025" in capsys.readouterr().out
    with pytest.raises(TypeError, match="must return a number, got 'slow'"):
        train(LearningRateScheduler(lambda epoch: "slow"), [1])


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    train(CSVLogger(path, separator=";"), [0.5, 0.25])
    assert path.read_text().splitlines() == ["epoch;val_loss", "0;0.5", "1;0.25"]
    train(CSVLogger(path), [0.125])
    assert path.read_text().splitlines() == ["epoch,val_loss", "0,0.125"]
    logger = CSVLogger(path, append=True)
    logger.on_train_begin()
    logger.on_epoch_end(1, {"other": 3.0, "val_loss": 0.5})
    logger.on_epoch_end(2, {"other": 3.0})
    with open(path, newline="") as file:
        assert [row["val_loss"] for row in csv.DictReader(file)] == ["0.125", "0.5", "NA"]
    fresh = tmp_path / "fresh.csv"
    train(CSVLogger(fresh, append=True), [1.0])
    assert fresh.read_text().splitlines() == ["epoch,val_loss", "0,1.0"]


def test_terminate_on_nan(capsys):
    model, history = train(TerminateOnNaN(), [1.0, float("inf"), 1.0])
    assert model.stop_training and len(history.epoch) == 2
    assert "the loss is inf" in capsys.readouterr().out


def test_lambda_callback():
    seen = []
    train(LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["val_loss"]))), [5, 4])
    assert seen == [(0, 5), (1, 4)]
    with pytest.raises(ValueError, match="Did you mean 'on_epoch_end'"):
        LambdaCallback(on_epoch_ends=print)


def test_one_line_per_epoch(capsys):
    progress = ProgressBar(2)
    progress.set_params({"epochs": 5})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    progress.on_test_begin()
    progress.on_test_end({"loss": 9.0})
    progress.on_epoch_end(0, {"loss": 0.43214, "accuracy": 0.8765, "val_loss": 5e-5, "matrix": np.eye(2)})
    line = capsys.readouterr().out
    assert re.fullmatch(
        r"Epoch 1/5 - \d+\.\ds - loss: 0\.4321 - accuracy: 0\.8765 - val_loss: 5\.000e-05\n", line
    )
    progress.on_train_end()
    progress.on_test_begin()
    progress.on_test_end({"loss": 9.0})
    assert re.fullmatch(r"Evaluate - \d+\.\ds - loss: 9\.0000\n", capsys.readouterr().out)


def test_silence(capsys):
    train([], [1, 2], verbose=0)
    train(ProgressBar(0), [1, 2])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [1, "auto"])
def test_a_bar_where_it_can_move(verbose, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_is_interactive", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train([], [0.5, 0.25], verbose=verbose)
    printed = capsys.readouterr().out
    assert "Epoch 2/2: 100%" in printed and "2/2" in printed and "val_loss: 0.2500" in printed
    assert not ProgressBar(2).uses_bar


def test_lines_where_a_bar_cannot_move(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_is_interactive", lambda: False)
    train([], [0.5], verbose=1)
    assert capsys.readouterr().out.startswith("Epoch 1/1 - ")


def test_verbosity_refused():
    with pytest.raises(ValueError, match="verbose must be 0, 1, 2 or 'auto', got 'loud'"):
        ProgressBar("loud")


# ---- TensorBoard ----


def test_an_event_is_the_record_that_tensorflow_writes(tmp_path, monkeypatch):
    """Stored bytes of TensorFlow 2.21: time 1.0, step 300, one value 'loss' of 0.5, after the file's first record."""
    monkeypatch.setattr(events.time, "time", lambda: 1.0)
    writer = events.EventWriter(tmp_path / "new" / "folder")
    writer.scalars({"loss": 0.5}, 300)
    writer.close()
    (file,) = (tmp_path / "new" / "folder").iterdir()
    assert file.name.startswith("events.out.tfevents.1.000000.")
    record = "1b000000000000001a0d9e1309000000000000f03f10ac022a0d0a0b0a046c6f7373150000003f4e5c1fd1"
    content = file.read_bytes()
    assert content.endswith(bytes.fromhex(record))
    assert b"brain.Event:2" in content[: -len(record) // 2]


def written(folder):
    """(step, name, value) of all scalars in the event files of a folder."""
    found = []
    for file in sorted(folder.iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            data, at = content[at + 12 : at + 12 + size], at + size + 16
            step = data[10]  # below 128, one byte
            for match in re.finditer(rb"\x0a(.)((?:epoch|batch)_\w+?)\x15(....)", data, re.DOTALL):
                assert match[1][0] == len(match[2])
                found.append((step, match[2].decode(), struct.unpack("<f", match[3])[0]))
    return found


def test_tensorboard_gets_epochs_of_training_and_validation(tmp_path):
    board = TensorBoard(tmp_path)
    assert not board.has_batch_hooks
    board.set_model(Model())
    for epoch, loss in enumerate([0.5, 0.25]):
        board.on_epoch_begin(epoch)
        board.on_epoch_end(epoch, {"loss": loss, "val_loss": 2 * loss, "confusion_matrix": np.eye(2)})
    board.on_train_end()
    rate = pytest.approx(0.1)
    assert written(tmp_path / "train") == [(0, "epoch_loss", 0.5), (0, "epoch_learning_rate", rate),
                                           (1, "epoch_loss", 0.25), (1, "epoch_learning_rate", rate)]
    assert written(tmp_path / "validation") == [(0, "epoch_loss", 1.0), (1, "epoch_loss", 0.5)]


@pytest.mark.parametrize(("frequency", "steps"), [("batch", [1, 2, 3, 4, 5]), (2, [2, 4])])
def test_tensorboard_gets_batches(tmp_path, frequency, steps):
    board, model = TensorBoard(tmp_path, frequency, write_steps_per_second=True), Model()
    assert board.has_batch_hooks
    board.set_model(model)
    board.on_epoch_begin(0)
    for batch in range(5):
        model.optimizer.iterations += 1
        board.on_train_batch_end(batch, {"loss": float(batch)})
    board.on_epoch_end(0, {"loss": 2.0})
    board.on_train_end()
    found = written(tmp_path / "train")
    assert found[: len(steps)] == [(step, "batch_loss", step - 1.0) for step in steps]
    names = [name for _, name, _ in found[len(steps) :]]
    assert names == ["epoch_loss", "epoch_learning_rate", "epoch_steps_per_second"]
    assert found[-1][2] > 0


@pytest.mark.parametrize("frequency", ["step", 0, 1.5, True])
def test_tensorboard_refuses_other_frequencies(frequency):
    with pytest.raises(ValueError, match="update_freq must be 'epoch', 'batch' or a number of batches"):
        TensorBoard(update_freq=frequency)


# ---- files that cannot be written


def unwritable(folder, kind):
    """A path in `folder` at which no file can be made."""
    (folder / "taken").write_text("")
    (folder / "taken.csv").mkdir()
    return {"no folder": folder / "nowhere" / "log.csv", "a folder": folder / "taken.csv",
            "below a file": folder / "taken" / "log.csv"}[kind]


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("kind", ["no folder", "a folder", "below a file"])
def test_csv_logger_tells_before_training_that_it_cannot_write(kind, append, tmp_path):
    path = unwritable(tmp_path, kind)
    with pytest.raises(OSError, match="CSVLogger: cannot write ") as caught:
        CSVLogger(path, append=append).on_train_begin()
    assert f"'{path}'" in str(caught.value) and "give a file name in a folder that exists" in str(caught.value)


def test_csv_logger_appends_to_no_read_only_file(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n")
    with patch("builtins.open", side_effect=lambda path, mode, **_: refuse(path, mode)), \
            pytest.raises(PermissionError, match="CSVLogger: cannot write .*Permission denied"):
        CSVLogger(path, append=True).on_train_begin()


def refuse(path, mode):
    """What the system says about a file that may be read only."""
    if mode != "r":
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return io.StringIO(path.read_text())


@pytest.mark.parametrize("part", [".", "train"])
def test_tensorboard_tells_before_training_that_it_cannot_write(part, tmp_path):
    log_dir = tmp_path / "logs"
    taken = log_dir / part
    taken.parent.mkdir(exist_ok=True)
    taken.write_text("")
    with pytest.raises(OSError, match="TensorBoard: cannot write ") as caught:
        TensorBoard(log_dir).on_train_begin()
    assert f"'{log_dir}'" in str(caught.value) and "give a log_dir in which" in str(caught.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_names_the_callback(tmp_path):
    logger = CSVLogger("/dev/full")
    logger.on_train_begin()
    with pytest.raises(OSError, match="CSVLogger: cannot write '/dev/full' .*No space"):
        logger.on_epoch_end(0, {"loss": 1.0})
    board = TensorBoard(tmp_path)
    board.set_model(Model())
    board.on_train_begin()
    board._writers["train"]._file.close()
    board._writers["train"]._file = open("/dev/full", "wb")  # noqa: SIM115  stays with the board
    board.on_epoch_begin(0)
    with pytest.raises(OSError, match="TensorBoard: cannot write .*No space"):
        board.on_epoch_end(0, {"loss": 1.0})
