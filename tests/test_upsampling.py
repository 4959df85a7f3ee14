"""Enlarging, cropping and permuting images: ops against the reference, layers by numerical gradients."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import reference
from fastcnn.kernels import _resize
from fastcnn.kernels._executor import run_op
from fastcnn.kernels._op import Tensor
from tests.check import Framed, assert_close, assert_same, small_ints
from tests.float64_graph import assert_numerical_gradients

CHANNELS = (1, 3, 8, 15, 16, 17, 33)
SIZES = ((1, 1), (2, 2), (1, 3), (4, 1), (3, 2))


def run_framed(op, x, shape, *words):
    """The output of `op` on x, both in frames; nothing but the output is written."""
    y = Framed(shape)
    run_op(op(Framed(x.shape, x).tensor, y.tensor, *words))
    return y.result()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", _resize.INTERPOLATIONS)
def test_upsample_and_gradient(isa, threads, size, interpolation, rng):
    for c in CHANNELS:
        x = small_ints(rng, (3, 3, 4, c))
        y = run_framed(_resize.Upsample, x, (3, 3 * size[0], 4 * size[1], c), size, interpolation)
        dy = small_ints(rng, y.shape)
        dx = run_framed(_resize.UpsampleGrad, dy, x.shape, size, interpolation)
        want = reference.upsample2d(x, size, interpolation), reference.upsample2d_grad(dy, size, interpolation)
        exact = interpolation == "nearest" or max(size) in (1, 2, 4)  # weights are sums of powers of two
        if exact:
            assert_same(y, want[0]), assert_same(dx, want[1])
        else:
            assert_close(y, want[0], 4), assert_close(dx, want[1], 4 * size[0] * size[1])


def test_bilinear_is_that_of_keras():
    """Stored values of keras.layers.UpSampling2D(2, interpolation='bilinear'), Keras 3.15, TensorFlow."""
    x = np.array([[0, 4], [8, 20]], np.float32)[None, :, :, None]
    y = L.UpSampling2D(2, "bilinear")(x)[0, :, :, 0]
    assert_same(y, np.array([[0, 1, 3, 4], [2, 3.5, 6.5, 8], [6, 8.5, 13.5, 16], [8, 11, 17, 20]], np.float32))


def test_one_row_and_one_pixel():
    x = np.array([3, 7], np.float32)[None, None, :, None]
    assert_same(L.UpSampling2D((2, 1), "bilinear")(x), np.repeat(x, 2, 1))
    assert_same(L.UpSampling2D(3, "bilinear")(x[:, :, :1]), np.full((1, 3, 3, 1), 3, np.float32))


def test_nan_stays_nan(isa):
    for interpolation in _resize.INTERPOLATIONS:
        x = np.zeros((1, 4, 4, 5), np.float32)
        x[0, 1, 2, 3] = np.nan
        got = np.isnan(run_framed(_resize.Upsample, x, (1, 8, 8, 5), (2, 2), interpolation))[0]
        assert got[2:4, 4:6, 3].all() and not got[:, :, [0, 1, 2, 4]].any() and not got[:, :2].any()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_permute(order, rng):
    x = small_ints(rng, (3, 4, 5, 7))
    want = x.transpose(0, *(axis + 1 for axis in order))
    assert_same(run_framed(_resize.Permute, x, want.shape, order), want)


def test_ops_refuse():
    a, b = Tensor((1, 2, 3, 4)), Tensor((1, 4, 6, 4))
    for attempt, words in (
        (lambda: _resize.Upsample(a, b, (2, 3)), "enlarged"),
        (lambda: _resize.UpsampleGrad(a, b, (2, 2)), "enlarged"),
        (lambda: _resize.Upsample(a, b, (2, 2), "cubic"), "choose from nearest"),
        (lambda: _resize.Permute(a, b, (0, 1, 1)), "order"),
        (lambda: _resize.Permute(a, b, (2, 1, 0)), "order"),
    ):
        with pytest.raises(ValueError, match=words):
            attempt()


LAYERS = {
    "nearest": lambda: L.UpSampling2D(2),
    "bilinear": lambda: L.UpSampling2D((3, 2), "bilinear"),
    "crop": lambda: L.Cropping2D(((1, 0), (0, 2))),
    "crop and pad": lambda: L.ZeroPadding2D(((0, 1), (2, 0))),
    "channels first": lambda: L.Permute((3, 1, 2)),
    "transposed": lambda: L.Permute((2, 1, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_between_convolutions(name, rng):
    """Convolutions with padding on both sides: values and gradients have halos."""
    x = fc.Input((5, 4, 2))
    y = L.Conv2D(3, 3, padding="same")(x)
    y = L.Conv2D(2, 3, padding="same")(LAYERS[name]()(y))
    model = fc.Model(x, L.Dense(2)(L.Flatten()(y)))
    assert_numerical_gradients(model, [rng.standard_normal((3, 5, 4, 2))], rng)


def test_permute_of_rows(rng):
    x = fc.Input((4, 3))
    model = fc.Model(x, L.Dense(2)(L.Flatten()(L.Permute((2, 1))(L.Dense(5, activation="tanh")(x)))))
    assert_numerical_gradients(model, [rng.standard_normal((3, 4, 3))], rng)


def test_reshape_between_convolutions(rng):
    """A change of shape between two halos, in both directions."""
    x = fc.Input((4, 6, 2))
    y = L.Conv2D(3, 3, padding="same", activation="relu")(x)
    z = L.Reshape((6, 4, 3))(y)
    z = L.Add()([L.Conv2D(3, 3, padding="same")(z), z, L.Reshape((6, 4, 3))(L.Conv2D(3, 3, padding="same")(y))])
    model = fc.Model(x, L.Dense(2)(L.Concatenate()([L.Flatten()(L.ReLU()(z)), L.Flatten()(y)])))
    assert_numerical_gradients(model, [rng.standard_normal((3, 4, 6, 2))], rng)


def test_reshape_of_the_input_before_padding(rng):
    x = rng.standard_normal((3, 36)).astype(np.float32)
    model = fc.Sequential([L.Reshape((6, 6, 1), input_shape=(36,)), L.Conv2D(4, 3, padding="same")])
    want = reference.conv2d(x.reshape(3, 6, 6, 1), *model.get_weights(), padding="same")
    assert_close(model.predict(x), want, 9)
