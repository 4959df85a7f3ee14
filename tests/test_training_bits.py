"""Training in a process: the same bits on any number of threads, after a fork, and without new memory."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import optimizers, zoo
from tests.check import assert_allocates_nothing, bits, traced
from tests.small_nets import X, Y, compiled, smooth_cnn, tiny_cnn

pytestmark = pytest.mark.usefixtures("usual_threads")


def train_with_dropout(threads: int) -> bytes:
    fc.set_num_threads(threads)
    fc.seed(3)
    model = fc.Sequential(
        [
            *zoo.simple_cnn((12, 12, 1), 4).layers[:-2],
            L.Dropout(0.3),
            L.Dense(32, activation="relu"),
            L.Dropout(0.5),
            L.Dense(4, activation="softmax"),
        ]
    )
    x = np.random.default_rng(1).random((70, 12, 12, 1))
    compiled(model, optimizers.Adam(clipnorm=1.0), metrics=["accuracy"])
    history = model.fit(x, np.arange(70) % 4, batch_size=32, epochs=2, verbose=0).history
    return bits(model) + repr(history).encode() + model.predict(x).tobytes()


def test_threads_do_not_change_a_bit():
    results = {threads: train_with_dropout(threads) for threads in (1, 2, 3, 4)}
    assert len(set(results.values())) == 1
    assert train_with_dropout(2) == results[1], "a second run with the same seed"


def test_python_threads_train_two_models():
    """Two models trained at the same time get the bits they get one after the other."""
    fc.set_num_threads(2)

    def models():
        fc.seed(5)
        return [compiled(tiny_cnn(), "adam"), compiled(smooth_cnn(), optimizers.SGD(0.1))]

    def train(model):
        for _ in range(6):
            model.train_on_batch(X, Y)

    alone, together = models(), models()
    for model in alone:
        train(model)
    threads = [threading.Thread(target=train, args=(model,)) for model in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert [bits(model) for model in together] == [bits(model) for model in alone]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("wanted", [None, 2])
def test_a_forked_child_trains(wanted):
    """After the parent has used its threads; also when the child asks for threads, which it cannot have."""
    fc.set_num_threads(2)
    model = compiled(tiny_cnn())
    model.train_on_batch(X, Y)
    copy = compiled(tiny_cnn())
    copy.set_weights(model.get_weights())
    copy.train_on_batch(X, Y)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if wanted is not None:
                fc.set_num_threads(wanted)
            model.train_on_batch(X, Y)
            os.write(write, bytes([fc.get_num_threads(), bits(model) == bits(copy)]))
        finally:
            os._exit(0)
    os.close(write)
    deadline = time.monotonic() + 30
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == bytes([1, True])


def test_a_steady_step_allocates_nothing(rng):
    """A run of a plan makes a few Python numbers; a whole step, nothing of the size of a batch."""
    model = compiled(zoo.simple_cnn((12, 12, 1), 4), "adam", metrics=["accuracy"])
    x, y = rng.random((64, 12, 12, 1), np.float32), np.arange(64) % 4
    for _ in range(3):
        model.train_on_batch(x, y)
    assert_allocates_nothing(model._plan("train", 64))
    few, peak = traced(lambda: model.train_on_batch(x, y), 50)
    many, _ = traced(lambda: model.train_on_batch(x, y), 250)
    assert many - few < 3000  # what the interpreter keeps for itself does not grow with the steps
    assert peak < x.nbytes
