"""Where 'auto' takes Winograd's algorithm, and in which form; the policy; models trained with it."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import algorithms, layers, ops, reference, set_algorithm_policy
from fastcnn.geometry import Conv
from fastcnn.kernels import _cpu, winograd
from fastcnn.models import Sequential


def tile_of(shape, oc, which="forward", padding="same", kernel=3, **words):
    conv = Conv.resolve(shape, (kernel, kernel, shape[3] // words.get("groups", 1), oc), words.get("strides", 1),
                        padding, words.get("dilation", 1), words.get("groups", 1), "test")
    return algorithms.winograd_tile(conv, which, words.get("algorithm", "auto"))


@pytest.mark.parametrize("which", algorithms.PASSES)
def test_where_auto_is_winograd(which):
    for size, channels in ((32, 64), (16, 128), (8, 256), (28, 32), (16, 32), (8, 64), (7, 64), (6, 64)):
        assert tile_of((64, size, size, channels), channels, which) == 4
    assert tile_of((64, 5, 5, 64), 64, which) == (0 if which == "weight_grad" else 4)
    assert tile_of((64, 2, 2, 64), 64, which) == 2
    assert tile_of((64, 4, 4, 64), 128, which) == 4


def test_gradients_of_few_tiles_are_cut_by_channels():
    """Where a group of images has few tiles, transforming its sums back would cost more than the sums."""
    for shape, oc, m, want in (((64, 4, 4, 64), 128, 4, True), ((64, 16, 16, 64), 64, 4, False),
                               ((4, 28, 28, 32), 32, 4, False), ((64, 16, 16, 256), 256, 4, True)):
        conv = Conv.resolve(shape, (3, 3, shape[3], oc), 1, "same", 1, 1, "test")
        assert algorithms.sums_by_channels(conv, m) == want


@pytest.mark.parametrize("which", algorithms.PASSES)
def test_where_auto_is_direct(which):
    assert tile_of((32, 32, 32, 3), 64, which) == 0  # too few channels
    assert tile_of((32, 32, 32, 64), 8, which) == 0
    assert tile_of((1, 8, 8, 64), 64, which) == 0  # too few tiles for the transform of the weights
    for words in ({"strides": 2}, {"dilation": 2}, {"groups": 2}, {"kernel": 5}, {"kernel": 1},
                  {"algorithm": "direct"}, {"algorithm": "im2col"}):
        assert tile_of((32, 16, 16, 64), 64, which, **words) == 0
    assert tile_of((1, 8, 8, 64), 64, which, algorithm="winograd") == 4


def test_where_input_gradients_take_the_adjoint_form():
    """Where the outputs have fewer tiles than the inputs; 'direct' has neither."""
    def chosen(shape, oc, padding="valid", algorithm="auto"):
        conv = Conv.resolve(shape, (3, 3, shape[3], oc), 1, padding, 1, 1, "test")
        return algorithms.adjoint_tile(conv, algorithm)

    assert chosen((64, 6, 6, 64), 128) == 4  # one tile of outputs, four of inputs
    assert not chosen((64, 6, 6, 64), 128, "same") and not chosen((64, 16, 16, 64), 64, "same")
    assert not chosen((64, 15, 15, 32), 64)  # sixteen of both
    assert not chosen((64, 6, 6, 64), 128, algorithm="direct") and not chosen((64, 6, 6, 3), 64)


def test_where_one_pass_computes_both_gradients():
    def chosen(shape, oc, padding="same", algorithm="auto"):
        conv = Conv.resolve(shape, (3, 3, shape[3], oc), 1, padding, 1, 1, "test")
        return algorithms.winograd_gradients(conv, algorithm)

    assert chosen((64, 14, 14, 32), 64) == chosen((64, 32, 32, 64), 64) == chosen((64, 15, 15, 32), 64, "valid") == 4
    assert not chosen((64, 16, 16, 128), 128)  # sums that do not fit the cache
    assert not chosen((64, 6, 6, 64), 64, "valid")  # few tiles: sums cut by channels
    assert not chosen((64, 32, 32, 64), 64, algorithm="direct")


@pytest.fixture
def policy():
    usual = algorithms.get_algorithm_policy()
    yield set_algorithm_policy
    set_algorithm_policy(usual)


def test_policy(policy, rng):
    x, w = rng.standard_normal((4, 12, 12, 32)), rng.standard_normal((3, 3, 32, 32))
    results = {name: ops.conv2d(x, w, padding="same", algorithm=name) for name in ("direct", "winograd")}
    assert results["direct"].tobytes() != results["winograd"].tobytes()
    policy("auto")
    assert ops.conv2d(x, w, padding="same").tobytes() == results["winograd"].tobytes()
    policy("direct")
    assert algorithms.get_algorithm_policy() == "direct"
    assert ops.conv2d(x, w, padding="same").tobytes() == results["direct"].tobytes()
    assert ops.conv2d(x, w, padding="same", algorithm="winograd").tobytes() == results["winograd"].tobytes()
    with pytest.raises(ValueError, match="unknown policy 'fast'"):
        policy("fast")


@pytest.mark.parametrize("words, reason", [
    ({"strides": 2}, r"strides of 1, got \(2, 2\)"), ({"dilation": (1, 2)}, r"no dilation, got \(1, 2\)"),
    ({"groups": 2}, "one group, got groups=2"), ({"kernel": 5}, "kernels of 3x3, got 5x5")])
def test_winograd_is_refused_where_it_cannot_serve(words, reason):
    words = {**words, "algorithm": "winograd"}
    k = words.pop("kernel", 3)
    x, w = np.zeros((2, 9, 9, 4)), np.zeros((k, k, 4 // words.get("groups", 1), 8))
    y = reference.conv2d(x, w, **words)
    for call in (lambda: ops.conv2d(x, w, **words), lambda: ops.conv2d_input_grad(y, w, x.shape, **words),
                 lambda: ops.conv2d_weight_grad(x, y, k, **words)):
        with pytest.raises(ValueError, match=f"algorithm 'winograd' needs {reason}"):
            call()
    words["dilation_rate"] = words.pop("dilation", 1)
    with pytest.raises(ValueError, match=f"c: algorithm 'winograd' needs {reason}"):
        layers.Conv2D(8, k, name="c", **words)


# ---- models


def network(algorithm):
    from fastcnn import Input, seed

    seed(3)
    conv = {"kernel_size": 3, "algorithm": algorithm}
    model = Sequential([
        Input((13, 11, 16)),
        layers.Conv2D(32, padding="same", activation="relu", **conv),
        layers.MaxPooling2D(2),  # fused with the convolution
        layers.Conv2D(130, padding="same", **conv),  # its gradient goes by channels
        layers.ReLU(),
        layers.Conv2D(70, padding="valid", **conv),
        layers.MaxPooling2D(3, 1),
        layers.Conv2D(20, padding=1, activation="tanh", use_bias=False, **conv),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5, activation="softmax"),
    ])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def trained(algorithm, rng_seed=0):
    """(predictions before, weights after two epochs)"""
    rng = np.random.default_rng(rng_seed)
    x, y = rng.standard_normal((18, 13, 11, 16)).astype(np.float32), rng.integers(0, 5, 18)
    model = network(algorithm)
    before = model.predict(x, verbose=0)
    model.fit(x, y, batch_size=18, epochs=2, verbose=0, shuffle=False)
    return before, np.concatenate([w.ravel() for w in model.get_weights()])


each_storage = pytest.mark.parametrize("stored_bytes", (0, winograd.STORED_BYTES), ids=("transformed anew", "stored"))


@each_storage
def test_training_with_winograd(stored_bytes, isa, monkeypatch):
    monkeypatch.setattr(winograd, "STORED_BYTES", stored_bytes)
    (before, after), (want_before, want_after) = trained("winograd"), trained("direct")
    assert (before != want_before).any()
    np.testing.assert_allclose(before, want_before, atol=1e-5)
    np.testing.assert_allclose(after, want_after, atol=1e-5)


@each_storage
def test_training_has_the_same_bits_on_any_number_of_threads(stored_bytes, monkeypatch):
    monkeypatch.setattr(winograd, "STORED_BYTES", stored_bytes)
    usual, results = _cpu.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            _cpu.set_num_threads(threads)
            results.append([a.tobytes() for a in trained("winograd")])
    finally:
        _cpu.set_num_threads(usual)
    assert results[0] == results[1] == results[2]


def test_a_model_follows_the_policy(policy):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((18, 13, 11, 16)).astype(np.float32)
    model, direct = network("auto"), network("direct")
    policy("auto")
    assert model.predict(x, verbose=0).tobytes() != direct.predict(x, verbose=0).tobytes()
    policy("direct")
    assert model.predict(x, verbose=0).tobytes() == direct.predict(x, verbose=0).tobytes()
