"""Weights that are updated part by part, as soon as their gradient is known: the same bits, and less memory."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import optimizers
from fastcnn.geometry import Conv
from fastcnn.kernels import _optim
from fastcnn.kernels import conv as passes
from fastcnn.kernels._executor import Program, Stage
from fastcnn.ops._engine import tensor
from fastcnn.plan import updates
from tests.check import bits, guarded
from tests.small_nets import compiled

pytestmark = pytest.mark.usefixtures("usual_threads")

RULES = {
    "sgd": lambda: optimizers.SGD(0.1),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "clipped": lambda: optimizers.RMSprop(0.01, centered=True, momentum=0.5, clipvalue=1e-3),
}


class Halves(optimizers.SGD):
    """A rule in NumPy."""

    def step(self, w, g, slots, scalars):
        w -= g / 2


class Double(L.Layer):
    """A layer in NumPy."""

    def forward(self, x, training):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


# ------------------------------------------------------------------------------------------ the kernel


@pytest.mark.parametrize("n, ic, oc", [(1, 1, 1), (5, 13, 31), (70, 28, 32), (3, 29, 33), (300, 57, 70), (7, 40, 600)])
@pytest.mark.parametrize("rule", ["sgd", "adam", "rmsprop_centered_momentum"])
def test_updating_by_parts_is_updating_at_the_end(n, ic, oc, rule, isa, threads, rng):
    conv = Conv.resolve((n, 1, 1, ic), (1, 1, ic, oc), 1, "valid", 1, 1, "dense")
    x, dy = (rng.standard_normal((n, 1, 1, c)).astype(np.float32) for c in (ic, oc))
    start = rng.random((4, ic * oc)).astype(np.float32)
    scalars = np.array([0.01, 0.5, 0.1, 0.2, 0.9, 0.8, 1e-3, 0, 0])
    slots = len(_optim.rules()[rule][0])
    results = []
    for early in (False, True):
        arrays = [guarded((ic * oc,)) for _ in range(1 + slots)]
        for (array, _), values in zip(arrays, start, strict=False):
            array[...] = values
        w, *moments = (array for array, _ in arrays)
        (dw, check_dw), (db, check_db) = guarded((1, 1, 1, ic, oc)), guarded((1, oc))
        own = _optim.Rule(rule, w, moments, scalars) if early else None
        before = dw.tobytes()
        op = passes.weight_grad(conv, tensor(x), tensor(dy), dw, db, "direct", True, update=own)
        Program([Stage([op], op.items)]).run()
        if early:
            assert dw.tobytes() == before and op.algorithm == f"direct+{rule}"
        else:
            Program([Stage([_optim.Update(rule, w, dw.reshape(-1), moments, scalars, [(0, w.size, 0, True)])],
                           -(-w.size // _optim.BLOCK))]).run()
        for check in (*(check for _, check in arrays), check_dw, check_db):
            check()
        results.append([w.tobytes(), db.tobytes(), *(moment.tobytes() for moment in moments)])
        assert w.tobytes() != start[0].tobytes()
    assert results[0] == results[1]


def test_only_weights_of_a_dense_layer_cut_by_channels():
    conv = Conv.resolve((2, 1, 1, 3), (1, 1, 3, 4), 1, "valid", 1, 1, "dense")
    x, dy = np.zeros((2, 1, 1, 3), np.float32), np.zeros((2, 1, 1, 4), np.float32)
    for by_channels, size in ((False, 12), (True, 11)):
        rule = _optim.Rule("sgd", np.zeros(size, np.float32), [], np.zeros(_optim.SCALARS))
        with pytest.raises(ValueError, match=f"{size} weights cannot be updated"):
            passes.weight_grad(conv, tensor(x), tensor(dy), np.zeros((1, 1, 1, 3, 4), np.float32), None, "direct",
                               by_channels, update=rule)


# ------------------------------------------------------------------------------------------ in a model


def net(*between, regularizer=None):
    fc.seed(3)
    return fc.Sequential([L.Conv2D(4, 3, input_shape=(8, 8, 1)), L.Flatten(), *between,
                          L.Dense(70, activation="relu", kernel_regularizer=regularizer, name="wide"),
                          L.Dropout(0.3), L.Dense(5, name="last")])


def train(model, optimizer):
    compiled(model, optimizer, fc.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    x = np.random.default_rng(1).standard_normal((70, 8, 8, 1))
    history = model.fit(x, np.arange(70) % 5, batch_size=32, epochs=2, verbose=0).history
    return bits(model) + repr(history).encode()


def early(model):
    return {variable.path.split("/")[0] for plan in model._plans.values() if plan.updates
            for variable in plan.updates.early}


@pytest.mark.parametrize("make", RULES.values(), ids=list(RULES))
def test_training_gives_the_same_bits(make, monkeypatch):
    results = []
    for limit, threads in ((1 << 30, 1), (0, 1), (0, 2), (0, 3)):
        monkeypatch.setattr(updates, "LARGE_GRADIENT", limit)
        fc.set_num_threads(threads)
        model = net()
        results.append(train(model, make()))
        assert early(model) == (set() if limit else {"wide", "last"})
    assert len(set(results)) == 1


def test_gradients_of_weights_updated_early_are_not_kept(monkeypatch):
    monkeypatch.setattr(updates, "LARGE_GRADIENT", 4 * 70 * 100)
    model = net()
    train(model, "adam")
    assert early(model) == {"wide"}
    kept = {v.path: g.any() for v, g in model._store.gradient_views().items()}
    assert [path for path, any_ in kept.items() if not any_] == ["wide/kernel"]
    kind, _, stored = model.measure(32)
    assert kind == "training" and stored == 4 * model._store.values.nbytes - 4 * 144 * 70


@pytest.mark.parametrize("optimizer", [lambda: optimizers.Adam(clipnorm=1.0), lambda: Halves(0.1),
                                       lambda: optimizers.SGD(0.1, global_clipnorm=1.0)])
def test_rules_that_want_all_gradients_first(optimizer, monkeypatch):
    monkeypatch.setattr(updates, "LARGE_GRADIENT", 0)
    model = net()
    train(model, optimizer())
    assert not early(model)


def test_weights_that_are_not_updated_early(monkeypatch):
    monkeypatch.setattr(updates, "LARGE_GRADIENT", 0)
    model = net(regularizer="l2")
    train(model, "sgd")
    assert early(model) == {"last"}
    model = net(Double())  # might fail in the midst of a step
    train(model, "sgd")
    assert not early(model)
    model = net()
    model.layers[2].variables[0].own_trainable = False
    before = model.layers[2].variables[0].numpy()
    train(model, "sgd")
    assert early(model) == {"last"} and (model.layers[2].variables[0].value == before).all()
    shared, image = L.Dense(6), fc.Input((6,))
    model = fc.Model(image, L.Dense(5)(shared(shared(image))))
    compiled(model, "sgd", "mse")
    model.train_on_batch(np.ones((3, 6)), np.ones((3, 5)))
    assert early(model) == {model.layers[-1].name}


def test_the_rules_of_both_kinds_of_weights_are_told_of_each_step(monkeypatch):
    """A learning rate that changes reaches weights updated early and late."""
    monkeypatch.setattr(updates, "LARGE_GRADIENT", 4 * 70 * 100)
    model = net()
    train(model, optimizers.SGD(0.1))
    model.optimizer.learning_rate = 0.0
    before = bits(model)
    model.train_on_batch(np.ones((32, 8, 8, 1)), np.zeros(32))
    assert bits(model) == before
