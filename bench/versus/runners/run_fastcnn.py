"""fastcnn through its public API, arrays in and arrays out."""

from __future__ import annotations

import fastcnn
from bench.versus.runners import EPSILON, LEARNING_RATE
from bench.versus.runners.keras_words import make_layer
from fastcnn import layers as L
from fastcnn.data import Dataset


class FastCNN:
    version = f"fastcnn {fastcnn.__version__}"

    def __init__(self, net, weights, batches, threads, algorithm="auto"):
        fastcnn.set_num_threads(threads)
        self.batches, self.batch_size = batches, net.batch
        self.model = build(net, weights, algorithm)
        compile_model(self.model)
        image = fastcnn.Input(net.input_shape)
        self.from_bytes = fastcnn.Model(image, self.model(L.Rescaling(1 / 255)(image)))
        compile_model(self.from_bytes)

    def loss(self, i):
        return float(self.model.test_on_batch(*self.batches[i]))

    def train(self, i):
        return float(self.model.train_on_batch(*self.batches[i]))

    def predict(self, i):
        x = self.batches[i][0]
        self.model.predict(x, batch_size=len(x))

    def predict_one(self, i):
        self.model(self.batches[i][0][:1])

    def epoch(self, images, labels):
        self.from_bytes.fit(images, labels, batch_size=self.batch_size, verbose=0)

    def epoch_loader(self, images, labels):
        self.from_bytes.fit(Dataset(images, labels, self.batch_size, shuffle=True), verbose=0)


def compile_model(model):
    model.compile(
        fastcnn.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON),
        fastcnn.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def build(net, weights, algorithm):
    def apply(k, layer, *inputs):
        made = make_layer(L, layer, getattr(layer, "padding", 0), algorithm=algorithm)
        y = made(inputs if len(inputs) > 1 else inputs[0])
        made.set_weights(weights[k])
        return y

    image = fastcnn.Input(net.input_shape)
    return fastcnn.Model(image, net.evaluate(image, apply))
