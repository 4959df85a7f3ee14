"""What layers say about wrong arguments and inputs: the layer, what was expected, what came, what to change."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import layers
from fastcnn.graph import SymbolicTensor
from fastcnn.layers.serialization import LAYERS


class Forgetful(layers.Layer):
    """A user's layer whose configuration misses an argument."""

    def __init__(self, factor, name=None):
        super().__init__(name=name)
        self.factor = factor

    def get_config(self):
        return {"name": self.name}


def build(layer, *shapes):
    for shape in shapes:
        layer(SymbolicTensor(shape))


IMAGE = (None, 8, 8, 3)

# (what a user may write, the error, what its message must hold)
MISTAKES = {
    "filters negative": (
        lambda: layers.Conv2D(-1, 3, name="c"),
        ValueError,
        ["c: filters", "1 or more", "-1"],
    ),
    "filters beyond memory": (
        lambda: build(layers.Conv2D(10**12, 3, name="c"), IMAGE),
        MemoryError,
        ["c: no memory for the weight 'kernel'", "(3, 3, 3, 1000000000000)", "1.01e+05 GiB"],
    ),
    "kernel beyond all arrays": (
        lambda: build(layers.Conv2D(4, 10**9, padding="same", name="c"), IMAGE),
        MemoryError,
        ["c: no memory for the weight 'kernel'"],
    ),
    "argument misspelt": (
        lambda: layers.Conv2D(8, 3, pading="same"),
        TypeError,
        ["Conv2D: unknown argument 'pading'", "Did you mean 'padding'?", "strides"],
    ),
    "argument missing": (lambda: layers.Conv2D(8), TypeError, ["Conv2D: missing", "'kernel_size'", "strides"]),
    "argument twice": (lambda: layers.Conv2D(8, 3, filters=8), TypeError, ["Conv2D: multiple values", "'filters'"]),
    "arguments too many": (lambda: layers.Add("a", "b"), TypeError, ["Add: too many positional arguments", "name"]),
    "argument of a user's layer": (lambda: Forgetful(2, nmae="f"), TypeError, ["Forgetful: unknown", "'name'"]),
    "number as text": (lambda: layers.Dropout("0.5", name="d"), TypeError, ["d: rate must be a number", "'0.5'"]),
    "filters fraction": (lambda: layers.Conv2D(2.5, 3, name="c"), TypeError, ["c: filters", "2.5"]),
    "filters bool": (lambda: layers.Conv2D(True, 3, name="c"), TypeError, ["c: filters", "True"]),
    "kernel zero": (lambda: layers.Conv2D(4, 0, name="c"), ValueError, ["c: kernel_size", "at least 1", "0"]),
    "kernel triple": (lambda: layers.Conv2D(4, (3, 3, 3), name="c"), TypeError, ["c: kernel_size", "pair"]),
    "strides": (lambda: layers.Conv2D(4, 3, strides=(1, 0), name="c"), ValueError, ["c: strides", "(1, 0)"]),
    "dilation": (
        lambda: layers.Conv2D(4, 3, dilation_rate="2", name="c"),
        TypeError,
        ["c: dilation_rate", "'2'"],
    ),
    "padding word": (
        lambda: layers.Conv2D(4, 3, padding="smae", name="c"),
        ValueError,
        ["c: padding", "'valid', 'same'", "'smae'"],
    ),
    "padding negative": (lambda: layers.Conv2D(4, 3, padding=-1, name="c"), ValueError, ["c: padding", "-1"]),
    "padding None": (lambda: layers.Conv2D(4, 3, padding=None, name="c"), TypeError, ["c: padding", "None"]),
    "groups": (
        lambda: layers.Conv2D(4, 3, groups=3, name="c"),
        ValueError,
        ["c: groups=3", "filters=4", "multiple"],
    ),
    "groups and channels": (
        lambda: build(layers.Conv2D(4, 3, groups=2, name="c"), IMAGE),
        ValueError,
        ["c: groups=2", "channels, got 3", "change groups"],
    ),
    "activation name": (
        lambda: layers.Conv2D(4, 3, activation="rellu", name="c"),
        ValueError,
        ["c: unknown activation 'rellu'", "Did you mean 'relu'?", "softmax"],
    ),
    "activation function": (
        lambda: layers.Dense(4, activation=np.tanh, name="d"),
        TypeError,
        ["d: activation must be a name", "tanh", "after this one"],
    ),
    "activation layer": (
        lambda: layers.Activation(layers.ReLU(), name="a"),
        TypeError,
        ["a: activation must be"],
    ),
    "use_bias": (
        lambda: layers.Dense(4, use_bias="no", name="d"),
        TypeError,
        ["d: use_bias", "True or False", "'no'"],
    ),
    "initializer": (
        lambda: layers.Dense(4, kernel_initializer="he_norml", name="d"),
        ValueError,
        ["d: unknown initializer 'he_norml'", "'he_normal'"],
    ),
    "regularizer": (
        lambda: layers.Conv2D(4, 3, kernel_regularizer="l3", name="c"),
        ValueError,
        ["c: unknown regularizer 'l3'", "Choose one of"],
    ),
    "algorithm": (
        lambda: layers.Conv2D(4, 3, algorithm="im2cool", name="c"),
        ValueError,
        ["c: unknown algorithm 'im2cool'", "Did you mean 'im2col'?"],
    ),
    "algorithm winograd": (
        lambda: layers.Conv2D(4, 3, 2, algorithm="winograd", name="c"),
        ValueError,
        ["c: algorithm 'winograd' needs strides of 1, got (2, 2)", "use algorithm='auto'"],
    ),
    "algorithm fft": (
        lambda: layers.Conv2D(4, 3, algorithm="fft", name="c"),
        ValueError,
        ["not available", "'auto'"],
    ),
    "trainable": (
        lambda: layers.Dense(4, trainable=1, name="d"),
        TypeError,
        ["trainable", "True or False", "1"],
    ),
    "name": (lambda: layers.Dense(4, name=3), TypeError, ["Dense: name", "3"]),
    "input_shape int": (
        lambda: layers.Dense(4, input_shape=(784), name="d"),
        TypeError,
        ["d: input_shape", "784", "write (784,)"],
    ),
    "input_shape None": (
        lambda: layers.Conv2D(4, 3, input_shape=(None, None, 3), name="c"),
        ValueError,
        ["c: input_shape", "known sizes", "(None, None, 3)"],
    ),
    "no channels": (
        lambda: build(layers.Conv2D(4, 3, name="c"), (None, 28, 28)),
        ValueError,
        ["c: expected", "(batch, height, width, channels)", "(None, 28, 28)", "x[..., None]"],
    ),
    "flat input": (
        lambda: build(layers.MaxPooling2D(name="p"), (None, 784)),
        ValueError,
        ["p: expected", "(batch, height, width, channels)", "(None, 784)", "Reshape"],
    ),
    "too many axes": (
        lambda: build(layers.GlobalMaxPooling2D(name="g"), (None, 2, 2, 2, 2)),
        ValueError,
        ["g: expected", "(None, 2, 2, 2, 2)", "Reshape"],
    ),
    "unknown size": (
        lambda: build(layers.Conv2D(4, 3, name="c"), (None, None, 8, 3)),
        ValueError,
        ["c: expected known sizes", "(None, None, 8, 3)", "Input"],
    ),
    "two inputs": (
        lambda: layers.Conv2D(4, 3, name="c")([layers.Input((8, 8, 3)), layers.Input((8, 8, 3))]),
        ValueError,
        ["c: expected one input", "list of 2", "combine"],
    ),
    "other channels": (
        lambda: build(layers.Conv2D(4, 3, name="c"), IMAGE, (None, 8, 8, 16)),
        ValueError,
        ["c: expected 3 channels", "got 16", "(None, 8, 8, 16)", "new layer"],
    ),
    "other channels, depthwise": (
        lambda: build(layers.DepthwiseConv2D(3, name="c"), IMAGE, (None, 8, 8, 16)),
        ValueError,
        ["c: expected 3 channels", "got 16", "new layer"],
    ),
    "other features": (
        lambda: build(layers.Dense(4, name="d"), (None, 10), (None, 11)),
        ValueError,
        ["d: expected 10 features", "got 11", "(None, 11)", "new layer"],
    ),
    "no features": (
        lambda: build(layers.Dense(4, name="d"), (None,)),
        ValueError,
        ["d: expected", "(batch, ..., features)", "(None,)", "x[:, None]"],
    ),
    "kernel beyond image": (
        lambda: build(layers.Conv2D(4, 9, name="c"), IMAGE),
        ValueError,
        ["c: the window of 9x9", "8x8", "smaller kernel"],
    ),
    "pool beyond image": (
        lambda: build(layers.AveragePooling2D(9, name="p"), IMAGE),
        ValueError,
        ["p: the window of 9x9", "8x8", "smaller kernel or pool"],
    ),
    "pool size": (lambda: layers.MaxPooling2D("2", name="p"), TypeError, ["p: pool_size", "'2'"]),
    "pool strides": (lambda: layers.MinPooling2D(2, strides=0, name="p"), ValueError, ["p: strides", "0"]),
    "pool padding": (
        lambda: layers.MaxPooling2D((2, 3), padding=((0, 2), (0, 0)), name="p"),
        ValueError,
        ["p: padding must be less than pool_size (2, 3)", "((0, 2), (0, 0))", "use less"],
    ),
    "keepdims": (lambda: layers.GlobalMaxPooling2D(keepdims=1, name="g"), TypeError, ["g: keepdims", "1"]),
    "depth_multiplier": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=0, name="c"),
        ValueError,
        ["c: depth_multiplier", "1 or more", "0"],
    ),
    "units": (lambda: layers.Dense("10", name="d"), TypeError, ["d: units", "'10'"]),
    "rate one": (lambda: layers.Dropout(1.0, name="d"), ValueError, ["d: rate", "less than 1", "1.0"]),
    "rate percent": (
        lambda: layers.SpatialDropout2D(50, name="d"),
        ValueError,
        ["d: rate", "less than 1", "50"],
    ),
    "rate negative": (lambda: layers.Dropout(-0.1, name="d"), ValueError, ["d: rate", "-0.1"]),
    "rate NaN": (lambda: layers.Dropout(float("nan"), name="d"), ValueError, ["d: rate", "nan"]),
    "max_value": (lambda: layers.ReLU(max_value=5, name="r"), ValueError, ["r: max_value", "None or 6", "5"]),
    "threshold": (
        lambda: layers.ReLU(threshold=1.5, name="r"),
        ValueError,
        ["r: threshold must be 0, got 1.5", "Rescaling", "layer of your own"],
    ),
    "seed of dropout": (lambda: layers.Dropout(0.5, seed=-1, name="d"), ValueError, ["d: seed must lie in 0", "-1"]),
    "seed as text": (lambda: layers.SpatialDropout2D(0.5, seed="a", name="d"), TypeError, ["d: seed must be a whole"]),
    "max_value and slope": (
        lambda: layers.ReLU(6, 0.1, name="r"),
        ValueError,
        ["r: ", "both", "leave one out"],
    ),
    "slope": (lambda: layers.LeakyReLU(-1, name="r"), ValueError, ["r: negative_slope", "at least 0", "-1"]),
    "alpha": (lambda: layers.ELU(None, name="e"), TypeError, ["e: alpha", "number", "None"]),
    "axis": (
        lambda: build(layers.Softmax(axis=1, name="s"), IMAGE),
        ValueError,
        ["s: expected axis", "axis=1", "use axis=-1"],
    ),
    "axis kind": (lambda: layers.Softmax(axis="last", name="s"), TypeError, ["s: axis", "'last'", "-1"]),
    "reshape size": (
        lambda: build(layers.Reshape((10, 10), name="r"), IMAGE),
        ValueError,
        ["r: expected", "192 values", "(8, 8, 3)", "(10, 10)", "holds 100"],
    ),
    "reshape rest": (
        lambda: build(layers.Reshape((-1, 7), name="r"), IMAGE),
        ValueError,
        ["r: expected", "192 values", "multiple of 7"],
    ),
    "reshape twice": (lambda: layers.Reshape((-1, -1), name="r"), ValueError, ["r: target_shape", "one -1"]),
    "reshape int": (lambda: layers.Reshape(10, name="r"), TypeError, ["r: target_shape", "write (10,)"]),
    "reshape zero": (
        lambda: layers.Reshape((-1, 0), name="r"),
        ValueError,
        ["r: every size in target_shape", "0"],
    ),
    "scale": (lambda: layers.Rescaling([1, 2], name="r"), TypeError, ["r: scale", "number", "[1, 2]"]),
    "zeros": (lambda: layers.ZeroPadding2D("same", name="z"), TypeError, ["z: padding", "int", "'same'"]),
    "cropping": (
        lambda: build(layers.Cropping2D(((5, 3), (0, 0)), name="c"), IMAGE),
        ValueError,
        ["c: cropping ((5, 3), (0, 0))", "8x8", "crop less"],
    ),
    "cropping text": (lambda: layers.Cropping2D("same", name="c"), TypeError, ["c: cropping", "int", "'same'"]),
    "cropping negative": (lambda: layers.Cropping2D(-1, name="c"), ValueError, ["c: cropping", "-1"]),
    "dims": (lambda: layers.Permute((1, 3), name="p"), ValueError, ["p: dims", "(1, 3)", "batch"]),
    "dims int": (lambda: layers.Permute(2, name="p"), TypeError, ["p: dims", "2"]),
    "dims rank": (lambda: build(layers.Permute((2, 1), name="p"), IMAGE), ValueError, ["p: dims", "3 axes"]),
    "size": (lambda: layers.UpSampling2D(0, name="u"), ValueError, ["u: size", "0"]),
    "interpolation": (
        lambda: layers.UpSampling2D(2, "bilinaer", name="u"),
        ValueError,
        ["u: unknown interpolation 'bilinaer'", "Did you mean 'bilinear'?"],
    ),
    "Input int": (lambda: layers.Input(784), TypeError, ["Input: shape", "write (784,)"]),
    "Input batch": (
        lambda: layers.Input((None, 28, 28, 1)),
        ValueError,
        ["Input: shape", "leave the batch out"],
    ),
    "Input zero": (lambda: layers.Input((28, 0)), ValueError, ["Input: every size in shape", "0"]),
    "Input empty": (lambda: layers.Input(()), TypeError, ["Input: shape", "()"]),
    "Input name": (lambda: layers.Input((3,), name=3), TypeError, ["Input: name", "3"]),
    "Input batch_size": (lambda: layers.Input((3,), batch_size=0), ValueError, ["Input: batch_size", "0"]),
    "InputLayer": (
        lambda: build(layers.InputLayer((4, 4), name="i"), (None, 4, 5)),
        ValueError,
        ["i: expected samples of shape (4, 4)", "(None, 4, 5)", "reshape"],
    ),
    "serialize": (lambda: layers.serialize("Conv2D"), TypeError, ["serialize", "Layer", "'Conv2D'"]),
    "deserialize": (
        lambda: layers.deserialize("Conv2D"),
        TypeError,
        ["deserialize", "class_name", "'Conv2D'"],
    ),
    "unknown layer": (
        lambda: layers.deserialize({"class_name": "Conv2d", "config": {}}),
        ValueError,
        ["unknown layer 'Conv2d'", "Did you mean 'Conv2D'?", "custom_objects={'Conv2d': its class}"],
    ),
    "unknown argument": (
        lambda: layers.deserialize({"class_name": "Dense", "config": {"unit": 3}}),
        ValueError,
        ["Dense cannot be made from the arguments {'unit': 3}", "unit"],
    ),
    "no layer": (
        lambda: layers.deserialize({"class_name": "Box"}, {"Box": dict}),
        TypeError,
        ["custom_objects['Box']", "subclass of Layer", "dict"],
    ),
    "get_config missing": (
        lambda: layers.deserialize(layers.serialize(Forgetful(2)), {"Forgetful": Forgetful}),
        ValueError,
        ["Forgetful", "factor", "get_config"],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_names_itself_about_an_argument(name):
    with pytest.raises(TypeError, match=f"^{name}: unknown argument 'nmae'. Did you mean 'name'[?]"):
        LAYERS[name](nmae="x")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    attempt, error, fragments = MISTAKES[mistake]
    with pytest.raises(error) as caught:
        attempt()
    assert type(caught.value) is error
    missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
