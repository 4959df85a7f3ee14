"""Keras 3 on TensorFlow: as users call it, and with the whole step as one tf.function."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

from bench.versus.runners import EPSILON, LEARNING_RATE
from bench.versus.runners.keras_words import make_layer


class Keras:
    """compile, fit, train_on_batch, test_on_batch, predict_on_batch."""

    version = f"keras {keras.__version__}, tensorflow {tf.__version__}"

    def __init__(self, net, weights, batches, threads):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.batch_size = net.batch
        self.model = build(net, weights)
        self.optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON)
        self.criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(self.optimizer, self.criterion)
        image = keras.Input(net.input_shape)
        self.from_bytes = keras.Model(image, self.model(L.Rescaling(1 / 255)(image)))
        self.from_bytes.compile(keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON), self.criterion)
        self.batches = [(tf.constant(x), tf.constant(y)) for x, y in batches]
        self.ones = [x[:1] for x, _ in self.batches]

    def loss(self, i):
        self.model.reset_metrics()
        value = float(self.model.test_on_batch(*self.batches[i]))
        self.model.reset_metrics()
        return value

    def train(self, i):
        """Keras returns the mean loss since `reset_metrics`; after `loss` it is that of this step."""
        return float(self.model.train_on_batch(*self.batches[i]))

    def predict(self, i):
        self.model.predict_on_batch(self.batches[i][0])

    def predict_one(self, i):
        self.model.predict_on_batch(self.ones[i])

    def epoch(self, images, labels):
        self.from_bytes.fit(images, labels, batch_size=self.batch_size, verbose=0)

    def epoch_loader(self, images, labels):
        self.from_bytes.fit(self.dataset(images, labels), verbose=0)

    def dataset(self, images, labels):
        data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images))
        return data.batch(self.batch_size).prefetch(tf.data.AUTOTUNE)


class TensorFlow(Keras):
    """The same model, stepped by functions of our own: no metrics, nothing between the calls."""

    def __init__(self, net, weights, batches, threads):
        super().__init__(net, weights, batches, threads)
        self.optimizer.build(self.model.trainable_variables)
        self.step = tf.function(self._step, reduce_retracing=True)
        self.forward = tf.function(lambda x: self.model(x, training=False), reduce_retracing=True)

    def _step(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.criterion(y, self.model(x, training=True))
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def train(self, i):
        return float(self.step(*self.batches[i]).numpy())

    def predict(self, i):
        self.forward(self.batches[i][0]).numpy()

    def predict_one(self, i):
        self.forward(self.ones[i]).numpy()

    def epoch(self, images, labels):
        images = images.astype(np.float32) / 255
        order = np.random.default_rng().permutation(len(images))
        for first in range(0, len(images), self.batch_size):
            samples = order[first : first + self.batch_size]
            self.step(tf.constant(images[samples]), tf.constant(labels[samples]))

    def epoch_loader(self, images, labels):
        for x, y in self.dataset(images, labels):
            self.step(tf.cast(x, tf.float32) / 255, y)


def build(net, weights):
    def apply(k, layer, *inputs):
        zeros = getattr(layer, "padding", 0)
        same = zeros and is_same(layer)
        if zeros and not same:
            inputs = [L.ZeroPadding2D(zeros)(x) for x in inputs]
        made = make_layer(L, layer, "same" if same else "valid")
        y = made(list(inputs) if len(inputs) > 1 else inputs[0])
        made.set_weights(weights[k])
        return y

    image = keras.Input(net.input_shape)
    return keras.Model(image, net.evaluate(image, apply))


def is_same(layer):
    """Whether Keras's 'same' means the zeros that the layer wants."""
    return layer.strides == 1 and 2 * layer.padding == layer.kernel - 1
