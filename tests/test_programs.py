"""Whole programs, as users write them."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import losses, optimizers
from tests.small_nets import NumpyAdd, X, Y, compiled

pytestmark = pytest.mark.usefixtures("usual_threads")


def write_cifar(folder) -> None:
    """Six small files in CIFAR-10's binary format: a label, then the red, green and blue planes."""
    rng = np.random.default_rng(0)
    for name, count in [*((f"data_batch_{i}.bin", 12) for i in range(1, 6)), ("test_batch.bin", 15)]:
        labels = np.arange(count) % 10
        pixels = rng.integers(0, 60, (count, 3072))
        pixels[np.arange(3072) // 307 == labels[:, None]] += 190
        (folder / name).write_bytes(np.column_stack([labels, pixels]).astype(np.uint8).tobytes())


def test_a_keras_program_with_other_imports(tmp_path, monkeypatch, capsys):
    write_cifar(tmp_path)
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path))
    program = """
from fastcnn import Sequential
from fastcnn.layers import Conv2D, MaxPooling2D, Flatten, Dense
from fastcnn.datasets import cifar10
from fastcnn.utils import to_categorical

model = Sequential()
model.add(Conv2D(32, (3, 3), activation='relu', input_shape=(32, 32, 3)))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(64, (3, 3), activation='relu'))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(128, (3, 3), activation='relu'))
model.add(MaxPooling2D((2, 2)))
model.add(Flatten())
model.add(Dense(512, activation='relu'))
model.add(Dense(10, activation='softmax'))

(x_train, y_train), (x_test, y_test) = cifar10.load_data()
x_train = x_train.astype('float32') / 255
x_test = x_test.astype('float32') / 255
y_train = to_categorical(y_train, 10)
y_test = to_categorical(y_test, 10)
model.compile(optimizer='adam', loss='categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=10, batch_size=64)
loss, accuracy = model.evaluate(x_test, y_test)
"""
    names: dict = {}
    exec(program, names)
    assert names["accuracy"] > 0.5, "chance is 0.1"
    assert names["loss"] < 2
    assert capsys.readouterr().out.count("Epoch ") == 10


def test_a_pytorch_style_subclass():
    class SimpleCNN(fc.Model):
        def __init__(self):
            super().__init__()
            self.conv1 = L.Conv2D(32, 3, padding="same", activation="relu")
            self.conv2 = L.Conv2D(64, 3, padding="same", activation="relu")
            self.pool = L.MaxPooling2D(2)
            self.fc1 = L.Dense(128, activation="relu")
            self.fc2 = L.Dense(10)

        def call(self, x):
            x = self.pool(self.conv1(x))
            x = self.pool(self.conv2(x))
            return self.fc2(self.fc1(L.Flatten()(x)))

    model = SimpleCNN()
    model.compile("adam", fc.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(X, Y, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert [layer.name.split("_")[0] for layer in model.layers] == [
        "conv2d",
        "max",
        "conv2d",
        "flatten",
        "dense",
        "dense",
    ]
    logits = model.predict(X).astype(np.float64)
    entropy = np.log(np.exp(logits).sum(1)) - logits[np.arange(23), Y]
    assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(entropy.mean(), rel=1e-5)
    with pytest.raises(ValueError, match="expects x of shape"):
        model.predict(X[:, :8])


def test_a_functional_graph():
    x = fc.Input((12, 12, 3))
    y = L.Conv2D(16, 3, padding="same", use_bias=False)(x)
    y = L.ReLU()(y)
    y = NumpyAdd()([y, L.Conv2D(16, 1)(x)])
    model = fc.Model(x, L.Dense(5)(L.GlobalAveragePooling2D()(y)))
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    history = compiled(model, optimizers.Adam(0.02), loss).fit(X, Y, epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] - 0.1
