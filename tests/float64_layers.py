"""Every layer of a graph in float64 by the formulas of fastcnn.reference: its output, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import layers as L  # noqa: N812
from fastcnn import reference

# What a rule returns: the output before the layer's activation, and the function that takes the gradient with respect
# to it to ([gradient of each input], [gradient of each weight, None for what is not learned]).
Pull = Callable[[np.ndarray], tuple[list[np.ndarray], list[Any]]]


def apply(layer: Any, inputs: Sequence[np.ndarray], weights: Mapping[Any, np.ndarray],
          training: bool = True) -> tuple[np.ndarray, Pull]:
    """(output, pull): `pull(dy)` is ([gradient of each input], [gradient of each of `layer.variables`])."""
    own = [weights[v] for v in layer.variables]
    z, pull = rule_of(layer)(layer, inputs, own, training)
    name = getattr(layer, "activation", "linear")
    return reference.activation(z, name), lambda dy: pull(reference.activation_grad(dy, z, name))


def rule_of(layer: Any) -> Callable[..., tuple[np.ndarray, Pull]]:
    """The rule for this kind of layer."""
    if isinstance(layer, L.Concatenate):
        return _concatenate
    if getattr(layer, "kind", None):
        return _merge
    for kind in type(layer).__mro__:
        if kind in RULES:
            return RULES[kind]
    raise NotImplementedError(f"no float64 rule for {type(layer).__name__}")


def _words(layer: Any) -> dict[str, Any]:
    return {"strides": layer.strides, "padding": layer.padding, "dilation": layer.dilation_rate}


def _conv_pull(name: str, x, w, words: dict[str, Any], bias: bool) -> Pull:
    """The gradients of a convolution called `name`."""
    def pull(dz):
        dx = getattr(reference, f"{name}_input_grad")(dz, w, x.shape, **words)
        dw = getattr(reference, f"{name}_weight_grad")(x, dz, w.shape[:-2], **words)
        return [dx], [dw, *[_sum_but_last(dz)] * bias]

    return pull


def _sum_but_last(dz: np.ndarray) -> np.ndarray:
    return dz.sum(tuple(range(dz.ndim - 1)))


def _conv(layer, inputs, w, training):
    name, words = f"conv{layer.rank}d", {**_words(layer), "groups": layer.groups}
    return getattr(reference, name)(inputs[0], *w, **words), _conv_pull(name, inputs[0], w[0], words, len(w) > 1)


def _conv_transpose(layer, inputs, w, training):
    words = {**_words(layer), "groups": layer.groups, "output_padding": layer.output_padding}
    name = "conv2d_transpose"
    return reference.conv2d_transpose(inputs[0], *w, **words), _conv_pull(name, inputs[0], w[0], words, len(w) > 1)


def _depthwise(layer, inputs, w, training):
    """Filters (..., channels, multiplier) are those of a convolution with a group for each channel."""
    name, (channels, multiplier) = f"conv{layer.rank}d", w[0].shape[-2:]
    words, flat = {**_words(layer), "groups": channels}, w[0].reshape(*w[0].shape[:-2], 1, channels * multiplier)
    back = _conv_pull(name, inputs[0], flat, words, len(w) > 1)

    def pull(dz):
        dx, (dw, *db) = back(dz)
        return dx, [dw.reshape(w[0].shape), *db]

    return getattr(reference, name)(inputs[0], flat, *w[1:], **words), pull


def _separable(layer, inputs, w, training):
    middle, first = _depthwise(layer, inputs, w[:1], training)
    name = f"conv{layer.rank}d"
    second = _conv_pull(name, middle, w[1], {}, len(w) > 2)

    def pull(dz):
        (dmiddle,), rest = second(dz)
        dx, dw = first(dmiddle)
        return dx, [*dw, *rest]

    return getattr(reference, name)(middle, *w[1:]), pull


def _dense(layer, inputs, w, training):
    def pull(dz):
        dw = reference.dense_weight_grad(inputs[0], dz)
        return [reference.dense_input_grad(dz, w[0])], [dw, *[_sum_but_last(dz)] * (len(w) > 1)]

    return reference.dense(inputs[0], *w), pull


def _pooling(kind: str):
    def rule(layer, inputs, w, training):
        (x,), name, words = inputs, f"{kind}_pool{layer.rank}d", (layer.pool_size, layer.strides, layer.padding)
        given = x.shape if kind == "avg" else x
        return getattr(reference, name)(x, *words), lambda dz: (
            [getattr(reference, f"{name}_grad")(dz, given, *words)], [])

    return rule


def _global_pooling(layer, inputs, w, training):
    """As of images, whose rows are all axes between the batch and the last two."""
    (x,) = inputs
    images = x.reshape(len(x), prod(x.shape[1:-2]), *x.shape[-2:])
    name = f"global_{'max' if layer.maximum else 'avg'}_pool2d"
    y = getattr(reference, name)(images)

    def pull(dz):
        given = images if layer.maximum else images.shape
        return [getattr(reference, f"{name}_grad")(dz.reshape(y.shape), given).reshape(x.shape)], []

    return y.reshape(len(x), *[1] * (x.ndim - 2) * layer.keepdims, y.shape[-1]), pull


def _batch_norm(layer, inputs, w, training):
    (x,), named = inputs, dict(zip(layer.variables, w, strict=True))
    gamma, beta = named.get(layer.gamma, 1.0), named.get(layer.beta, 0.0)
    given = () if training and layer.trainable else (named[layer.moving_mean], named[layer.moving_variance])

    def pull(dz):
        dx, dgamma, dbeta = reference.batch_norm_grad(dz, x, gamma, *given, epsilon=layer.epsilon)
        learned = {layer.gamma: dgamma, layer.beta: dbeta}
        return [dx], [learned.get(v) for v in layer.variables]

    return reference.batch_norm(x, gamma, beta, *given, epsilon=layer.epsilon), pull


def _sample_norm(name: str, words_of: Callable[[Any, np.ndarray], dict[str, Any]]):
    def rule(layer, inputs, w, training):
        (x,), named = inputs, dict(zip(layer.variables, w, strict=True))
        gamma, beta = named.get(layer.gamma, 1.0), named.get(layer.beta, 0.0)
        words = {**words_of(layer, x), "epsilon": layer.epsilon}

        def pull(dz):
            dx, dgamma, dbeta = getattr(reference, f"{name}_grad")(dz, x, gamma, **words)
            learned = {layer.gamma: dgamma, layer.beta: dbeta}
            return [dx], [learned[v] for v in layer.variables]

        return getattr(reference, name)(x, gamma, beta, **words), pull

    return rule


def _merge(layer, inputs, w, training):
    rank = max(a.ndim for a in inputs)
    arrays = [a.reshape(len(a), *(1,) * (rank - a.ndim), *a.shape[1:]) for a in inputs]
    return reference.merge(layer.kind, arrays), lambda dz: (
        [dx.reshape(a.shape) for dx, a in zip(reference.merge_grad(layer.kind, dz, arrays), inputs, strict=True)], [])


def _concatenate(layer, inputs, w, training):
    ends = np.cumsum([a.shape[layer.axis] for a in inputs])[:-1]
    return np.concatenate(inputs, axis=layer.axis), lambda dz: (np.split(dz, ends, axis=layer.axis), [])


def _prelu(layer, inputs, w, training):
    def pull(dz):
        dx, dalpha = reference.prelu_grad(dz, inputs[0], w[0])
        return [dx], [dalpha]

    return reference.prelu(inputs[0], w[0]), pull


def _upsampling(layer, inputs, w, training):
    words = layer.size, layer.interpolation
    return reference.upsample2d(inputs[0], *words), lambda dz: ([reference.upsample2d_grad(dz, *words)], [])


def _zero_padding(layer, inputs, w, training):
    (x,), pads = inputs, ((0, 0), *layer.padding, (0, 0))
    inside = tuple(slice(before, before + size) for (before, _), size in zip(pads, x.shape, strict=True))
    return np.pad(x, pads), lambda dz: ([dz[inside]], [])


def _cropping(layer, inputs, w, training):
    (x,), pads = inputs, ((0, 0), *layer.cropping, (0, 0))
    inside = tuple(slice(before, size - after) for (before, after), size in zip(pads, x.shape, strict=True))
    return x[inside], lambda dz: ([np.pad(dz, pads)], [])


def _permute(layer, inputs, w, training):
    order = (0, *layer.dims)
    return inputs[0].transpose(order), lambda dz: ([dz.transpose(np.argsort(order))], [])


def _reshaped(layer, inputs, w, training):
    (x,) = inputs
    return x.reshape(len(x), *layer.compute_output_shape((None, *x.shape[1:]))[1:]), lambda dz: (
        [dz.reshape(x.shape)], [])


def _elementwise(function: Callable, slope: Callable):
    def rule(layer, inputs, w, training):
        return function(inputs[0], layer), lambda dz: ([dz * slope(inputs[0], layer)], [])

    return rule


def _relu(x, layer):
    return np.minimum(np.where(x > 0, x, layer.negative_slope * x), layer.max_value or np.inf)


def _relu_slope(x, layer):
    return np.where(x > 0, np.where(x < (layer.max_value or np.inf), 1.0, 0.0), layer.negative_slope)


def _softmax(layer, inputs, w, training):
    return reference.softmax(inputs[0]), lambda dz: ([reference.softmax_grad(dz, inputs[0])], [])


def _identity(layer, inputs, w, training):
    return inputs[0], lambda dz: ([dz], [])


RULES: dict[Any, Callable[..., tuple[np.ndarray, Pull]]] = {
    **dict.fromkeys((L.Conv1D, L.Conv2D, L.Conv3D), _conv),
    L.Conv2DTranspose: _conv_transpose,
    **dict.fromkeys((L.DepthwiseConv1D, L.DepthwiseConv2D), _depthwise),
    **dict.fromkeys((L.SeparableConv1D, L.SeparableConv2D), _separable),
    L.Dense: _dense,
    **dict.fromkeys((L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D), _pooling("max")),
    **dict.fromkeys((L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D), _pooling("avg")),
    L.MinPooling2D: _pooling("min"),
    **dict.fromkeys((L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D,
                     L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D), _global_pooling),
    L.BatchNormalization: _batch_norm,
    L.LayerNormalization: _sample_norm("layer_norm", lambda layer, x: {"axis": layer.axis}),
    L.GroupNormalization: _sample_norm("group_norm", lambda layer, x: {
        "groups": x.shape[-1] if layer.groups == -1 else layer.groups}),
    L.PReLU: _prelu,
    L.UpSampling2D: _upsampling,
    **dict.fromkeys((L.ZeroPadding1D, L.ZeroPadding2D), _zero_padding),
    L.Cropping2D: _cropping,
    L.Permute: _permute,
    **dict.fromkeys((L.Flatten, L.Reshape), _reshaped),
    L.ReLU: _elementwise(_relu, _relu_slope),
    L.LeakyReLU: _elementwise(lambda x, layer: reference.leaky_relu(x, layer.negative_slope),
                              lambda x, layer: np.where(x > 0, 1.0, layer.negative_slope)),
    L.ELU: _elementwise(lambda x, layer: reference.elu(x, layer.alpha),
                        lambda x, layer: np.where(x > 0, 1.0, layer.alpha * np.exp(np.minimum(x, 0.0)))),
    L.Rescaling: _elementwise(lambda x, layer: x * layer.scale + layer.offset, lambda x, layer: layer.scale),
    L.Softmax: _softmax,
    L.Activation: _identity,
}
