"""Train networks in Keras, in float64, from their description as plain data: a peer that shares no code with fastcnn.

    python tests/keras_twin.py cases.npz results.npz

It needs Keras 3 with TensorFlow only, so any Python that has them will do. cases.npz holds `cases`, JSON: for each kind
("training", "metrics", "initializers", "schedules") a mapping from the name of a case to its description, and arrays
called NAME/...; classes and their arguments are written [class, arguments], in Keras's words. The results are called
NAME/..., as the functions below say.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

FLOAT32_ONLY = {"MaxPooling3D", "AveragePooling3D"}  # in TensorFlow
PADDINGS = {1: keras.layers.ZeroPadding1D, 2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}
QUANTILES = np.linspace(0, 1, 65)


def make(module, description):
    """An object of a class of Keras from [class, arguments]; so may arguments be."""
    name, words = description
    schedules = keras.optimizers.schedules
    words = {key: make(schedules, value) if key == "learning_rate" and isinstance(value, list) else value
             for key, value in words.items()}
    return getattr(module, name)(**words)


# ------------------------------------------------------------------------------------------ training


class MinPooling2D(keras.layers.MaxPooling2D):
    """Keras has none."""

    def call(self, x):
        return -super().call(-x)


def call(description, inputs):
    """(layer, its output); padding of convolutions that Keras does not know, by layers around them."""
    name, words = description
    words = dict(words, dtype="float32") if name in FLOAT32_ONLY else dict(words)
    if name == "SeparableConv1D" and words.get("padding") == "causal":
        words["padding"] = [[(words["kernel_size"] - 1) * words.get("dilation_rate", 1), 0]]
    pads = words.pop("padding") if isinstance(words.get("padding"), list) and "Conv" in name else None
    layer = MinPooling2D(**words) if name == "MinPooling2D" else getattr(keras.layers, name)(**words)
    if pads and name == "Conv2DTranspose":
        return layer, keras.layers.Cropping2D(pads)(layer(inputs))
    if pads:
        inputs = PADDINGS[len(pads)](pads if len(pads) > 1 else pads[0])(inputs)
    return layer, layer(inputs)


def build(nodes, data, arrays, name):
    """(layers, model whose outputs are the values of all nodes), with the weights given."""
    inputs = [keras.Input(x.shape[1:]) for x in data]
    values, layers = list(inputs), []
    for number, node in enumerate(nodes):
        given = [values[i] for i in node["inputs"]]
        layer, value = call(node["layer"], given if len(given) > 1 else given[0])
        if f"{name}/adapt/{number}" in arrays:
            layer.adapt(arrays[f"{name}/adapt/{number}"])
        else:
            layer.set_weights([arrays[f"{name}/weights/{number}/{i}"] for i in range(len(layer.weights))])
        layers.append(layer)
        values.append(value)
    return layers, keras.Model(inputs, values[len(inputs):])


def train(case, arrays, name):
    """What `layer_cases.train` returns: NAME/layer, NAME/losses, NAME/gradients/NODE/WEIGHT and so on.

    The first nodes are stems, one for each input; the next is the layer tested.
    """
    stems = case["inputs"]
    data = [arrays[f"{name}/x/{i}"] for i in range(stems)]
    layers, model = build(case["nodes"], data, arrays, name)
    before = model(data, training=False)
    results = {"layer": before[stems].numpy(), "shape": np.array(before[stems].shape), "outputs": before[-1].numpy()}
    if not case["steps"]:
        return results
    places = {variable.path: f"gradients/{n}/{i}" for n, layer in enumerate(layers)
              for i, variable in enumerate(layer.weights)}
    keys = [*(places[variable.path] for variable in model.trainable_variables),
            *(f"gradients of inputs/{i}" for i in range(stems))]
    step = training_step(model, make(keras.losses, case["loss"]), make(keras.optimizers, case["optimizer"]), stems)
    losses = []
    for number in range(case["steps"]):
        total, gradients = step(data, arrays[f"{name}/y"], arrays.get(f"{name}/sample_weight"))
        losses.append(float(total))
        if number == 0:
            results.update(zip(keys, (g.numpy() for g in gradients), strict=True))
    return {**results, "losses": np.array(losses), "outputs after": model(data, training=False)[-1].numpy()}


def training_step(model, loss, optimizer, stems):
    """A function that trains with a batch and returns the loss and the gradients of weights and results of stems."""
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step(data, y, sample_weight):
        with tf.GradientTape() as tape:
            values = model(data, training=True)
            total = loss(y, values[-1], sample_weight) + sum(model.losses)
        gradients = tape.gradient(total, [*(variable.value for variable in variables), *values[:stems]])
        optimizer.apply_gradients(zip(gradients, variables, strict=False))
        return total, gradients

    return step


# ------------------------------------------------------------------------------------------ values


def measure(case, arrays, name):
    """NAME/result of a metric over some batches; in float32, as some know nothing else."""
    kind, words = case["metric"]
    matrix = kind == "ConfusionMatrix"  # which Keras has as a part of another
    kind, words = ("MeanIoU", {**words, "sparse_y_pred": False}) if matrix else (kind, words)
    metric = make(keras.metrics, [kind, {**words, "dtype": "float32"}])
    for i in range(case["batches"]):
        batch = [arrays.get(f"{name}/{key}/{i}") for key in ("y_true", "y_pred", "sample_weight")]
        metric.update_state(*batch)
    return {"result": np.asarray(metric.total_cm if matrix else metric.result())}


def initialize(case, _arrays, _name):
    """NAME/quantiles, NAME/moments (mean, deviation) of all values of some draws."""
    name, words = case["initializer"]
    seed = {} if name in ("Zeros", "Ones", "Constant") else {"seed": keras.random.SeedGenerator(0)}
    draw = getattr(keras.initializers, name)(**words, **seed)
    values = np.concatenate([np.ravel(draw(case["shape"], "float64")) for _ in range(case["draws"])])
    return {"quantiles": np.quantile(values, QUANTILES), "moments": np.array([values.mean(), values.std()])}


def schedule(case, _arrays, _name):
    """NAME/rates at the steps asked for."""
    rate = make(keras.optimizers.schedules, case["schedule"])
    return {"rates": np.array([float(rate(step)) for step in case["steps"]])}


KINDS = {"training": train, "metrics": measure, "initializers": initialize, "schedules": schedule}


def main(cases, results):
    keras.config.set_floatx("float64")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with np.load(cases) as file:
        arrays = dict(file)
    found = {}
    for kind, described in json.loads(str(arrays["cases"])).items():
        for name, case in described.items():
            values = KINDS[kind](case, arrays, name)
            found.update({f"{name}/{key}": value for key, value in values.items()})
            keras.backend.clear_session()
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
