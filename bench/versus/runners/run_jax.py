"""JAX: one jitted step, NHWC, the old parameters given away; Adam from optax."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

from bench.versus.nets import Conv, Dense, Flatten, MaxPool
from bench.versus.runners import EPSILON, LEARNING_RATE


class Jax:
    version = f"jax {jax.__version__}"

    def __init__(self, net, weights, batches, threads):
        self.optimizer = optax.adam(LEARNING_RATE, eps=EPSILON)
        self.weights = [jnp.array(w) for w in weights]
        self.state = self.optimizer.init(self.weights)
        self.forward = jax.jit(partial(forward, net))
        self.criterion = jax.jit(partial(criterion, net))
        self.step = jax.jit(partial(self._step, net), donate_argnums=(0, 1))
        self.batches = [(jnp.array(x), jnp.array(y)) for x, y in batches]
        self.ones = [x[:1] for x, _ in self.batches]

    def _step(self, net, weights, state, x, y):
        loss, gradients = jax.value_and_grad(partial(criterion, net))(weights, x, y)
        updates, state = self.optimizer.update(gradients, state)
        return optax.apply_updates(weights, updates), state, loss

    def loss(self, i):
        return float(self.criterion(self.weights, *self.batches[i]))

    def train(self, i):
        self.weights, self.state, loss = self.step(self.weights, self.state, *self.batches[i])
        jax.block_until_ready((self.weights, loss))

    def predict(self, i):
        self.forward(self.weights, self.batches[i][0]).block_until_ready()

    def predict_one(self, i):
        self.forward(self.weights, self.ones[i]).block_until_ready()


def criterion(net, weights, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(forward(net, weights, x), y).mean()


def forward(net, weights, x):
    weights, last = iter(weights), net.layers[-1]
    for layer in net.layers:
        match layer:
            case Conv():
                pads = [(layer.padding, layer.padding)] * 2
                x = lax.conv_general_dilated(
                    x, next(weights), (layer.strides,) * 2, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
                ) + next(weights)
            case MaxPool():
                window, strides = (1, layer.size, layer.size, 1), (1, layer.strides, layer.strides, 1)
                x = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")
            case Flatten():
                x = x.reshape(x.shape[0], -1)
            case Dense():
                x = x @ next(weights) + next(weights)
        if isinstance(layer, (Conv, Dense)) and layer is not last:
            x = jax.nn.relu(x)
    return x
