"""JAX: one jitted step, NHWC, the old parameters given away; Adam from optax."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bench.versus import nets
from bench.versus.runners import EPSILON, LEARNING_RATE


class Jax:
    """Weights are those that Adam changes, a tuple for each node; `running` are batch normalization's others."""

    version = f"jax {jax.__version__}"

    def __init__(self, net, weights, batches, threads):
        self.optimizer = optax.adam(LEARNING_RATE, eps=EPSILON)
        self.batch_size = net.batch
        self.weights = jax.tree.map(jnp.array, [arrays[:2] for arrays in weights])
        self.running = jax.tree.map(jnp.array, [arrays[2:] for arrays in weights])
        self.state = self.optimizer.init(self.weights)
        self.forward = jax.jit(partial(forward, net))
        self.criterion = jax.jit(partial(criterion, net))
        self.step = jax.jit(partial(self._step, net), donate_argnums=(0, 1, 2))
        self.batches = [(jnp.array(x), jnp.array(y)) for x, y in batches]
        self.ones = [x[:1] for x, _ in self.batches]

    def _step(self, net, weights, running, state, x, y):
        loss_of = jax.value_and_grad(partial(criterion, net, training=True), has_aux=True)
        (loss, running), gradients = loss_of(weights, running, x, y)
        updates, state = self.optimizer.update(gradients, state)
        return optax.apply_updates(weights, updates), running, state, loss

    def _train(self, x, y):
        self.weights, self.running, self.state, loss = self.step(self.weights, self.running, self.state, x, y)
        return loss

    def loss(self, i):
        return float(self.criterion(self.weights, self.running, *self.batches[i])[0])

    def train(self, i):
        loss = self._train(*self.batches[i])
        jax.block_until_ready(self.weights)
        return float(loss)

    def predict(self, i):
        self.forward(self.weights, self.running, self.batches[i][0])[0].block_until_ready()

    def predict_one(self, i):
        self.forward(self.weights, self.running, self.ones[i])[0].block_until_ready()

    def epoch(self, images, labels):
        images = images.astype(np.float32) / 255
        order = np.random.default_rng().permutation(len(images))
        for first in range(0, len(images), self.batch_size):
            samples = order[first : first + self.batch_size]
            self._train(images[samples], labels[samples])
        jax.block_until_ready(self.weights)


def criterion(net, weights, running, x, y, training=False):
    logits, running = forward(net, weights, running, x, training)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), running


def forward(net, weights, running, x, training=False):
    """(logits, running statistics after this batch)."""
    running = list(running)

    def apply(k, layer, *inputs):
        if isinstance(layer, nets.BatchNorm):
            y, running[k] = batch_norm(inputs[0], *weights[k], *running[k], training)
            return y
        return compute(layer, weights[k], *inputs)

    return net.evaluate(x, apply), running


def batch_norm(x, gamma, beta, mean, variance, training):
    if training:
        of_batch = x.mean((0, 1, 2)), x.var((0, 1, 2))
        moved = [
            nets.MOMENTUM * old + (1 - nets.MOMENTUM) * new
            for old, new in zip((mean, variance), of_batch, strict=True)
        ]
        mean, variance = of_batch
    else:
        moved = mean, variance
    return (x - mean) * lax.rsqrt(variance + nets.BATCH_NORM_EPSILON) * gamma + beta, tuple(moved)


def compute(layer, weights, *inputs):
    x = inputs[0]
    match layer:
        case nets.Conv():
            y = convolve(x, weights[0], layer)
            return y + weights[1] if layer.bias else y
        case nets.DepthwiseConv():
            kernel = weights[0].transpose(0, 1, 3, 2)
            return convolve(x, kernel, layer, groups=x.shape[-1])
        case nets.Dense():
            return x @ weights[0] + weights[1]
        case nets.Relu():
            return jax.nn.relu(x)
        case nets.MaxPool(kernel, strides):
            window, strides = (1, kernel, kernel, 1), (1, strides, strides, 1)
            return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")
        case nets.GlobalAvgPool():
            return x.mean((1, 2))
        case nets.Flatten():
            return x.reshape(x.shape[0], -1)
        case nets.UpSample(size):
            return x.repeat(size, 1).repeat(size, 2)
        case nets.Add():
            return x + inputs[1]
        case nets.Concat():
            return jnp.concatenate(inputs, -1)


def convolve(x, kernel, layer, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (layer.strides,) * 2,
        [(layer.padding, layer.padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
