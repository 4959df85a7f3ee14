"""Small networks around each layer, loss and optimizer, with weights and data: what is compared with Keras.

Words are Keras's, and so that both libraries can be given the same ones, each case is plain data. The network of a case
is a dense layer for each input (the stems, so that the gradient of the layer's input trains something), the layer
itself, and a head: Flatten, and a dense layer with three units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn import Input, Model, layers, losses, optimizers, schedules
from tests.curves import Results, frozen_random

BATCH, STEPS, UNITS = 7, 10, 3
Described = tuple[str, dict[str, Any]]  # class and arguments
# With this epsilon, gradients that should be 0 do not count; and these rates are floats, to which Keras rounds them.
ADAM = ("Adam", {"learning_rate": 0.001, "beta_1": 0.875, "beta_2": 1 - 2**-10, "epsilon": 1e-5})
LABELS = ("SparseCategoricalCrossentropy", {"from_logits": True})
SEQUENCE, IMAGE, VOLUME = (9, 5), (7, 6, 5), (5, 6, 4, 3)
FLAT_HEAD: tuple[Described, ...] = (("Flatten", {}), ("Dense", {"units": UNITS}))


@dataclass(frozen=True)
class Case:
    """A layer in a network, and how that is trained.

    `inputs` are the stems it reads, whose weights are `gain` times larger than usual; `steps` 0: not trained.
    """

    layer: Described
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    inputs: tuple[int, ...] = (0,)
    head: tuple[Described, ...] = FLAT_HEAD
    loss: Described = LABELS
    targets: str = "labels"
    optimizer: Described = ADAM
    steps: int = STEPS
    adapt: bool = False
    weighted: bool = False
    gain: float = 1.0

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Layers and the values they read: 0, 1 ... are the inputs, and then what the nodes give, in order."""
        count = len(self.shapes)
        stems = [{"layer": ("Dense", {"units": shape[-1]}), "inputs": [i]} for i, shape in enumerate(self.shapes)]
        tested = {"layer": self.layer, "inputs": [count + i for i in self.inputs]}
        return [*stems, tested,
                *({"layer": layer, "inputs": [2 * count + i]} for i, layer in enumerate(self.head))]


# ------------------------------------------------------------------------------------------ layers


def on(shape: tuple[int, ...], kind: str, **words: Any) -> Case:
    return Case((kind, words), (shape,))


def between(kind: str, *shapes: tuple[int, ...], inputs: tuple[int, ...] | None = None, **words: Any) -> Case:
    return Case((kind, words), shapes, inputs or tuple(range(len(shapes))))


def wide(kind: str, **words: Any) -> Case:
    """An activation, of numbers that reach its bounds."""
    return Case((kind, words), gain=3.0)


def unused_in_training(shape: tuple[int, ...], kind: str, **words: Any) -> Case:
    return Case((kind, words), (shape,), steps=0)


def table(*cases: Case) -> dict[str, Case]:
    """Cases by name: class, shapes of the inputs, arguments."""
    named = {}
    for case in cases:
        kind, words = case.layer
        read = ["again" if i in case.inputs[:at] else str(case.shapes[i]) for at, i in enumerate(case.inputs)]
        details = [*read, *(f"{key}={value}" for key, value in words.items())]
        named[" ".join([kind, *(detail.replace(" ", "") for detail in details)])] = case
    assert len(named) == len(cases), "two cases have one name"
    return named


EVEN = (8, 9, 4)
CHANNEL = (1, 1, 5)
PENALTY = {"class_name": "L1L2", "config": {"l1": 0.02, "l2": 0.03}}

LAYERS = table(
    on(SEQUENCE, "Conv1D", filters=6, kernel_size=3),
    on(SEQUENCE, "Conv1D", filters=6, kernel_size=3, strides=2, padding="same", activation="relu"),
    on(SEQUENCE, "Conv1D", filters=6, kernel_size=3, padding="causal", dilation_rate=2, use_bias=False),
    on(SEQUENCE, "Conv1D", filters=6, kernel_size=2, padding="causal", strides=2),
    on((10, 4), "Conv1D", filters=6, kernel_size=3, padding="same", groups=2),
    on((10, 4), "Conv1D", filters=6, kernel_size=3, padding=[[2, 1]]),
    on(IMAGE, "Conv2D", filters=6, kernel_size=3),
    on(IMAGE, "Conv2D", filters=17, kernel_size=1, activation="relu"),
    on(IMAGE, "Conv2D", filters=6, kernel_size=[2, 3], strides=[2, 1], padding="same", activation="tanh"),
    on(IMAGE, "Conv2D", filters=6, kernel_size=3, strides=2, padding="same", use_bias=False),
    on(IMAGE, "Conv2D", filters=6, kernel_size=3, strides=3),
    on((11, 10, 3), "Conv2D", filters=5, kernel_size=5, strides=2, padding="same", activation="gelu"),
    on(EVEN, "Conv2D", filters=6, kernel_size=3, dilation_rate=2, padding="same"),
    on(EVEN, "Conv2D", filters=6, kernel_size=[3, 2], dilation_rate=[1, 3]),
    on(EVEN, "Conv2D", filters=6, kernel_size=3, groups=2, padding="same"),
    on(EVEN, "Conv2D", filters=8, kernel_size=3, groups=4, strides=2),
    on(EVEN, "Conv2D", filters=4, kernel_size=3, groups=4, padding="same"),
    on(IMAGE, "Conv2D", filters=6, kernel_size=3, padding=[[2, 0], [1, 1]]),
    on((12, 11, 9), "Conv2D", filters=19, kernel_size=3, padding="same"),
    on(IMAGE, "Conv2D", filters=6, kernel_size=3, kernel_regularizer="l2"),
    on(IMAGE, "Conv2D", filters=6, kernel_size=3, kernel_regularizer="l1"),
    on(IMAGE, "Conv2D", filters=6, kernel_size=3, kernel_regularizer=PENALTY),
    on(IMAGE, "Conv2D", filters=6, kernel_size=3, trainable=False),
    on(VOLUME, "Conv3D", filters=5, kernel_size=3),
    on(VOLUME, "Conv3D", filters=5, kernel_size=[2, 3, 1], strides=[2, 1, 3], padding="same", activation="relu"),
    on(VOLUME, "Conv3D", filters=5, kernel_size=2, dilation_rate=2, padding="same"),
    on((5, 4, 4, 4), "Conv3D", filters=6, kernel_size=3, padding="same", groups=2),
    on(VOLUME, "Conv3D", filters=5, kernel_size=3, padding=[[0, 1], [1, 1], [2, 0]], use_bias=False),
    on(IMAGE, "Conv2DTranspose", filters=6, kernel_size=3),
    on(IMAGE, "Conv2DTranspose", filters=6, kernel_size=3, strides=2, padding="same", activation="relu"),
    on(IMAGE, "Conv2DTranspose", filters=6, kernel_size=2, strides=2, use_bias=False),
    on(IMAGE, "Conv2DTranspose", filters=6, kernel_size=2, strides=3),
    on(IMAGE, "Conv2DTranspose", filters=6, kernel_size=[3, 5], strides=[2, 3], padding="same", output_padding=[1, 2]),
    on(IMAGE, "Conv2DTranspose", filters=6, kernel_size=3, strides=2, output_padding=1),
    on(IMAGE, "Conv2DTranspose", filters=6, kernel_size=4, strides=2, padding=[[1, 1], [0, 2]]),
    on(SEQUENCE, "DepthwiseConv1D", kernel_size=3),
    on(SEQUENCE, "DepthwiseConv1D", kernel_size=3, strides=2, padding="same", depth_multiplier=2, activation="relu"),
    on(IMAGE, "DepthwiseConv2D", kernel_size=3),
    on(IMAGE, "DepthwiseConv2D", kernel_size=3, strides=2, padding="same", depth_multiplier=3, activation="relu"),
    on(IMAGE, "DepthwiseConv2D", kernel_size=3, dilation_rate=2, padding="same", use_bias=False),
    on((9, 8, 19), "DepthwiseConv2D", kernel_size=[5, 3], padding="same"),
    on(SEQUENCE, "SeparableConv1D", filters=6, kernel_size=3, padding="causal"),
    on(SEQUENCE, "SeparableConv1D", filters=6, kernel_size=3, strides=2, padding="same", depth_multiplier=2),
    on(IMAGE, "SeparableConv2D", filters=6, kernel_size=3),
    on(IMAGE, "SeparableConv2D", filters=6, kernel_size=3, strides=2, padding="same", depth_multiplier=2,
       activation="relu"),
    on(IMAGE, "SeparableConv2D", filters=6, kernel_size=3, dilation_rate=2, padding="same", use_bias=False),
    on((11,), "Dense", units=6),
    on(IMAGE, "Dense", units=6, activation="sigmoid", use_bias=False),

    on(SEQUENCE, "MaxPooling1D"),
    on(SEQUENCE, "MaxPooling1D", pool_size=3, strides=2, padding="same"),
    on(IMAGE, "MaxPooling2D"),
    on(IMAGE, "MaxPooling2D", pool_size=3, strides=2, padding="same"),
    on(IMAGE, "MaxPooling2D", pool_size=[3, 2], strides=[1, 3]),
    on(IMAGE, "MinPooling2D", pool_size=3, strides=2, padding="same"),
    on(VOLUME, "MaxPooling3D"),
    on(VOLUME, "MaxPooling3D", pool_size=[2, 3, 2], strides=[1, 2, 2], padding="same"),
    on(SEQUENCE, "AveragePooling1D", pool_size=2),
    on(SEQUENCE, "AveragePooling1D", pool_size=3, strides=2, padding="same"),
    on(IMAGE, "AveragePooling2D", pool_size=2),
    on(IMAGE, "AveragePooling2D", pool_size=3, strides=2, padding="same"),
    on(IMAGE, "AveragePooling2D", pool_size=[3, 2], strides=[1, 3]),
    on(VOLUME, "AveragePooling3D", pool_size=2),
    on(VOLUME, "AveragePooling3D", pool_size=[2, 3, 2], strides=[1, 2, 2], padding="same"),
    on(SEQUENCE, "GlobalMaxPooling1D"),
    on(SEQUENCE, "GlobalAveragePooling1D", keepdims=True),
    on(IMAGE, "GlobalMaxPooling2D", keepdims=True),
    on(IMAGE, "GlobalAveragePooling2D"),
    on(VOLUME, "GlobalMaxPooling3D"),
    on(VOLUME, "GlobalAveragePooling3D"),

    on(IMAGE, "BatchNormalization"),
    on((13,), "BatchNormalization", momentum=0.8, epsilon=0.01),
    on(SEQUENCE, "BatchNormalization", center=False, momentum=0.5),
    on(VOLUME, "BatchNormalization", scale=False),
    on(IMAGE, "BatchNormalization", trainable=False),
    on(IMAGE, "LayerNormalization"),
    on(IMAGE, "LayerNormalization", axis=[1, 2, 3], epsilon=0.01),
    on((13,), "LayerNormalization", center=False),
    on(SEQUENCE, "LayerNormalization", axis=[-2, -1], scale=False),
    on((5, 4, 6), "GroupNormalization", groups=3),
    on((5, 4, 64), "GroupNormalization"),
    on(IMAGE, "GroupNormalization", groups=-1, center=False),
    on(SEQUENCE, "GroupNormalization", groups=1, scale=False, epsilon=0.01),

    between("Add", IMAGE, IMAGE, IMAGE),
    between("Add", IMAGE, inputs=(0, 0)),
    between("Add", IMAGE, CHANNEL),
    between("Subtract", IMAGE, IMAGE),
    between("Subtract", CHANNEL, IMAGE),
    between("Multiply", IMAGE, IMAGE, IMAGE),
    between("Multiply", IMAGE, inputs=(0, 0)),
    between("Multiply", IMAGE, CHANNEL, inputs=(0, 1, 0)),
    between("Average", IMAGE, IMAGE, IMAGE),
    between("Average", IMAGE, IMAGE, inputs=(0, 1, 1)),
    between("Maximum", IMAGE, IMAGE, IMAGE),
    between("Maximum", SEQUENCE, SEQUENCE),
    between("Minimum", IMAGE, IMAGE),
    between("Concatenate", IMAGE, (7, 6, 2), inputs=(0, 1, 0)),
    between("Concatenate", IMAGE, (3, 6, 5), axis=1),
    between("Concatenate", IMAGE, (7, 4, 5), axis=-2),
    between("Concatenate", (11,), (4,)),

    *(wide("Activation", activation=name) for name in (
        "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "sigmoid", "tanh", "softplus", "softsign",
        "silu", "swish", "hard_sigmoid", "hard_swish", "mish", "softmax", "log_softmax")),
    on(IMAGE, "ReLU"),
    wide("ReLU", max_value=6),
    on(IMAGE, "ReLU", negative_slope=0.1),
    on(IMAGE, "LeakyReLU"),
    on(IMAGE, "LeakyReLU", negative_slope=0.05),
    on(IMAGE, "PReLU"),
    on(IMAGE, "PReLU", shared_axes=[1, 2]),
    on(SEQUENCE, "PReLU", shared_axes=[1]),
    on(IMAGE, "ELU"),
    on(IMAGE, "ELU", alpha=0.4),
    on(IMAGE, "Softmax"),
    on((13,), "Softmax"),

    on(IMAGE, "UpSampling2D"),
    on(IMAGE, "UpSampling2D", size=[2, 3]),
    on(IMAGE, "UpSampling2D", interpolation="bilinear"),
    on(IMAGE, "UpSampling2D", size=[3, 2], interpolation="bilinear"),
    on(IMAGE, "Cropping2D", cropping=[[1, 2], [0, 3]]),
    on(IMAGE, "Cropping2D", cropping=1),
    on(SEQUENCE, "ZeroPadding1D", padding=[1, 3]),
    on(IMAGE, "ZeroPadding2D"),
    on(IMAGE, "ZeroPadding2D", padding=[[1, 2], [0, 3]]),
    on(IMAGE, "Permute", dims=[3, 1, 2]),
    on(SEQUENCE, "Permute", dims=[2, 1]),
    on(IMAGE, "Reshape", target_shape=[6, -1]),
    on((12,), "Reshape", target_shape=[2, 3, 2]),
    on(IMAGE, "Flatten"),

    on(IMAGE, "Rescaling", scale=0.4, offset=-0.3),
    on(IMAGE, "Normalization", mean=[0.1, 0.2, -0.1, 0.0, 0.3], variance=[1.5, 0.5, 2.0, 1.0, 0.7]),
    on(IMAGE, "Normalization", axis=[1, 3], mean=0.2, variance=1.7, invert=True),
    Case(("Normalization", {}), adapt=True),
    Case(("Normalization", {"axis": None}), adapt=True),

    on(IMAGE, "Dropout", rate=0.0),
    unused_in_training(IMAGE, "Dropout", rate=0.4),
    unused_in_training(IMAGE, "SpatialDropout2D", rate=0.4),
    unused_in_training(IMAGE, "RandomFlip"),
    unused_in_training(IMAGE, "RandomTranslation", height_factor=0.3, width_factor=0.2),
    unused_in_training(IMAGE, "RandomRotation", factor=0.2),
    unused_in_training(IMAGE, "RandomZoom", height_factor=0.3),
    unused_in_training(IMAGE, "RandomCrop", height=7, width=6),
    unused_in_training(IMAGE, "RandomContrast", factor=0.3),
    unused_in_training(IMAGE, "RandomBrightness", factor=0.3),
)  # fmt: skip


# ------------------------------------------------------------------------------------------ losses and optimizers

CONVOLUTION = ("Conv2D", {"filters": 6, "kernel_size": 3, "activation": "relu"})


def loss(kind: str, targets: str, activation: str | None = None, maps: bool = False, weighted: bool = False,
         **words: Any) -> Case:
    """A loss of predictions for images, or for their pixels, behind an activation."""
    of_images = (("Flatten", {}), ("Dense", {"units": UNITS, "activation": activation}))
    of_pixels = (("Conv2D", {"filters": UNITS, "kernel_size": 1, "activation": activation}),)
    return Case(CONVOLUTION, head=of_pixels if maps else of_images, loss=(kind, words), targets=targets,
                weighted=weighted)


LOSSES = {
    "BinaryCrossentropy": loss("BinaryCrossentropy", "bits", "sigmoid"),
    "BinaryCrossentropy of logits": loss("BinaryCrossentropy", "bits", from_logits=True, label_smoothing=0.2),
    "BinaryCrossentropy of maps": loss("BinaryCrossentropy", "bits", "sigmoid", maps=True, label_smoothing=0.1),
    "BinaryCrossentropy clipped": loss("BinaryCrossentropy", "bits", "hard_sigmoid"),
    "CategoricalCrossentropy": loss("CategoricalCrossentropy", "one-hot", "softmax"),
    "CategoricalCrossentropy of logits": loss("CategoricalCrossentropy", "shares", from_logits=True),
    "CategoricalCrossentropy smooth": loss("CategoricalCrossentropy", "one-hot", "softmax", label_smoothing=0.1),
    "CategoricalCrossentropy of sums": loss("CategoricalCrossentropy", "one-hot", "softplus"),
    "CategoricalCrossentropy weighted": loss("CategoricalCrossentropy", "one-hot", "softmax", weighted=True),
    "SparseCategoricalCrossentropy": loss("SparseCategoricalCrossentropy", "labels", "softmax"),
    "SparseCategoricalCrossentropy of logits": loss("SparseCategoricalCrossentropy", "labels", from_logits=True),
    "SparseCategoricalCrossentropy of sums": loss("SparseCategoricalCrossentropy", "labels", "hard_sigmoid"),
    "SparseCategoricalCrossentropy of maps": loss("SparseCategoricalCrossentropy", "labels", "softmax", maps=True),
    "SparseCategoricalCrossentropy without a class": loss(
        "SparseCategoricalCrossentropy", "labels", from_logits=True, maps=True, ignore_class=1),
    "SparseCategoricalCrossentropy weighted": loss(
        "SparseCategoricalCrossentropy", "labels", from_logits=True, weighted=True),
    "MeanSquaredError": loss("MeanSquaredError", "numbers"),
    "MeanSquaredError of maps": loss("MeanSquaredError", "numbers", "tanh", maps=True, weighted=True),
    "MeanAbsoluteError": loss("MeanAbsoluteError", "numbers"),
    "Huber": loss("Huber", "numbers"),
    "Huber delta": loss("Huber", "numbers", delta=0.3),
    "KLDivergence": loss("KLDivergence", "shares", "softmax"),
    "Hinge": loss("Hinge", "signs", "tanh"),
    "Hinge of bits": loss("Hinge", "bits", maps=True),
    "Dice": loss("Dice", "one-hot", "softmax", maps=True),
    "Dice of each image": loss("Dice", "one-hot", "softmax", maps=True, axis=[1, 2, 3]),
    "Dice of each class": loss("Dice", "one-hot", "softmax", maps=True, axis=[1, 2]),
}


def optimizer(kind: str, **words: Any) -> Case:
    return Case(CONVOLUTION, optimizer=(kind, words))


DECAY = ("ExponentialDecay", {"initial_learning_rate": 0.02, "decay_steps": 3, "decay_rate": 0.5})
WARM_UP = ("CosineDecay", {"initial_learning_rate": 0.0, "decay_steps": 8, "warmup_target": 0.02, "warmup_steps": 3})
STAIRS = ("PiecewiseConstantDecay", {"boundaries": [2, 6], "values": [0.03, 0.01, 0.001]})

OPTIMIZERS = {
    "SGD": optimizer("SGD"),
    "SGD momentum": optimizer("SGD", learning_rate=0.05, momentum=0.9),
    "SGD nesterov": optimizer("SGD", learning_rate=0.05, momentum=0.9, nesterov=True),
    "SGD weight decay": optimizer("SGD", learning_rate=0.05, weight_decay=0.1),
    "SGD clipnorm": optimizer("SGD", learning_rate=0.05, clipnorm=0.1),
    "SGD clipvalue": optimizer("SGD", learning_rate=0.05, momentum=0.5, clipvalue=0.01),
    "SGD global clipnorm": optimizer("SGD", learning_rate=0.05, global_clipnorm=0.3),
    "SGD on a schedule": optimizer("SGD", learning_rate=STAIRS, momentum=0.9),
    "Adam": optimizer("Adam"),
    "Adam betas": optimizer("Adam", learning_rate=0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    "Adam weight decay": optimizer("Adam", learning_rate=0.01, weight_decay=0.1),
    "Adam clipnorm": optimizer("Adam", learning_rate=0.01, clipnorm=0.1),
    "Adam clipvalue": optimizer("Adam", learning_rate=0.01, clipvalue=0.01),
    "Adam global clipnorm": optimizer("Adam", learning_rate=0.01, global_clipnorm=0.3),
    "Adam on a schedule": optimizer("Adam", learning_rate=WARM_UP),
    "AdamW": optimizer("AdamW"),
    "AdamW weight decay": optimizer("AdamW", learning_rate=0.01, weight_decay=0.2, clipnorm=1.0),
    "Nadam": optimizer("Nadam"),
    "Nadam betas": optimizer("Nadam", learning_rate=0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.1),
    "RMSprop": optimizer("RMSprop"),
    "RMSprop momentum": optimizer("RMSprop", learning_rate=0.002, rho=0.8, momentum=0.9),
    "RMSprop centered": optimizer("RMSprop", learning_rate=0.002, centered=True, epsilon=1e-3),
    "RMSprop centered momentum": optimizer("RMSprop", centered=True, momentum=0.5, epsilon=1e-3, weight_decay=0.1),
    "RMSprop on a schedule": optimizer("RMSprop", learning_rate=DECAY),
    "Adagrad": optimizer("Adagrad"),
    "Adagrad start": optimizer("Adagrad", learning_rate=0.05, initial_accumulator_value=0.5, epsilon=1e-3,
                               weight_decay=0.1),
    "Adadelta": optimizer("Adadelta"),
    "Adadelta rate": optimizer("Adadelta", learning_rate=1.0, rho=0.8, epsilon=1e-4, clipvalue=0.1),
}  # fmt: skip

CASES = {**LAYERS, **{f"loss {name}": case for name, case in LOSSES.items()},
         **{f"optimizer {name}": case for name, case in OPTIMIZERS.items()}}


# ------------------------------------------------------------------------------------------ weights and data


class Probe(layers.Layer):
    """Passes its input on, and keeps the gradient that comes back."""

    def compute_output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training):
        return x

    def backward(self, dy):
        self.gradient = dy.copy()
        return dy


class Network:
    """A case's network in fastcnn, with weights that do not depend on its generator; `probed`: probes behind stems."""

    def __init__(self, name: str, case: Case, probed: bool = False) -> None:
        inputs = [Input(shape) for shape in case.shapes]
        self.layers, values = [], list(inputs)
        self.probes = [Probe() for _ in inputs if probed]
        for number, node in enumerate(case.nodes):
            layer = make(layers, node["layer"])
            given = [values[i] for i in node["inputs"]]
            value = layer(given if len(given) > 1 else given[0])
            self.layers.append(layer)
            values.append(self.probes[number](value) if number < len(self.probes) else value)
        self.model = Model(inputs, values[-1])
        self.tested = Model(inputs, values[2 * len(inputs)])
        for number, layer in enumerate(self.layers):
            for variable in layer.variables:
                gain = case.gain if number < len(inputs) else 1.0
                variable.assign(gain * initial_weight(f"{name} {number}", variable.name, variable.shape))
        if case.adapt:
            self.layers[len(inputs)].adapt(samples(name, case))


def make(module: Any, description: Described) -> Any:
    """An object of a class of fastcnn from (class, arguments); so may the learning rate be."""
    kind, words = description
    return getattr(module, kind)(**{key: make(schedules, value) if key == "learning_rate" and isinstance(value, tuple)
                                    else value for key, value in words.items()})


def initial_weight(owner: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    random = frozen_random(f"{owner} {name}")
    if name in ("gamma", "moving_variance"):
        return random.uniform(0.5, 1.5, shape)
    if "kernel" in name:
        return random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
    return random.uniform(-0.3, 0.3, shape)


def batch(name: str, case: Case) -> list[np.ndarray]:
    """Normal numbers for each input."""
    random = frozen_random(f"{name} data")
    return [random.standard_normal((BATCH, *shape)).astype(np.float32) for shape in case.shapes]


def samples(name: str, case: Case) -> np.ndarray:
    """What a layer with `adapt` sees before training."""
    return frozen_random(f"{name} samples").normal(0.3, 1.7, (50, *case.shapes[0])).astype(np.float32)


def targets(name: str, case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """Random targets of the kind that the case asks for, for an output of `shape`."""
    random = frozen_random(f"{name} targets")
    labels = random.randint(0, shape[-1], shape[:-1])
    shares = random.uniform(0.1, 1.0, shape)
    return {
        "labels": labels, "one-hot": np.eye(shape[-1])[labels], "numbers": random.standard_normal(shape),
        "bits": random.randint(0, 2, shape).astype(float), "signs": 2.0 * random.randint(0, 2, shape) - 1,
        "shares": shares / shares.sum(-1, keepdims=True),
    }[case.targets]


def sample_weight(name: str, y: np.ndarray) -> np.ndarray:
    """One for each image, or each pixel of maps."""
    shape = y.shape[:-1] if y.ndim > 2 else y.shape[:1]
    return frozen_random(f"{name} sample weight").uniform(0.2, 2.0, shape)


# ------------------------------------------------------------------------------------------ training


def train(name: str, case: Case) -> Results:
    """Results of the layer and the model in inference, before and after some steps on one batch; losses; gradients.

    The gradients are those of the first step; those of the layer's inputs come from a second network, as a layer in
    NumPy that keeps them stands in the way of fusion.
    """
    network, x = Network(name, case), batch(name, case)
    x = x if len(x) > 1 else x[0]
    model = network.model
    inner = network.tested.predict(x)
    results = {"layer": inner, "shape": np.array(inner.shape), "outputs": model.predict(x)}
    if not case.steps:
        return results
    y = targets(name, case, (BATCH, *model.output_shape[1:]))
    weights = sample_weight(name, y) if case.weighted else None
    found = [step(model, case, x, y, weights)]
    gradients = model._plan("train", BATCH).builder.gradient_arrays
    results.update({f"gradients/{number}/{i}": gradients[v].copy() for number, layer in enumerate(network.layers)
                    for i, v in enumerate(layer.variables) if v.trainable})
    found += [step(model, case, x, y, weights) for _ in range(case.steps - 1)]
    probed = Network(name, case, probed=True)
    step(probed.model, case, x, y, weights)
    results.update({f"gradients of inputs/{i}": probe.gradient for i, probe in enumerate(probed.probes)})
    return {**results, "losses": np.array(found), "outputs after": model.predict(x)}


def step(model: Model, case: Case, x: Any, y: np.ndarray, weights: np.ndarray | None) -> float:
    """The loss of one step of training, which compiles the model first if need be."""
    if model.optimizer is None:
        model.compile(make(optimizers, case.optimizer), make(losses, case.loss))
    if weights is None:
        return model.train_on_batch(x, y)
    return model.fit(x, y, BATCH, shuffle=False, verbose=0, sample_weight=weights).history["loss"][0]


def describe(name: str, case: Case) -> tuple[dict[str, Any], Results]:
    """(the case, its arrays) as the twin wants them."""
    network = Network(name, case)
    arrays = {f"{name}/x/{i}": x for i, x in enumerate(batch(name, case))}
    arrays[f"{name}/y"] = targets(name, case, (BATCH, *network.model.output_shape[1:]))
    if case.weighted:
        arrays[f"{name}/sample_weight"] = sample_weight(name, arrays[f"{name}/y"])
    if case.adapt:
        arrays[f"{name}/adapt/{len(case.shapes)}"] = samples(name, case)
    arrays.update({f"{name}/weights/{number}/{i}": v.value for number, layer in enumerate(network.layers)
                   for i, v in enumerate(layer.variables)})
    described = {"nodes": case.nodes, "inputs": len(case.shapes), "loss": case.loss, "optimizer": case.optimizer,
                 "steps": case.steps}
    return described, arrays
