"""Layers to and from plain data: a class name and the constructor's arguments, never code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastcnn.errors import unknown_name
from fastcnn.layers import (
    activations,
    augmentation,
    conv,
    conv1d,
    conv3d,
    conv_transpose,
    core,
    merging,
    normalization,
    pooling,
    preprocessing,
    regularization,
    reshaping,
    separable,
    upsampling,
)
from fastcnn.layers.base import Layer

LAYERS: dict[str, type[Layer]] = {layer.__name__: layer for layer in (
    core.InputLayer, core.Dense, core.Flatten, core.Reshape,
    conv.Conv2D, conv.DepthwiseConv2D, conv_transpose.Conv2DTranspose, separable.SeparableConv2D,
    conv1d.Conv1D, conv1d.DepthwiseConv1D, separable.SeparableConv1D, conv3d.Conv3D,
    pooling.MaxPooling2D, pooling.MinPooling2D, pooling.AveragePooling2D,
    pooling.GlobalAveragePooling2D, pooling.GlobalMaxPooling2D,
    pooling.MaxPooling1D, pooling.AveragePooling1D, pooling.GlobalAveragePooling1D, pooling.GlobalMaxPooling1D,
    pooling.MaxPooling3D, pooling.AveragePooling3D, pooling.GlobalAveragePooling3D, pooling.GlobalMaxPooling3D,
    activations.Activation, activations.ReLU, activations.LeakyReLU, activations.PReLU, activations.ELU,
    activations.Softmax,
    normalization.BatchNormalization, normalization.GroupNormalization, normalization.LayerNormalization,
    regularization.Dropout, regularization.SpatialDropout2D, preprocessing.Normalization, preprocessing.Rescaling,
    reshaping.ZeroPadding1D, reshaping.ZeroPadding2D, reshaping.Cropping2D, reshaping.Permute,
    upsampling.UpSampling2D,
    merging.Add, merging.Subtract, merging.Multiply, merging.Average, merging.Maximum, merging.Minimum,
    merging.Concatenate,
    augmentation.RandomBrightness, augmentation.RandomContrast, augmentation.RandomCrop, augmentation.RandomFlip,
    augmentation.RandomRotation, augmentation.RandomTranslation, augmentation.RandomZoom,
)}


def serialize(layer: Layer) -> dict[str, Any]:
    """`{'class_name': ..., 'config': ...}` of JSON values, from which `deserialize` makes the layer."""
    if not isinstance(layer, Layer):
        raise TypeError(f"layers.serialize: expected a Layer, got {layer!r}")
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, type[Layer]] | None = None) -> Layer:
    """A new layer from what `serialize` returned; it has no weights until it is called.

    Parameters
    ----------
    config : `{'class_name': ..., 'config': ...}`.
    custom_objects : class name -> class, for layers that are not of this package.

    Raises
    ------
    TypeError
        When `config` is no such mapping, or a custom object no class of layers.
    ValueError
        For an unknown class, or arguments that its constructor does not take.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
        raise TypeError(f"layers.deserialize: expected {{'class_name': ..., 'config': ...}}, got {config!r}")
    name, arguments = config["class_name"], config.get("config", {})
    table = {**LAYERS, **(custom_objects or {})}
    if name not in table:
        raise ValueError(f"{unknown_name('layer', name, table, 'layers.deserialize')} For a layer of your "
                         f"own pass custom_objects={{{name!r}: its class}}.")
    layer = table[name]
    if not isinstance(layer, type) or not issubclass(layer, Layer):
        raise TypeError(f"layers.deserialize: custom_objects[{name!r}] must be a subclass of Layer, "
                        f"got {layer!r}")
    try:
        return layer.from_config(dict(arguments))
    except (TypeError, ValueError) as error:
        raise ValueError(f"layers.deserialize: {name} cannot be made from the arguments {arguments!r}: "
                         f"{error}; get_config must return its constructor's arguments") from error
