"""Keras 3 on TensorFlow: as users call it, and with the whole step as one tf.function."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from keras import layers as L

from bench.versus.nets import Conv, Dense, Flatten, MaxPool
from bench.versus.runners import EPSILON, LEARNING_RATE


class Keras:
    """compile, train_on_batch, test_on_batch, predict_on_batch."""

    version = f"keras {keras.__version__}, tensorflow {tf.__version__}"

    def __init__(self, net, weights, batches, threads):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.model = build(net, weights)
        self.optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON)
        self.criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(self.optimizer, self.criterion)
        self.batches = [(tf.constant(x), tf.constant(y)) for x, y in batches]
        self.ones = [x[:1] for x, _ in self.batches]

    def loss(self, i):
        self.model.reset_metrics()
        return float(self.model.test_on_batch(*self.batches[i]))

    def train(self, i):
        self.model.train_on_batch(*self.batches[i])

    def predict(self, i):
        self.model.predict_on_batch(self.batches[i][0])

    def predict_one(self, i):
        self.model.predict_on_batch(self.ones[i])


class TensorFlow(Keras):
    """The same model, stepped by functions of our own: no metrics, nothing between the calls."""

    def __init__(self, net, weights, batches, threads):
        super().__init__(net, weights, batches, threads)
        self.optimizer.build(self.model.trainable_variables)
        self.step = tf.function(self._step)
        self.forward = tf.function(lambda x: self.model(x, training=False), reduce_retracing=True)

    def _step(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.criterion(y, self.model(x, training=True))
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def train(self, i):
        self.step(*self.batches[i]).numpy()

    def predict(self, i):
        self.forward(self.batches[i][0]).numpy()

    def predict_one(self, i):
        self.forward(self.ones[i]).numpy()


def build(net, weights):
    model = keras.Sequential([keras.Input(net.input_shape)])
    for i, layer in enumerate(net.layers):
        activation = None if i == len(net.layers) - 1 else "relu"
        match layer:
            case Conv():
                same = layer.strides == 1 and 2 * layer.padding == layer.kernel - 1
                if layer.padding and not same:
                    model.add(L.ZeroPadding2D(layer.padding))
                model.add(
                    L.Conv2D(
                        layer.filters,
                        layer.kernel,
                        layer.strides,
                        "same" if same else "valid",
                        activation=activation,
                    )
                )
            case MaxPool():
                model.add(L.MaxPooling2D(layer.size, layer.strides))
            case Flatten():
                model.add(L.Flatten())
            case Dense():
                model.add(L.Dense(layer.units, activation=activation))
    model.set_weights(weights)
    return model
