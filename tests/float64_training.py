"""Training in float64 with the formulas of fastcnn.reference: the oracle of whole training runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import layers, reference


class Float64Training:
    """A copy of a Sequential model that trains by the textbook, without plans, fusion or batches in chunks.

    Dropout passes its input unchanged: the models compared have none. The last activation is part of the loss
    where that is cross-entropy, as `loss` gives the gradient with respect to its input.
    """

    def __init__(self, model: Any, loss: str):
        self.layers = [layer for layer in model.layers if not isinstance(layer, layers.Dropout)]
        self.weights = {v: v.numpy().astype(np.float64) for v in model.weights}
        self.loss = loss

    def step(self, x, y, update, sample_weight=None, clip=lambda gradients: gradients) -> float:
        """One step; the loss before it, penalties included. `update(key, w, g)` returns the new weight."""
        values, gradients = self.loss_and_gradients(x, y, sample_weight)
        trainable = [v for v in self.weights if v.trainable]
        for v, g in zip(trainable, clip([gradients[v] for v in trainable]), strict=True):
            self.weights[v] = update(v, self.weights[v], g)
        return values

    def loss_and_gradients(self, x, y, sample_weight=None):
        """(mean loss with penalties, gradient of each weight)."""
        x, trace = np.asarray(x, np.float64), []
        for layer in self.layers:
            z = self._forward(layer, x)
            trace.append((layer, x, z))
            x = _activated(layer, z)
        loss, dx = self._loss(trace[-1], x, y, sample_weight)
        gradients = {}
        for layer, x, z in reversed(trace):
            dz = dx if layer is trace[-1][0] and self.loss == "softmax" else _activation_grad(layer, dx, z)
            dx, own = self._backward(layer, dz, x)
            gradients.update(zip(layer.variables, own, strict=True))
        for v in self.weights:
            if v.regularizer is not None and v.trainable:
                w, r = self.weights[v], v.regularizer
                loss += r.l1 * np.abs(w).sum() + r.l2 * (w * w).sum()
                gradients[v] = gradients[v] + r.l1 * np.sign(w) + 2 * r.l2 * w
        return loss, gradients

    def _loss(self, last, output, y, sample_weight):
        """(mean loss, its gradient with respect to the logits for cross-entropy, else to the output)."""
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if self.loss == "softmax":
            values, dx = reference.softmax_cross_entropy(last[2], y)
        else:
            values, dx = reference.mean_squared_error(output, y)
        return (values * weights).mean(), dx * weights[:, None]

    def _forward(self, layer, x):
        w = [self.weights[v] for v in layer.variables]
        if isinstance(layer, NORMS):
            return self._normalize(layer, x)
        if isinstance(layer, layers.Conv2D):
            return reference.conv2d(x, *w, **_conv_words(layer))
        if isinstance(layer, layers.Dense):
            return reference.dense(x, *w)
        if isinstance(layer, layers.MaxPooling2D):
            return reference.max_pool2d(x, layer.pool_size, layer.strides, layer.padding)
        if isinstance(layer, layers.AveragePooling2D):
            return reference.avg_pool2d(x, layer.pool_size, layer.strides, layer.padding)
        if isinstance(layer, layers.GlobalAveragePooling2D):
            return reference.global_avg_pool2d(x)
        if isinstance(layer, layers.Flatten):
            return x.reshape(len(x), -1)
        assert isinstance(layer, layers.Activation), layer
        return x

    def _backward(self, layer, dz, x):
        """(dx, gradients of the layer's weights)."""
        w = [self.weights[v] for v in layer.variables]
        if isinstance(layer, NORMS):
            return self._normalize_grad(layer, dz, x)
        bias = [dz.sum(tuple(range(dz.ndim - 1)))] * (len(w) > 1)
        if isinstance(layer, layers.Conv2D):
            words = _conv_words(layer)
            dw = reference.conv2d_weight_grad(x, dz, layer.kernel_size, **words)
            return reference.conv2d_input_grad(dz, w[0], x.shape, **words), [dw, *bias]
        if isinstance(layer, layers.Dense):
            return reference.dense_input_grad(dz, w[0]), [reference.dense_weight_grad(x, dz), *bias]
        if isinstance(layer, layers.MaxPooling2D):
            return reference.max_pool2d_grad(dz, x, layer.pool_size, layer.strides, layer.padding), []
        if isinstance(layer, layers.AveragePooling2D):
            return reference.avg_pool2d_grad(dz, x.shape, layer.pool_size, layer.strides, layer.padding), []
        if isinstance(layer, layers.GlobalAveragePooling2D):
            return reference.global_avg_pool2d_grad(dz, x.shape), []
        return dz.reshape(x.shape), []

    def _scale(self, layer):
        return self.weights[layer.gamma] if layer.scale else 1.0

    def _normalize(self, layer, x):
        """In training: a frozen batch normalisation uses its moving statistics, others renew them."""
        gamma, beta = self._scale(layer), self.weights[layer.beta] if layer.center else 0.0
        if not isinstance(layer, layers.BatchNormalization):
            function, words = _sample_norm(layer)
            return function(x, gamma, beta, **words)
        moving = layer.moving_mean, layer.moving_variance
        if not layer.trainable:
            return reference.batch_norm(x, gamma, beta, *(self.weights[v] for v in moving), epsilon=layer.epsilon)
        for v, new in zip(moving, reference.moments(x, range(x.ndim - 1)), strict=True):
            self.weights[v] = reference.moving_average(self.weights[v], new.reshape(-1), layer.momentum)
        return reference.batch_norm(x, gamma, beta, epsilon=layer.epsilon)

    def _normalize_grad(self, layer, dz, x):
        if not isinstance(layer, layers.BatchNormalization):
            function, words = _sample_norm(layer, "_grad")
        else:
            function, words = reference.batch_norm_grad, {"epsilon": layer.epsilon}
            if not layer.trainable:
                words.update(mean=self.weights[layer.moving_mean], variance=self.weights[layer.moving_variance])
        dx, dgamma, dbeta = function(dz, x, self._scale(layer), **words)
        own = {layer.gamma: dgamma, layer.beta: dbeta}
        return dx, [own.get(v) for v in layer.variables]


NORMS = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization)


def _sample_norm(layer, suffix=""):
    """The function of the reference, and its words."""
    if isinstance(layer, layers.LayerNormalization):
        return getattr(reference, f"layer_norm{suffix}"), {"axis": layer.axis, "epsilon": layer.epsilon}
    groups = layer.beta.shape[0] if layer.groups == -1 else layer.groups
    return getattr(reference, f"group_norm{suffix}"), {"groups": groups, "epsilon": layer.epsilon}


def _conv_words(layer) -> dict[str, Any]:
    return {
        "strides": layer.strides,
        "padding": layer.padding,
        "dilation": layer.dilation_rate,
        "groups": layer.groups,
    }


def _activated(layer, z):
    return reference.activation(z, getattr(layer, "activation", "linear"))


def _activation_grad(layer, dy, z):
    return reference.activation_grad(dy, z, getattr(layer, "activation", "linear"))


class Sgd:
    """w, v = reference.sgd_step(w, g, v) for every weight."""

    def __init__(self, **options):
        self.options, self.velocity = options, {}

    def __call__(self, key, w, g):
        w, self.velocity[key] = reference.sgd_step(w, g, self.velocity.get(key, 0.0), **self.options)
        return w


class Adam:
    """w, m, v = reference.adam_step(w, g, m, v) for every weight."""

    def __init__(self, **options):
        self.options, self.state = options, {}

    def __call__(self, key, w, g):
        m, v, step = self.state.get(key, (0.0, 0.0, 0))
        w, m, v = reference.adam_step(w, g, m, v, step + 1, **self.options)
        self.state[key] = m, v, step + 1
        return w
