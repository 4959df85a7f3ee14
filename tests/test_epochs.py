"""steps_per_epoch and its like: which batches an epoch sees. What is expected are the records of Keras 3 itself."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import callbacks, optimizers
from fastcnn import layers as L  # noqa: N812
from fastcnn.data import Dataset
from tests.small_nets import X as IMAGES
from tests.small_nets import Y as LABELS
from tests.small_nets import compiled, tiny_cnn

pytestmark = pytest.mark.usefixtures("usual_threads")

N = np.arange(12.0)
ZEROS = np.zeros(12)
ENDED = "ran out of data after"


def identity_net():
    """Its loss tells which numbers it has seen: their mean square."""
    net = fc.Sequential([L.Dense(1, use_bias=False, kernel_initializer="ones", input_shape=(1,))], name="net")
    return compiled(net, optimizers.SGD(0.0), "mse")


class Record(callbacks.Callback):
    """The batches of each epoch: 'E0 0 1 T t0' is two of training and one of a test."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __str__(self):
        return " ".join(self.seen)

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(f"E{epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(f"{batch}")

    def on_test_begin(self, logs=None):
        self.seen.append("T")

    def on_test_batch_end(self, batch, logs=None):
        self.seen.append(f"t{batch}")


def counting(batches=None):
    """Batches of the numbers 0, 1, 2, ... with targets of 0; endless unless told."""
    for i in itertools.count() if batches is None else range(batches):
        yield np.full(4, float(i)), np.zeros(4)


class ByNumber:
    """As a PyDataset of three batches, which keeps what is asked of it."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 3

    def __iter__(self):
        return (self[i] for i in range(3))

    def __getitem__(self, i):
        self.asked.append(i)
        return np.full(4, float(i)), np.zeros(4)

    def on_epoch_begin(self):
        self.asked.append("begin")

    def on_epoch_end(self):
        self.asked.append("end")


def fit(x, y=None, epochs=3, **words):
    """(losses, batches seen, whether the data ended)."""
    record = Record()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = identity_net().fit(x, y, epochs=epochs, shuffle=False, verbose=0, callbacks=record, **words).history
    return history, str(record), sum(ENDED in str(warning.message) for warning in caught)


def mean_squares(*epochs):
    return pytest.approx([np.mean(np.square(epoch)) for epoch in epochs])


# ------------------------------------------------------------------------------------------ steps_per_epoch


@pytest.mark.parametrize(("steps", "seen", "warnings_given", "losses"), [
    (1, "E0 0 E1 0 E2 0", 0, (N[:4], N[4:8], N[8:])),
    (2, "E0 0 1 E1 0 E2 0 1", 1, (N[:8], N[8:], N[:8])),
    (3, "E0 0 1 2 E1 0 1 2 E2 0 1 2", 0, (N, N, N)),
    (4, "E0 0 1 2 E1 0 1 2 E2 0 1 2", 3, (N, N, N)),
])
def test_epochs_of_arrays_go_on_where_the_last_stopped(steps, seen, warnings_given, losses):
    history, record, ended = fit(N, ZEROS, batch_size=4, steps_per_epoch=steps)
    assert (record, ended) == (seen, warnings_given)
    assert history["loss"] == mean_squares(*losses)


def test_steps_choose_the_size_of_batches():
    """All samples in so many batches, unless batch_size is given: 12 in five are four of three."""
    assert fit(N, ZEROS, epochs=1, steps_per_epoch=5)[1:] == ("E0 0 1 2 3", 1)
    assert fit(N, ZEROS, epochs=1, steps_per_epoch=4, validation_split=0.5, validation_steps=2)[1:] == (
        "E0 0 1 2 T t0 t1", 1)  # of six samples each
    assert fit(N, ZEROS, epochs=1)[1] == "E0 0"


@pytest.mark.parametrize(("batches", "seen", "warnings_given", "losses"), [
    (None, "E0 0 1 2 E1 0 1 2 E2 0 1 2", 0, ((0, 1, 2), (3, 4, 5), (6, 7, 8))),
    (9, "E0 0 1 2 E1 0 1 2 E2 0 1 2", 0, ((0, 1, 2), (3, 4, 5), (6, 7, 8))),
    (7, "E0 0 1 2 E1 0 1 2 E2 0", 1, ((0, 1, 2), (3, 4, 5), (6,))),
    (6, "E0 0 1 2 E1 0 1 2 E2", 1, ((0, 1, 2), (3, 4, 5))),
    (2, "E0 0 1 E1", 2, ((0, 1),)),
])
def test_epochs_of_generators(batches, seen, warnings_given, losses):
    """They go on; where one has ended, training ends with what there was."""
    history, record, ended = fit(counting(batches), steps_per_epoch=3)
    assert (record, ended) == (seen, warnings_given)
    assert history["loss"] == mean_squares(*losses)


def test_no_batch_more_than_asked_for_is_read():
    source = counting()
    fit(source, steps_per_epoch=2)
    assert next(source)[0][0] == 6
    identity_net().evaluate(source, steps=2, verbose=0)
    identity_net().predict(source, steps=1)
    assert next(source)[0][0] == 10


def test_an_iterable_of_unknown_length_is_read_again():
    class Batches:
        def __iter__(self):
            return counting(3)

    history, record, ended = fit(Batches(), steps_per_epoch=3, epochs=2)
    assert (record, ended) == ("E0 0 1 2 E1 0 1 2", 0)
    assert fit(Batches(), steps_per_epoch=2)[1:] == ("E0 0 1 E1 0 E2 0 1", 1)


@pytest.mark.parametrize(("steps", "asked"), [
    (None, ["begin", 0, 1, 2, "end"] * 3),
    (1, ["begin", 0, "end", "begin", 1, "end", "begin", 2, "end"]),
    (2, ["begin", 0, 1, "end", "begin", 2, "end", "begin", 0, 1, "end"]),
])
def test_objects_with_items_by_number_are_told_of_epochs(steps, asked):
    data = ByNumber()
    fit(data, steps_per_epoch=steps)
    assert data.asked == asked


def test_tests_and_predictions_are_epochs_too():
    data, net = ByNumber(), identity_net()
    net.fit(N, ZEROS, validation_data=data, epochs=2, verbose=0)
    net.evaluate(data, verbose=0)
    net.predict(data)
    assert data.asked == ["begin", 0, 1, 2, "end"] * 4


def test_items_by_number_are_shuffled_for_training_only():
    fc.seed(3)
    data, net = ByNumber(), identity_net()
    for _ in range(3):
        net.fit(data, epochs=4, verbose=0)
    orders = {tuple(data.asked[i + 1 : i + 4]) for i in range(0, len(data.asked), 5)}
    assert len(orders) > 1 and all(sorted(order) == [0, 1, 2] for order in orders)
    data.asked.clear()
    net.evaluate(data, verbose=0)
    assert data.asked == ["begin", 0, 1, 2, "end"]


def test_a_stop_in_the_middle_ends_the_epoch():
    stop = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(net, "stop_training", batch == 1))
    data, net = ByNumber(), identity_net()
    net.fit(data, epochs=3, shuffle=False, callbacks=stop, verbose=0)
    assert data.asked == ["begin", 0, 1, "end"]


def test_callbacks_know_the_number_of_steps():
    params = []
    keep = callbacks.LambdaCallback(on_train_begin=lambda logs: params.append(keep.params["steps"]),
                                    on_test_begin=lambda logs: params.append(keep.params["steps"]),
                                    on_predict_begin=lambda logs: params.append(keep.params["steps"]))
    net = identity_net()
    net.fit(counting(), steps_per_epoch=2, callbacks=keep, verbose=0)
    net.evaluate(N, ZEROS, steps=3, callbacks=keep, verbose=0)
    net.predict(N, batch_size=5, callbacks=keep)
    net.predict(N, steps=2, callbacks=keep)
    assert params == [2, 3, 3, 2]


def test_shuffled_arrays_are_seen_once_in_several_epochs():
    fc.seed(0)
    seen = []
    model = compiled(fc.Sequential([L.Dense(1, use_bias=False, kernel_initializer="ones", input_shape=(1,))]),
                     optimizers.SGD(0.0), "mse", metrics=[lambda y_true, y_pred: seen.extend(y_pred[:, 0]) or 0.0])
    model.fit(N, ZEROS, batch_size=4, steps_per_epoch=1, epochs=6, verbose=0)
    assert sorted(seen[:12]) == sorted(seen[12:]) == N.tolist()
    assert seen[:12] != N.tolist() and seen[:12] != seen[12:]


# ------------------------------------------------------------------------------------------ validation


@pytest.mark.parametrize(("words", "seen"), [
    ({"validation_steps": 1, "validation_batch_size": 6, "validation_freq": 2}, "E0 0 E1 0 T t0 E2 0"),
    ({"validation_batch_size": 5}, "E0 0 T t0 t1 t2 E1 0 T t0 t1 t2 E2 0 T t0 t1 t2"),
    ({"validation_freq": [1, 3]}, "E0 0 T t0 E1 0 E2 0 T t0"),
    ({"validation_freq": 5}, "E0 0 E1 0 E2 0"),
    ({"initial_epoch": 1, "validation_freq": 2}, "E1 0 T t0 E2 0"),
])
def test_when_and_how_much_is_validated(words, seen):
    assert fit(N, ZEROS, validation_data=(N, ZEROS), **words)[1] == seen


@pytest.mark.parametrize("make", [lambda: (N, ZEROS), lambda: Dataset(N, ZEROS, batch_size=4), ByNumber])
def test_each_validation_starts_anew(make):
    history, _, ended = fit(N, ZEROS, validation_data=make(), validation_batch_size=4, validation_steps=2)
    assert len(set(history["val_loss"])) == 1 and ended == 0


def test_validation_from_a_generator_goes_on():
    history, _, _ = fit(N, ZEROS, validation_data=counting(), validation_steps=2)
    assert history["val_loss"] == mean_squares((0, 1), (2, 3), (4, 5))


def test_monitors_pass_over_epochs_without_validation():
    model = compiled(tiny_cnn(), optimizers.Adam(0.02))
    stop = callbacks.EarlyStopping(patience=1)
    with pytest.warns(UserWarning, match="EarlyStopping monitors 'val_loss'"):
        history = model.fit(IMAGES, LABELS, epochs=40, validation_data=(IMAGES[::-1], LABELS), validation_freq=2,
                            callbacks=stop, verbose=0).history
    assert len(history["loss"]) in (2 * len(history["val_loss"]), 2 * len(history["val_loss"]) + 1)
    assert len(history["loss"]) < 40


# ------------------------------------------------------------------------------------------ evaluate, predict


@pytest.mark.parametrize(("make", "steps", "numbers"), [
    (lambda: N, 2, N[:8]), (lambda: N, 3, N), (lambda: N, 1, N[:4]),
    (counting, 3, np.repeat([0.0, 1, 2], 4)), (ByNumber, 2, np.repeat([0.0, 1], 4)),
    (lambda: Dataset(N, ZEROS, batch_size=4), 2, N[:8]),
])
def test_steps_of_evaluate_and_predict(make, steps, numbers):
    words = {"steps": steps, "batch_size": 4, "verbose": 0}
    x = make()
    assert identity_net().evaluate(x, ZEROS if x is N else None, **words) == pytest.approx(np.mean(numbers**2))
    predictions = identity_net().predict(make(), **words)
    assert predictions[:, 0].tolist() == numbers.tolist()


@pytest.mark.parametrize("make", [lambda: N, lambda: counting(3), ByNumber])
def test_too_few_batches_for_evaluate_and_predict(make):
    words = {"steps": 5, "batch_size": 4, "verbose": 0}
    x = make()
    with pytest.warns(UserWarning, match=r"net\.evaluate: the input ran out of data after 3 of 5 batches"):
        identity_net().evaluate(x, ZEROS if x is N else None, **words)
    with pytest.warns(UserWarning, match=r"net\.predict: the input ran out of data after 3 of 5 batches"):
        assert len(identity_net().predict(make(), **words)) == 12


def test_batches_of_an_iterable_are_predicted_whole():
    seen = []
    keep = callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: seen.append(len(logs["outputs"])))
    identity_net().predict([(np.ones(50),), (np.ones(40),)], callbacks=keep)
    assert seen == [50, 40]


# ------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(("words", "error", "message"), [
    ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be a whole number of 1 or more, got 0"),
    ({"steps_per_epoch": 1.5}, TypeError, "steps_per_epoch must be a whole number of 1 or more, got 1.5"),
    ({"validation_steps": -1}, ValueError, "validation_steps must be"),
    ({"validation_batch_size": "all"}, TypeError, "validation_batch_size must be"),
    ({"validation_freq": 0}, ValueError, "validation_freq must be"),
    ({"validation_freq": [1, "2"]}, TypeError, "every epoch in validation_freq must be"),
    ({"validation_data": counting(0), "validation_steps": 2}, ValueError, "validation_data: the data holds no"),
    ({"validation_data": counting(3)}, ValueError, "validation_data: epoch 2 .*a generator can be read only once"),
])
@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_wrong_numbers_are_refused(words, error, message):
    with pytest.raises(error, match=rf"^net\.fit: {message}"):
        identity_net().fit(N, ZEROS, epochs=2, verbose=0, **words)


@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_no_batch_at_all_is_an_error():
    for call in (lambda net: net.fit(counting(0), steps_per_epoch=2, verbose=0),
                 lambda net: net.evaluate(counting(0), steps=2, verbose=0), lambda net: net.predict(iter(()), steps=2)):
        with pytest.raises(ValueError, match="the data holds no samples"):
            call(identity_net())
    with pytest.raises(ValueError, match=r"validation_split needs arrays; give validation_data"):
        identity_net().fit(counting(3), validation_split=0.5, verbose=0)


def test_class_weights_hold_for_batches_of_iterables():
    models = [compiled(tiny_cnn()) for _ in range(3)]
    for model in models[1:]:
        model.set_weights(models[0].get_weights())
    words = {"class_weight": {0: 3.0, 1: 0.5}, "verbose": 0}
    data = Dataset(IMAGES, LABELS, batch_size=8)
    losses = [models[0].fit(IMAGES, LABELS, batch_size=8, shuffle=False, **words).history["loss"],
              models[1].fit(data, **words).history["loss"], models[2].fit(data, verbose=0).history["loss"]]
    assert losses[0] == losses[1] != losses[2]
