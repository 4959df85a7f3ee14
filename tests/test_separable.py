"""SeparableConv2D: a depthwise and a pointwise convolution in one layer."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers, reference, regularizers
from fastcnn.kernels import _cpu
from tests.sandwich import assert_same_after_saving, assert_step_follows_float64, bits_of_training, numbers


def test_values_are_keras():
    layer = layers.SeparableConv2D(2, 2, strides=2, depth_multiplier=2, padding="same")
    layer(layers.Input((3, 3, 2)))
    layer.set_weights([numbers(w.shape, (3, 4, 6)[i]) for i, w in enumerate(layer.get_weights())])
    want = [-3, -2, -3, 6, 9, 12, -3, 4]
    np.testing.assert_array_equal(layer(numbers((1, 3, 3, 2), 7)).ravel(), want)


CASES = [
    ({"kernel_size": 3, "padding": "same", "activation": "relu"}, (5, 4)),
    ({"kernel_size": (2, 3), "strides": 2, "depth_multiplier": 3, "activation": "tanh"}, (6, 7)),
    ({"kernel_size": 3, "dilation_rate": 2, "padding": (1, 2), "use_bias": False, "depth_multiplier": 2}, (5, 5)),
]


@pytest.mark.parametrize(("words", "size"), CASES)
def test_a_step_follows_float64(words, size, rng):
    layer = layers.SeparableConv2D(5, bias_initializer="random_normal", **words)
    options = {"strides": layer.strides, "padding": layer.padding, "dilation": layer.dilation_rate, "groups": 3}

    def middle(x, depthwise):
        return reference.conv2d(x, depthwise.reshape(*layer.kernel_size, 1, -1), **options)

    def gradients(dz, x, depthwise, pointwise, b=None):
        dm = reference.conv2d_input_grad(dz, pointwise, middle(x, depthwise).shape)
        flat = depthwise.reshape(*layer.kernel_size, 1, -1)
        dw = reference.conv2d_weight_grad(x, dm, layer.kernel_size, **options).reshape(depthwise.shape)
        dp = reference.conv2d_weight_grad(middle(x, depthwise), dz, 1)
        dx = reference.conv2d_input_grad(dm, flat, x.shape, **options)
        return dx, [dw, dp, *[dz.sum((0, 1, 2))] * (b is not None)]

    def forward(x, depthwise, pointwise, b=None):
        return reference.conv2d(middle(x, depthwise), pointwise, b)

    assert_step_follows_float64(layer, (*size, 2), rng, forward, gradients)


def test_weights_and_regularizers():
    layer = layers.SeparableConv2D(
        7, (3, 2), depth_multiplier=2, depthwise_regularizer="l1", pointwise_regularizer=regularizers.L2(0.1), name="s"
    )
    layer(layers.Input((6, 6, 4)))
    assert [(v.path, v.shape) for v in layer.weights] == [
        ("s/depthwise_kernel", (3, 2, 4, 2)),
        ("s/pointwise_kernel", (1, 1, 8, 7)),
        ("s/bias", (7,)),
    ]
    kinds = [type(v.regularizer) for v in layer.weights]
    assert kinds == [regularizers.L1, regularizers.L2, type(None)]


def test_threads_do_not_change_a_bit():
    usual, results = _cpu.get_num_threads(), set()
    for threads in (1, 2, 3):
        _cpu.set_num_threads(threads)
        results.add(bits_of_training(lambda: layers.SeparableConv2D(9, 3, activation="relu"), (6, 5, 2)))
    _cpu.set_num_threads(usual)
    assert len(results) == 1


def test_it_can_be_saved(tmp_path, rng):
    model = fc.Sequential([fc.Input((6, 6, 3)), layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2)])
    assert_same_after_saving(model, rng.standard_normal((3, 6, 6, 3)), tmp_path / "model.safetensors")


MISTAKES = [
    ({"filters": 0, "kernel_size": 3}, (6, 6, 2), ValueError, "s: filters must be a whole number"),
    ({"filters": 2, "kernel_size": 3, "depth_multiplier": 1.5}, (6, 6, 2), TypeError, "s: depth_multiplier must be"),
    ({"filters": 2, "kernel_size": 3, "strides": 0}, (6, 6, 2), ValueError, "s: strides must be at least 1"),
    ({"filters": 2, "kernel_size": 7}, (6, 6, 2), ValueError, "s: the window of 7x7 pixels is larger"),
    ({"filters": 2, "kernel_size": 3}, (6, 6), ValueError, r"s: expected an input of shape \(batch, height"),
    ({"filters": 2, "kernel_size": 3, "pointwise_initializer": "glorot"}, (6, 6, 2), ValueError, "s: .*glorot"),
]


@pytest.mark.parametrize(("words", "sample", "error", "message"), MISTAKES)
def test_mistakes(words, sample, error, message):
    with pytest.raises(error, match=message):
        layers.SeparableConv2D(name="s", **words)(layers.Input(sample))
