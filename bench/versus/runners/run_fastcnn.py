"""fastcnn through its public API, arrays in and arrays out."""

from __future__ import annotations

import fastcnn
from bench.versus.nets import Conv, Dense, Flatten, MaxPool
from bench.versus.runners import EPSILON, LEARNING_RATE
from fastcnn import layers as L


class FastCNN:
    version = f"fastcnn {fastcnn.__version__}"

    def __init__(self, net, weights, batches, threads, algorithm="auto"):
        fastcnn.set_num_threads(threads)
        self.batches = batches
        self.model = fastcnn.Sequential([fastcnn.Input(net.input_shape)])
        for i, layer in enumerate(net.layers):
            self.model.add(self._layer(layer, last=i == len(net.layers) - 1, algorithm=algorithm))
        self.model.compile(
            fastcnn.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON),
            fastcnn.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        self.model.set_weights(weights)

    @staticmethod
    def _layer(layer, last, algorithm):
        activation = None if last else "relu"
        match layer:
            case Conv():
                return L.Conv2D(
                    layer.filters,
                    layer.kernel,
                    layer.strides,
                    layer.padding,
                    activation=activation,
                    algorithm=algorithm,
                )
            case MaxPool():
                return L.MaxPooling2D(layer.size, layer.strides)
            case Flatten():
                return L.Flatten()
            case Dense():
                return L.Dense(layer.units, activation=activation)

    def loss(self, i):
        return float(self.model.test_on_batch(*self.batches[i]))

    def train(self, i):
        self.model.train_on_batch(*self.batches[i])

    def predict(self, i):
        x = self.batches[i][0]
        self.model.predict(x, batch_size=len(x))

    def predict_one(self, i):
        self.model.predict(self.batches[i][0][:1])
