"""The networks of `fastcnn.zoo`, narrow and for small images, with weights and data: what is compared with a peer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fastcnn import optimizers, zoo
from fastcnn.models import Model
from tests.curves import Results, frozen_random, run_twin

TWIN = Path(__file__).with_name("torch_twin.py")
CURVES = Path(__file__).with_name("zoo_curves.json")
CLASSES, BATCH, STEPS = 5, 16, 10
EPSILON = 1e-5  # of Adam: gradients that should be 0 must not count
# Of Adam. In the deepest networks a larger step turns rounding errors into other sides of a ReLU, and these into
# differences of a percent, between float32 and float64 in PyTorch too.
LEARNING_RATE = 1e-4
CAREFUL = {"resnet50": 5e-6, "mobilenet_v2": 1e-5}

# Branches that count for less than what they are added to keep rounding errors from growing in deep networks.
RANGES = {"gamma": (0.3, 0.5), "moving_variance": (0.8, 1.2)}

# Name -> (shape of an image, width and whatever else makes the network small and free of chance).
CASES: dict[str, tuple[tuple[int, int, int], dict[str, float]]] = {
    "simple_cnn": ((12, 12, 1), {"width": 4}),
    "lenet5": ((28, 28, 1), {"width": 6}),
    "alexnet": ((63, 67, 3), {"width": 4, "units": 16, "dropout": 0.0}),
    **{name: ((33, 32, 3), {"width": 4, "units": 16, "dropout": 0.0}) for name in ("vgg11", "vgg13", "vgg16", "vgg19")},
    **{name: ((15, 16, 3), {"width": 4}) for name in ("resnet20", "resnet32", "resnet56")},
    **{name: ((40, 33, 3), {"width": 4}) for name in ("resnet18", "resnet34", "resnet50")},
    "mobilenet_v1": ((40, 33, 3), {"alpha": 0.125, "dropout": 0.0}),
    "mobilenet_v2": ((33, 40, 3), {"alpha": 0.125, "dropout": 0.0}),
    "unet": ((16, 24, 2), {"width": 4, "depth": 3}),
}


def make(name: str) -> Model:
    """The small network, with weights that do not depend on fastcnn's generator."""
    shape, words = CASES[name]
    model = getattr(zoo, name)(shape, CLASSES, **words)
    random = frozen_random(name)
    normed = any(variable.name == "gamma" for variable in model.weights)
    gain = 0.2 if normed else 2.0  # in inference nothing should overflow the softmax, and nothing vanish
    for variable in model.weights:
        if variable.name in RANGES:
            values = random.uniform(*RANGES[variable.name], variable.shape)
        elif len(variable.shape) == 1:
            values = random.uniform(-0.1, 0.1, variable.shape)
        else:
            inputs = variable.value.size // variable.shape[-2 if variable.shape[-1] == 1 else -1]
            values = random.standard_normal(variable.shape) * np.sqrt(gain / inputs)
        variable.assign(values)
    return model


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A batch of normal images, and random labels for them or for their pixels."""
    shape, _ = CASES[name]
    random = frozen_random(f"{name} data")
    positions = shape[:2] if name == "unet" else ()
    return random.standard_normal((BATCH, *shape)).astype(np.float32), random.randint(0, CLASSES, (BATCH, *positions))


def train(name: str) -> Results:
    """What `torch_twin.train` returns, by fastcnn."""
    model, (x, y) = make(name), data(name)
    model.compile(optimizers.Adam(CAREFUL.get(name, LEARNING_RATE), epsilon=EPSILON), "sparse_categorical_crossentropy")
    results = {"outputs": model.predict(x)}
    losses = [model.train_on_batch(x, y)]
    gradients = model._plan("train", BATCH).builder.gradient_arrays
    results.update({f"gradients/{i}": gradients[v].copy() for i, v in enumerate(model.weights) if v.trainable})
    losses += [model.train_on_batch(x, y) for _ in range(STEPS - 1)]
    return {**results, "losses": np.array(losses), "outputs after": model.predict(x)}


def train_in_torch(python: str) -> dict[str, Results]:
    """What PyTorch makes of all cases, run by that Python; CalledProcessError when it cannot."""
    arrays = {"names": np.array(list(CASES)), "steps": STEPS, "epsilon": EPSILON}
    for name in CASES:
        model, (arrays[f"{name}/x"], arrays[f"{name}/y"]) = make(name), data(name)
        arrays[f"{name}/nodes"] = np.array(describe(model))
        arrays[f"{name}/learning_rate"] = np.array(CAREFUL.get(name, LEARNING_RATE))
        arrays.update({f"{name}/weights/{i}": w for i, w in enumerate(model.get_weights())})
    return run_twin(python, TWIN, arrays)


def describe(model: Model) -> str:
    """The graph as JSON, as the twin wants it."""
    numbers = {tensor: i for i, tensor in enumerate(
        [*model.graph.inputs, *(node.outputs[0] for node in model.graph.nodes)])}
    places = {v: i for i, v in enumerate(model.weights)}
    return json.dumps([{"layer": type(node.layer).__name__, "config": node.layer.get_config(),
                        "inputs": [numbers[tensor] for tensor in node.inputs],
                        "weights": [places[v] for v in node.layer.variables]} for node in model.graph.nodes])
