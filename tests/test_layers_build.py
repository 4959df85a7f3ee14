"""Layers before any data: shapes, weights, configurations, and the operations they become."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastcnn import initializers, layers, ops, regularizers
from fastcnn.graph import SymbolicTensor
from fastcnn.layers import activations
from fastcnn.layers.base import unique_name
from fastcnn.layers.merging import MergingLayer
from fastcnn.layers.serialization import LAYERS
from fastcnn.plan.lowering import Lowering, fuse
from fastcnn.plan.operations import Value

# (class, its arguments, input sample, output sample, parameters, FLOPs per sample)
TABLE = [
    ("Conv2D", {"filters": 32, "kernel_size": 3}, (28, 28, 1), (26, 26, 32), 320, 2 * 26 * 26 * 32 * 9),
    (
        "Conv2D",
        {"filters": 8, "kernel_size": (3, 5), "strides": (2, 1), "padding": "same", "use_bias": False},
        (7, 9, 3),
        (4, 9, 8),
        360,
        2 * 4 * 9 * 8 * 45,
    ),
    (
        "Conv2D",
        {
            "filters": 6,
            "kernel_size": 3,
            "padding": ((0, 1), (2, 3)),
            "dilation_rate": 2,
            "strides": 2,
            "activation": "relu",
            "kernel_regularizer": "l2",
            "kernel_initializer": "he_normal",
        },
        (8, 8, 2),
        (3, 5, 6),
        114,
        2 * 3 * 5 * 6 * 18,
    ),
    (
        "Conv2D",
        {
            "filters": 8,
            "kernel_size": 3,
            "padding": (1, 0),
            "groups": 2,
            "algorithm": "im2col",
            "activation": "log_softmax",
            "name": "grouped",
            "trainable": False,
            "input_shape": (5, 5, 4),
        },
        (5, 5, 4),
        (5, 3, 8),
        152,
        2 * 5 * 3 * 8 * 18,
    ),
    ("DepthwiseConv2D", {"kernel_size": 3}, (6, 6, 4), (4, 4, 4), 40, 2 * 4 * 4 * 4 * 9),
    (
        "DepthwiseConv2D",
        {
            "kernel_size": 3,
            "strides": 2,
            "padding": "same",
            "depth_multiplier": 2,
            "activation": "relu6",
            "use_bias": False,
            "depthwise_regularizer": {"class_name": "L1L2", "config": {"l1": 0.5, "l2": 0.25}},
        },
        (7, 7, 3),
        (4, 4, 6),
        54,
        2 * 4 * 4 * 6 * 9,
    ),
    ("MaxPooling2D", {}, (7, 6, 3), (3, 3, 3), 0, 3 * 3 * 3 * 4),
    ("MaxPooling2D", {"pool_size": (3, 2), "strides": 1, "padding": "same"}, (5, 5, 2), (5, 5, 2), 0, 50 * 6),
    ("MinPooling2D", {"pool_size": 3, "padding": 1}, (6, 6, 1), (2, 2, 1), 0, 4 * 9),
    ("AveragePooling2D", {"pool_size": 2, "strides": (1, 2)}, (4, 4, 5), (3, 2, 5), 0, 30 * 4),
    ("GlobalAveragePooling2D", {}, (4, 3, 7), (7,), 0, 84),
    ("GlobalMaxPooling2D", {"keepdims": True}, (4, 3, 7), (1, 1, 7), 0, 84),
    ("Dense", {"units": 10, "activation": "softmax"}, (784,), (10,), 7850, 15680),
    ("Dense", {"units": 4, "use_bias": False, "bias_initializer": "ones"}, (5, 3), (5, 4), 12, 2 * 5 * 4 * 3),
    (
        "Dense",
        {"units": 4, "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": 3}}},
        (6, 5, 3),
        (6, 5, 4),
        16,
        2 * 30 * 4 * 3,
    ),
    ("Flatten", {}, (4, 3, 2), (24,), 0, 0),
    ("Reshape", {"target_shape": (2, -1, 3)}, (4, 6), (2, 4, 3), 0, 0),
    ("Reshape", {"target_shape": (28, 28, 1), "input_shape": (784,)}, (784,), (28, 28, 1), 0, 0),
    ("Activation", {"activation": "swish"}, (3, 2), (3, 2), 0, 0),
    ("ReLU", {"max_value": 6}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("ReLU", {"negative_slope": 0.1, "threshold": 0}, (5,), (5,), 0, 0),
    ("LeakyReLU", {"negative_slope": 0.2}, (5,), (5,), 0, 0),
    ("ELU", {"alpha": 0.5}, (5,), (5,), 0, 0),
    ("PReLU", {}, (4, 4, 3), (4, 4, 3), 48, 0),
    ("PReLU", {"shared_axes": [1, 2], "alpha_initializer": "ones", "trainable": False}, (4, 5, 3), (4, 5, 3), 3, 0),
    ("Softmax", {"axis": 2}, (4, 3), (4, 3), 0, 0),
    ("Dropout", {"rate": 0.5, "seed": 7}, (4, 3), (4, 3), 0, 0),
    ("SpatialDropout2D", {"rate": 0.25, "seed": 2**64 - 1}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("Rescaling", {"scale": 1 / 255, "offset": -1}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("RandomFlip", {"mode": "vertical"}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("RandomTranslation", {"height_factor": 0.1, "width_factor": (-0.2, 0)}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("RandomRotation", {"factor": 0.1, "fill_mode": "wrap"}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("RandomZoom", {"height_factor": (-0.1, 0.2), "seed": 7}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("RandomCrop", {"height": 3, "width": 2}, (4, 4, 3), (3, 2, 3), 0, 0),
    ("RandomContrast", {"factor": (0.1, 0.5)}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("RandomBrightness", {"factor": 0.1, "value_range": (0, 1)}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("ZeroPadding2D", {"padding": ((1, 0), (2, 3))}, (4, 4, 3), (5, 9, 3), 0, 0),
    ("ZeroPadding2D", {"padding": (2, 1)}, (4, 4, 3), (8, 6, 3), 0, 0),
    ("Conv1D", {"filters": 5, "kernel_size": 3}, (9, 2), (7, 5), 35, 2 * 7 * 5 * 6),
    (
        "Conv1D",
        {"filters": 4, "kernel_size": (2,), "strides": 2, "padding": "causal", "dilation_rate": 3, "groups": 2},
        (9, 4),
        (5, 4),
        20,
        2 * 5 * 4 * 4,
    ),
    ("Conv1D", {"filters": 1, "kernel_size": 2, "padding": (0, 1), "use_bias": False}, (3, 2), (3, 1), 4, 24),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}, (9, 2), (7, 4), 16, 2 * 7 * 4 * 3),
    ("SeparableConv1D", {"filters": 5, "kernel_size": 3}, (9, 2), (7, 5), 6 + 10 + 5, 2 * 7 * 2 * (3 + 5)),
    (
        "SeparableConv2D",
        {"filters": 5, "kernel_size": (3, 2), "depth_multiplier": 2, "pointwise_regularizer": "l2"},
        (6, 6, 3),
        (4, 5, 5),
        36 + 30 + 5,
        2 * 20 * 6 * (6 + 5),
    ),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, (4, 5, 2), (9, 11, 3), 57, 2 * 40 * 27),
    (
        "Conv2DTranspose",
        {"filters": 4, "kernel_size": 2, "strides": (3, 2), "output_padding": (2, 0), "groups": 2, "use_bias": False},
        (2, 3, 6),
        (7, 6, 4),
        48,
        2 * 36 * 8,
    ),
    ("Conv3D", {"filters": 3, "kernel_size": 2}, (4, 5, 6, 2), (3, 4, 5, 3), 51, 2 * 60 * 3 * 16),
    (
        "Conv3D",
        {
            "filters": 4,
            "kernel_size": (3, 2, 1),
            "strides": (2, 1, 3),
            "padding": ((1, 0), (0, 2), (1, 1)),
            "groups": 2,
            "activation": "tanh",
            "use_bias": False,
        },
        (6, 5, 6, 2),
        (3, 6, 3, 4),
        24,
        2 * 54 * 4 * 6,
    ),
    ("MaxPooling3D", {}, (4, 7, 6, 3), (2, 3, 3, 3), 0, 54 * 8),
    (
        "AveragePooling3D",
        {"pool_size": (1, 2, 3), "strides": 1, "padding": "same"},
        (4, 7, 6, 3),
        (4, 7, 6, 3),
        0,
        504 * 6,
    ),
    ("MaxPooling1D", {}, (7, 3), (3, 3), 0, 18),
    ("AveragePooling1D", {"pool_size": 3, "strides": 1, "padding": "same"}, (7, 3), (7, 3), 0, 63),
    ("GlobalAveragePooling1D", {"keepdims": True}, (4, 7), (1, 7), 0, 28),
    ("GlobalMaxPooling1D", {}, (4, 7), (7,), 0, 28),
    ("GlobalAveragePooling3D", {}, (2, 4, 3, 7), (7,), 0, 168),
    ("GlobalMaxPooling3D", {"keepdims": True}, (2, 4, 3, 7), (1, 1, 1, 7), 0, 168),
    ("ZeroPadding1D", {"padding": (2, 1)}, (4, 3), (7, 3), 0, 0),
    ("Cropping2D", {"cropping": ((1, 0), (2, 3))}, (4, 9, 3), (3, 4, 3), 0, 0),
    ("Cropping2D", {}, (4, 4, 3), (4, 4, 3), 0, 0),
    ("Permute", {"dims": (3, 1, 2)}, (4, 5, 3), (3, 4, 5), 0, 0),
    ("Permute", {"dims": [2, 1]}, (4, 5), (5, 4), 0, 0),
    ("UpSampling2D", {}, (4, 5, 3), (8, 10, 3), 0, 0),
    ("UpSampling2D", {"size": (1, 3), "interpolation": "bilinear"}, (4, 5, 3), (4, 15, 3), 0, 6 * 4 * 15 * 3),
    ("BatchNormalization", {}, (4, 4, 3), (4, 4, 3), 12, 2 * 48),
    (
        "BatchNormalization",
        {"axis": 1, "momentum": 0.9, "epsilon": 0.01, "scale": False, "beta_regularizer": "l2"},
        (5,),
        (5,),
        15,
        10,
    ),
    ("LayerNormalization", {}, (4, 4, 3), (4, 4, 3), 6, 2 * 48),
    ("LayerNormalization", {"axis": [-1, 2], "center": False}, (4, 5, 3), (4, 5, 3), 15, 2 * 60),
    ("GroupNormalization", {"groups": 2}, (4, 4, 6), (4, 4, 6), 12, 2 * 96),
    (
        "GroupNormalization",
        {"groups": -1, "gamma_initializer": "zeros", "trainable": False},
        (7, 6),
        (7, 6),
        12,
        84,
    ),
    ("Normalization", {}, (4, 4, 3), (4, 4, 3), 6, 0),
    ("Normalization", {"axis": [1, 3], "invert": True}, (4, 5, 3), (4, 5, 3), 24, 0),
    ("Normalization", {"axis": None, "mean": 3.0, "variance": 4.0}, (4, 3), (4, 3), 0, 0),
    ("InputLayer", {"shape": (4, 3)}, (4, 3), (4, 3), 0, 0),
]


@pytest.mark.parametrize(("name", "arguments", "sample", "output", "parameters", "flops"), TABLE)
def test_shapes_and_weights(name, arguments, sample, output, parameters, flops):
    layer = getattr(layers, name)(**arguments)
    result = layer(layers.Input(sample))
    assert (
        result.shape == layer.compute_output_shape((None, *sample)) == layer.output_shape == (None, *output)
    )
    assert layer.compute_output_shape((8, *sample)) == (8, *output)
    assert layer.count_params() == parameters
    assert layer.flops(layer.output_shape) == flops
    assert all(v.value.dtype == np.float32 for v in layer.weights)


@pytest.mark.parametrize(("name", "arguments", "sample", "output"), [row[:4] for row in TABLE])
def test_configuration_survives_json(name, arguments, sample, output):
    layer = getattr(layers, name)(**arguments)
    saved = json.loads(json.dumps(layers.serialize(layer)))
    again = layers.deserialize(saved)
    assert type(again) is type(layer) and again is not layer
    assert layers.serialize(again) == saved == layers.serialize(layer)
    assert again.name == layer.name and again.trainable == layer.trainable
    assert again.given_input_shape == layer.given_input_shape
    assert again.compute_output_shape((None, *sample)) == (None, *output)
    for argument, value in arguments.items():
        assert argument in saved["config"]
        if isinstance(value, (int, float, bool, str)) and isinstance(saved["config"][argument], type(value)):
            assert saved["config"][argument] == value


def test_every_layer_is_in_the_table_and_can_be_read_from_files():
    exported = {getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    assert exported - {layers.Layer} == set(LAYERS.values())
    merging = {name for name, layer in LAYERS.items() if issubclass(layer, MergingLayer)}  # in test_merging.py
    assert {row[0] for row in TABLE} == set(LAYERS) - merging
    assert all(layer.__doc__ for layer in exported)
    assert layers.MaxPool2D is layers.MaxPooling2D and layers.AvgPool2D is layers.AveragePooling2D
    assert layers.GlobalAvgPool2D is layers.GlobalAveragePooling2D
    assert layers.GlobalMaxPool2D is layers.GlobalMaxPooling2D


def test_arguments_become_objects_and_come_back():
    layer = layers.Conv2D(2, 3, kernel_initializer=initializers.HeNormal(seed=1), kernel_regularizer="l2")
    assert layer.get_config()["kernel_initializer"] == {"class_name": "HeNormal", "config": {"seed": 1}}
    again = layers.deserialize(layers.serialize(layer))
    for one in (layer, again):
        one(layers.Input((4, 4, 1)))
        assert isinstance(one.weights[0].regularizer, regularizers.L2) and one.weights[1].regularizer is None
    np.testing.assert_array_equal(layer.kernel.value, again.kernel.value)


def test_weight_shapes_names_and_order():
    conv = layers.Conv2D(8, (3, 2), groups=2, name="c")
    depthwise = layers.DepthwiseConv2D(3, depth_multiplier=2, name="d")
    dense = layers.Dense(5, name="f", bias_initializer="ones")
    conv(layers.Input((6, 6, 4))), depthwise(layers.Input((6, 6, 4))), dense(layers.Input((7,)))
    found = [(v.path, v.shape) for layer in (conv, depthwise, dense) for v in layer.weights]
    assert found == [
        ("c/kernel", (3, 2, 2, 8)),
        ("c/bias", (8,)),
        ("d/kernel", (3, 3, 4, 2)),
        ("d/bias", (8,)),
        ("f/kernel", (7, 5)),
        ("f/bias", (5,)),
    ]
    assert not conv.bias.value.any() and (dense.bias.value == 1).all()
    assert [v.trainable for v in conv.weights] == [True, True]
    conv.trainable = False
    assert conv.trainable_weights == [] and len(conv.weights) == 2


def test_a_shared_layer_has_one_set_of_weights():
    conv = layers.Conv2D(3, 3)
    small, large = conv(layers.Input((8, 8, 2))), conv(layers.Input((20, 9, 2)))
    assert small.shape == (None, 6, 6, 3) and large.shape == (None, 18, 7, 3)
    assert len(conv.weights) == 2


def test_a_refused_input_builds_nothing():
    conv = layers.Conv2D(3, 5)
    with pytest.raises(ValueError, match="larger than the image"):
        conv(layers.Input((4, 4, 2)))
    assert not conv.built and conv.weights == []
    assert conv(layers.Input((5, 5, 1))).shape == (None, 1, 1, 3)


def test_input():
    tensor = layers.Input((28, 28, 1), name="digits")
    assert isinstance(tensor, SymbolicTensor) and tensor.node is None
    assert (
        tensor.shape == (None, 28, 28, 1) and tensor.sample_shape == (28, 28, 1) and tensor.name == "digits"
    )
    assert layers.Input([np.int64(3)], batch_size=16).shape == (None, 3)


def test_names_follow_keras():
    for kind, base in [("Conv2D", "conv2d"), ("MaxPooling2D", "max_pooling2d"), ("Dense", "dense")]:
        assert unique_name(kind).startswith(base)
    assert layers.Dense(1, name="head").name == "head"


# (layer, input sample, training, the operations it becomes, after fusion)
LOWERED = [
    (lambda: layers.Conv2D(4, 3), (6, 6, 2), False, ["conv"]),
    (lambda: layers.Conv2D(4, 3, activation="relu"), (6, 6, 2), False, ["conv"]),
    (lambda: layers.Conv2D(4, 3, activation="gelu"), (6, 6, 2), False, ["conv", "activation"]),
    (lambda: layers.Conv2D(4, 3, groups=2), (6, 6, 2), False, ["conv"]),
    (lambda: layers.Conv2D(4, 3, groups=4, activation="relu"), (6, 6, 4), False, ["depthwise"]),
    (lambda: layers.Conv2D(4, 3, groups=4, algorithm="direct"), (6, 6, 4), False, ["conv"]),
    (lambda: layers.Conv2D(1, 3), (6, 6, 1), False, ["conv"]),
    (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, activation="tanh"),
        (6, 6, 2),
        False,
        ["depthwise", "activation"],
    ),
    (lambda: layers.MaxPooling2D(), (6, 6, 2), False, ["max_pool"]),
    (lambda: layers.MinPooling2D(), (6, 6, 2), False, ["max_pool"]),
    (lambda: layers.AveragePooling2D(), (6, 6, 2), False, ["avg_pool"]),
    (lambda: layers.GlobalAveragePooling2D(), (6, 6, 2), False, ["global_pool"]),
    (lambda: layers.GlobalMaxPooling2D(keepdims=True), (6, 6, 2), False, ["global_pool"]),
    (lambda: layers.Dense(3, activation="softmax"), (4,), False, ["conv", "softmax"]),
    (lambda: layers.Dense(3, activation="relu"), (5, 4), False, ["conv"]),
    (lambda: layers.Dense(3), (6, 5, 4), False, ["conv"]),
    (lambda: layers.Dense(3), (7, 6, 5, 4), False, ["conv"]),
    (lambda: layers.Flatten(), (6, 6, 2), False, ["reshape"]),
    (lambda: layers.Reshape((-1,)), (6, 6, 2), False, ["reshape"]),
    (lambda: layers.Activation("log_softmax"), (4,), False, ["softmax"]),
    (lambda: layers.Activation("linear"), (4,), False, []),
    (lambda: layers.Softmax(), (4,), False, ["softmax"]),
    (lambda: layers.ReLU(), (4,), False, ["activation"]),
    (lambda: layers.Dropout(0.5), (4,), False, []),
    (lambda: layers.Dropout(0.5), (4,), True, ["dropout"]),
    (lambda: layers.Dropout(0), (4,), True, []),
    (lambda: layers.SpatialDropout2D(0.5), (6, 6, 2), True, ["dropout"]),
    (lambda: layers.Rescaling(2.0), (4,), False, ["affine"]),
    (lambda: layers.ZeroPadding2D(1), (4, 4, 1), False, ["pad"]),
    (lambda: layers.BatchNormalization(), (4, 4, 3), True, ["batch_norm"]),
    (lambda: layers.BatchNormalization(), (4, 4, 3), False, ["moving_norm"]),
    (lambda: layers.BatchNormalization(trainable=False), (4, 4, 3), True, ["moving_norm"]),
    (lambda: layers.LayerNormalization(), (4, 4, 3), True, ["layer_norm"]),
    (lambda: layers.LayerNormalization([1, 2, 3]), (4, 4, 3), False, ["reshape", "layer_norm", "reshape"]),
    (lambda: layers.GroupNormalization(3), (4, 4, 3), False, ["group_norm"]),
    (lambda: layers.Normalization(), (4, 4, 3), False, ["standardize"]),
    (lambda: layers.Normalization(None), (4, 4, 3), False, ["standardize"]),
    (lambda: layers.Normalization(1), (4, 4, 3), True, ["reshape", "standardize", "reshape"]),
    (lambda: layers.InputLayer((4,)), (4,), False, []),
]


@pytest.mark.parametrize(("make", "sample", "training", "operations"), LOWERED)
def test_operations(make, sample, training, operations):
    layer, plan, x = make(), Lowering(training), Value(sample)
    expected = layer(layers.Input(sample)).sample_shape
    y = layer.lower(plan, x)
    assert y.shape == expected
    assert [op.name for op in fuse(plan.ops, [y])] == operations
    assert all(op.layer is layer for op in plan.ops)
    assert (y is x) == (not operations)


@pytest.mark.parametrize(
    ("layer", "kind", "param"),
    [
        (layers.ReLU(), "relu", None),
        (layers.ReLU(6), "relu6", None),
        (layers.ReLU(negative_slope=0.5), "leaky_relu", 0.5),
        (layers.LeakyReLU(), "leaky_relu", 0.3),
        (layers.ELU(2), "elu", 2.0),
        (layers.Activation("leaky_relu"), "leaky_relu", None),
    ],
)
def test_activation_layers_pass_on_their_parameter(layer, kind, param):
    plan = Lowering(training=False)
    layer.lower(plan, Value((4,)))
    assert (plan.ops[0].kind, plan.ops[0].param) == (kind, param)


def test_operations_get_the_layer_s_arguments():
    plan = Lowering(training=True)
    for layer in (
        layers.MaxPooling2D(),
        layers.MinPooling2D(),
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.25),
        layers.Rescaling(2, 1),
        layers.GlobalMaxPooling2D(),
        layers.GlobalAveragePooling2D(),
    ):
        layer.lower(plan, Value((4, 4, 3)))
    most, least, dropout, spatial, affine, top, mean = plan.ops
    assert (most.minimum, least.minimum) == (False, True)
    assert (dropout.rate, dropout.spatial) == (0.5, False) and (spatial.rate, spatial.spatial) == (0.25, True)
    assert (affine.scale, affine.offset) == (2.0, 1.0) and (top.maximum, mean.maximum) == (True, False)


class Scale(layers.Layer):
    """A user's layer."""

    def __init__(self, factor, name=None):
        super().__init__(name=name)
        self.factor = factor

    def get_config(self):
        return {"factor": self.factor, "name": self.name}


def test_custom_layers_come_back():
    saved = layers.serialize(Scale(3, name="thrice"))
    again = layers.deserialize(saved, custom_objects={"Scale": Scale})
    assert isinstance(again, Scale) and (again.factor, again.name) == (3, "thrice")


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_every_activation_is_known_to_the_engine(name):
    from fastcnn.kernels import _eltwise

    assert name in _eltwise.activations() or name in activations.SOFTMAXES


def test_strides_and_dilation_together():
    assert layers.Conv2D(1, 3, strides=2, dilation_rate=2)(layers.Input((9, 9, 1))).shape == (None, 3, 3, 1)


# ------------------------------------------------------------------------------------------ TensorFlow's spelling


@pytest.mark.parametrize(("make", "shape"), [
    (lambda padding: layers.Conv2D(4, 3, strides=2, padding=padding), (8, 9, 3)),
    (lambda padding: layers.Conv2DTranspose(4, 3, strides=2, padding=padding), (8, 9, 3)),
    (lambda padding: layers.SeparableConv2D(4, 3, padding=padding), (8, 9, 3)),
    (lambda padding: layers.Conv1D(4, 3, padding=padding), (8, 3)),
    (lambda padding: layers.AveragePooling2D(3, 2, padding), (8, 9, 3)),
    (lambda padding: layers.MaxPooling3D(2, padding=padding), (5, 5, 5, 2)),
])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_padding_in_capitals(make, shape, padding):
    layer, capitals = make(padding), make(padding.upper())
    assert capitals.padding == capitals.get_config()["padding"] == padding
    assert capitals.compute_output_shape((None, *shape)) == layer.compute_output_shape((None, *shape))


def test_causal_in_capitals():
    assert layers.Conv1D(4, 3, padding="Causal").padding == "causal"
    with pytest.raises(ValueError, match="padding 'causal' is for convolutions"):
        layers.MaxPooling1D(2, padding="CAUSAL")


def test_operations_take_capitals(rng):
    x, w = rng.standard_normal((2, 7, 8, 3)), rng.standard_normal((3, 3, 3, 4))
    for call in (lambda padding: ops.conv2d(x, w, strides=2, padding=padding),
                 lambda padding: ops.conv2d_transpose(x, w.transpose(0, 1, 3, 2), strides=2, padding=padding),
                 lambda padding: ops.max_pool2d(x, 3, padding=padding)):
        np.testing.assert_array_equal(call("SAME"), call("same"))
