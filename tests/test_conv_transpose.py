"""Conv2DTranspose: Keras's sizes and values, float64's gradients, and what it refuses."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers, ops, reference
from fastcnn.kernels import _cpu
from fastcnn.kernels import conv as passes
from fastcnn.layers.base import unique_name
from tests.check import assert_same, small_ints
from tests.sandwich import assert_same_after_saving, assert_step_follows_float64, bits_of_training, numbers

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

# Keras 3.15: output length for 4 pixels, by (padding, output_padding), strides 1 to 3 and kernels 1 to 5;
# None where output_padding is not below the stride.
KERAS_SIZES = {
    ("valid", None): [[4, 5, 6, 7, 8], [8, 8, 9, 10, 11], [12, 12, 12, 13, 14]],
    ("valid", 0): [[4, 5, 6, 7, 8], [7, 8, 9, 10, 11], [10, 11, 12, 13, 14]],
    ("valid", 1): [None, [8, 9, 10, 11, 12], [11, 12, 13, 14, 15]],
    ("valid", 2): [None, None, [12, 13, 14, 15, 16]],
    ("same", None): [[4, 4, 4, 4, 4], [8, 8, 8, 8, 8], [12, 12, 12, 12, 12]],
    ("same", 0): [[4, 3, 4, 3, 4], [7, 6, 7, 6, 7], [10, 9, 10, 9, 10]],
    ("same", 1): [None, [8, 7, 8, 7, 8], [11, 10, 11, 10, 11]],
    ("same", 2): [None, None, [12, 11, 12, 11, 12]],
}


@pytest.mark.parametrize(("padding", "output_padding"), KERAS_SIZES)
def test_sizes_are_keras(padding, output_padding):
    for stride, lengths in enumerate(KERAS_SIZES[padding, output_padding], 1):
        words = {"strides": stride, "padding": padding, "output_padding": output_padding}
        if lengths is None:
            with pytest.raises(ValueError, match="output_padding must be less than the strides"):
                layers.Conv2DTranspose(2, 3, **words)
            continue
        got = [layers.Conv2DTranspose(2, k, **words).compute_output_shape((None, 4, 4, 3)) for k in range(1, 6)]
        assert got == [(None, length, length, 2) for length in lengths]


KERAS_VALUES = [
    (
        {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
        [3, -3, -5, 4, -6, -2, -2, -3, 3, -3, -5, 4, -6, -2, -2, -3, 1, -4, -2, 2, -9, 4, -3, -5, -4,
         -2, 1, -3, -5, 5, -3, -3],
    ),
    (
        {"filters": 1, "kernel_size": (2, 3), "strides": (3, 2)},
        [3, -4, -7, 0, -2, 3, -4, -7, 0, -2, -2, -2, -2, -2, -2, -4, -3, -1, 1, -3, -4, -3, -1, 1, -3, -2,
         -2, -2, -2, -2],
    ),
]


@pytest.mark.parametrize(("words", "want"), KERAS_VALUES)
def test_values_are_keras(words, want):
    layer = layers.Conv2DTranspose(**words)
    x = numbers((1, 2, 2, 2), 7)
    layer(layers.Input(x.shape[1:]))
    layer.set_weights([numbers(w.shape, 3 + i) for i, w in enumerate(layer.get_weights())])
    assert_same(layer(x).ravel(), np.array(want, np.float32))


CASES = [
    ({"kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"}, (4, 5)),
    ({"kernel_size": (2, 4), "strides": (2, 1), "activation": "tanh"}, (3, 4)),
    ({"kernel_size": 2, "strides": 3, "use_bias": False}, (3, 2)),
    ({"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": (0, 1), "activation": "relu6"}, (4, 3)),
    ({"kernel_size": 3, "dilation_rate": 2, "padding": ((1, 2), (0, 1))}, (4, 4)),
    ({"kernel_size": 3, "groups": 3, "padding": "same", "activation": "relu"}, (5, 4)),
    ({"kernel_size": 5, "padding": "same", "activation": "softmax"}, (2, 3)),
]


@pytest.mark.parametrize(("words", "size"), CASES)
def test_a_step_follows_float64(words, size, rng):
    layer = layers.Conv2DTranspose(6, bias_initializer="random_normal", **words)
    same = words.get("padding") == "same" and words.get("output_padding") is not None
    options = {
        "strides": layer.strides,
        "padding": layer.padding,
        "output_padding": layer.output_padding,
        "dilation": layer.dilation_rate,
        "groups": layer.groups,
    }
    assert not same or any(layer.output_padding)  # without any, the reference keeps size * stride

    def forward(x, w, b=None):
        return reference.conv2d_transpose(x, w, b, **options)

    def gradients(dz, x, w, b=None):
        dx = reference.conv2d_transpose_input_grad(dz, w, x.shape, **options)
        dw = reference.conv2d_transpose_weight_grad(x, dz, layer.kernel_size, **options)
        return dx, [dw, *[dz.sum((0, 1, 2))] * (b is not None)]

    assert_step_follows_float64(layer, (*size, 3), rng, forward, gradients)


@pytest.mark.parametrize("huge", [2**20, 2**22])
def test_weights_too_large_for_partial_sums(huge, monkeypatch, rng):
    """Above a megabyte the weight gradient is cut by filters, and nothing is chained; the passes by channels."""
    monkeypatch.setattr(passes, "HUGE_WEIGHTS", huge)
    layer = layers.Conv2DTranspose(130, 3, strides=2, activation="relu")
    options = {"strides": 2, "output_padding": None}

    def gradients(dz, x, w, b):
        dw = reference.conv2d_transpose_weight_grad(x, dz, 3, **options)
        return reference.conv2d_transpose_input_grad(dz, w, x.shape, **options), [dw, dz.sum((0, 1, 2))]

    model_channels = 240
    assert 4 * 9 * 130 * model_channels > 2**20
    assert_step_follows_float64(
        layer, (2, 3, 2), rng, lambda x, *w: reference.conv2d_transpose(x, *w, **options), gradients, 3,
        channels=model_channels,
    )


def test_small_integers_are_exact(isa, threads, rng):
    layer = layers.Conv2DTranspose(5, 3, strides=2, padding="same")
    layer(layers.Input((6, 7, 9)))
    x, w, b = (small_ints(rng, shape) for shape in ((3, 6, 7, 9), (3, 3, 5, 9), (5,)))
    layer.set_weights([w, b])
    assert_same(layer(x), reference.conv2d_transpose(x, w, b, 2, "same"))
    assert_same(ops.conv2d_transpose(x, w, b, 2, "same"), reference.conv2d_transpose(x, w, b, 2, "same"))


def test_nan_reaches_only_its_window(rng):
    x, w = small_ints(rng, (1, 4, 4, 2)), np.ones((3, 3, 3, 2), np.float32)
    x[0, 1, 2, 1] = np.nan
    layer = layers.Conv2DTranspose(3, 3, strides=2, use_bias=False)
    layer(layers.Input((4, 4, 2)))
    layer.set_weights([w])
    assert_same(layer(x), reference.conv2d_transpose(x, w, None, 2))


def test_threads_do_not_change_a_bit():
    def make():
        return layers.Conv2DTranspose(7, 3, strides=2, padding="same", activation="relu")

    usual, results = _cpu.get_num_threads(), set()
    for threads in (1, 2, 3):
        _cpu.set_num_threads(threads)
        results.add(bits_of_training(make, (5, 6, 2)))
    _cpu.set_num_threads(usual)
    assert len(results) == 1


def test_an_autoencoder_learns(rng):
    """Down and up again: a stack whose activations are fused, and whose gradients pass both ways."""
    fc.seed(0)
    model = fc.Sequential(
        [
            fc.Input((8, 8, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 3, padding="same"),
        ]
    )
    model.compile("adam", "mse")
    x = rng.standard_normal((32, 2, 2, 1)).repeat(4, axis=1).repeat(4, axis=2)
    first = model.evaluate(x, x, verbose=0)
    model.fit(x, x, epochs=30, batch_size=8, verbose=0)
    assert model.evaluate(x, x, verbose=0) < 0.2 * first


def test_the_example_removes_noise():
    main = runpy.run_path(str(EXAMPLES / "denoising_autoencoder.py"))["main"]
    before, after = main(epochs=2, samples=2000)
    assert after < 0.8 * before


def test_it_can_be_saved(tmp_path, rng):
    model = fc.Sequential(
        [
            fc.Input((3, 4, 2)),
            layers.Conv2DTranspose(3, (3, 2), strides=2, output_padding=1, activation="relu", name="up"),
        ]
    )
    assert_same_after_saving(model, rng.standard_normal((2, 3, 4, 2)), tmp_path / "model.safetensors")
    assert unique_name("Conv2DTranspose").startswith("conv2d_transpose")


MISTAKES = [
    ({"filters": 0, "kernel_size": 3}, (4, 4, 2), ValueError, "up: filters must be a whole number"),
    ({"filters": 2, "kernel_size": 0}, (4, 4, 2), ValueError, "up: kernel_size must be at least 1"),
    ({"filters": 2, "kernel_size": 3, "padding": "causal"}, (4, 4, 2), ValueError, "up: padding must be 'valid'"),
    ({"filters": 2, "kernel_size": 3, "output_padding": -1}, (4, 4, 2), ValueError, "up: output_padding must be"),
    ({"filters": 2, "kernel_size": 3, "output_padding": "1"}, (4, 4, 2), TypeError, "up: output_padding must be"),
    ({"filters": 3, "kernel_size": 3, "groups": 2}, (4, 4, 2), ValueError, "up: groups=2 must divide the filters"),
    ({"filters": 2, "kernel_size": 3, "groups": 2}, (4, 4, 3), ValueError, "groups=2 must divide the input's"),
    ({"filters": 2, "kernel_size": 3, "padding": 9}, (4, 4, 2), ValueError, "up: .*leave no output pixel"),
    ({"filters": 2, "kernel_size": 3}, (4, 4), ValueError, r"up: expected an input of shape \(batch, height"),
    ({"filters": 2, "kernel_size": 3, "activation": "rleu"}, (4, 4, 2), ValueError, "Did you mean 'relu'"),
]


@pytest.mark.parametrize(("words", "sample", "error", "message"), MISTAKES)
def test_mistakes(words, sample, error, message):
    with pytest.raises(error, match=message):
        layers.Conv2DTranspose(name="up", **words)(layers.Input(sample))


def test_other_channels_than_at_first():
    layer = layers.Conv2DTranspose(2, 3, name="up")
    layer(layers.Input((4, 4, 2)))
    with pytest.raises(ValueError, match="up: expected 2 channels"):
        layer(layers.Input((4, 4, 3)))
