"""Train networks in PyTorch, in float64, from their description as plain data: a peer that shares no code with fastcnn.

    python tests/torch_twin.py cases.npz results.npz

It needs NumPy and PyTorch only, so any Python that has them will do. cases.npz holds `names`, the `steps` of training,
`epsilon` of Adam, and for each name `NAME/nodes` (JSON: layer, config, inputs and weights of each node, by number;
value 0 is the image and value i what node i - 1 gives), `NAME/learning_rate`, `NAME/x`, `NAME/y` (labels of the images
or pixels) and `NAME/weights/0`, 1 ... in Keras's shapes. The last layer gives probabilities. The results are named as
in `train`.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

BETA_2 = 0.999  # of Adam; Keras adds epsilon before the bias correction with it, PyTorch after


class Twin:
    """A graph of layers on NCHW tensors, with weights in Keras's shapes."""

    def __init__(self, nodes, weights):
        self.nodes = nodes
        self.weights = [torch.from_numpy(w.astype(np.float64)) for w in weights]
        self.statistics = {i for node in nodes if node["layer"] == "BatchNormalization" for i in node["weights"][2:]}
        for i in self.trainable():
            self.weights[i].requires_grad_()

    def trainable(self):
        return [i for i in range(len(self.weights)) if i not in self.statistics]

    def __call__(self, x, training=False):
        values = [x]
        for node in self.nodes:
            inputs, weights = [values[i] for i in node["inputs"]], [self.weights[i] for i in node["weights"]]
            values.append(LAYERS[node["layer"]](node["config"], weights, training, *inputs))
        return values[-1]


def padded(x, config, kernel, value=0.0):
    """With a border as the layer wants it; 'same' as TensorFlow defines it."""
    pads = config["padding"]
    if pads == "valid":
        return x
    if pads == "same":
        total = [max(0, (-(-size // s) - 1) * s + k - size)
                 for size, s, k in zip(x.shape[2:], config["strides"], kernel, strict=True)]
        pads = [[t // 2, t - t // 2] for t in total]
    (top, bottom), (left, right) = pads
    return F.pad(x, (left, right, top, bottom), value=value)


def activated(y, config):
    functions = {"linear": lambda: y, "relu": lambda: F.relu(y), "tanh": lambda: torch.tanh(y),
                 "softmax": lambda: F.softmax(y, 1)}
    return functions[config["activation"]]()


def conv(config, weights, _, x):
    kernel, *bias = weights
    x = padded(x, config, kernel.shape[:2])
    return activated(F.conv2d(x, kernel.permute(3, 2, 0, 1), *bias, stride=config["strides"]), config)


def depthwise(config, weights, _, x):
    kernel, *bias = weights
    x = padded(x, config, kernel.shape[:2])
    y = F.conv2d(x, kernel.permute(2, 3, 0, 1), *bias, stride=config["strides"], groups=x.shape[1])
    return activated(y, config)


def transposed(config, weights, _, x):
    kernel, bias = weights
    return activated(F.conv_transpose2d(x, kernel.permute(3, 2, 0, 1), bias, config["strides"]), config)


def batch_norm(config, weights, training, x):
    """The moving variance is that of Keras: biased."""
    gamma, beta, *moving = weights
    mean, variance = moving
    if training:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        with torch.no_grad():
            for old, new in zip(moving, (mean, variance), strict=True):
                old.lerp_(new, 1 - config["momentum"])
    mean, scale, beta = (v[:, None, None] for v in (mean, gamma / torch.sqrt(variance + config["epsilon"]), beta))
    return (x - mean) * scale + beta


def max_pool(config, weights, _, x):
    x = padded(x, config, config["pool_size"], -torch.inf)
    return F.max_pool2d(x, config["pool_size"], config["strides"])


LAYERS = {
    "Conv2D": conv,
    "DepthwiseConv2D": depthwise,
    "Conv2DTranspose": transposed,
    "Dense": lambda config, weights, _, x: activated(x @ weights[0] + weights[1], config),
    "BatchNormalization": batch_norm,
    "ReLU": lambda config, weights, _, x: torch.clamp(x, 0, config["max_value"]),
    "MaxPooling2D": max_pool,
    "AveragePooling2D": lambda config, weights, _, x: F.avg_pool2d(x, config["pool_size"], config["strides"]),
    "GlobalAveragePooling2D": lambda config, weights, _, x: x.mean((2, 3)),
    "Flatten": lambda config, weights, _, x: x.permute(0, 2, 3, 1).flatten(1),
    "Rescaling": lambda config, weights, _, x: config["scale"] * x + config["offset"],
    "Add": lambda config, weights, _, *inputs: sum(inputs),
    "Concatenate": lambda config, weights, _, *inputs: torch.cat(inputs, 1),
    "Dropout": lambda config, weights, _, x: x,
}


def train(nodes, weights, x, y, steps, learning_rate, epsilon):
    """Outputs in inference before and after some steps of Adam on one batch, their losses, the first's gradients."""
    twin = Twin(nodes, weights)
    x, y = torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2), torch.from_numpy(y.astype(np.int64))
    parameters = [twin.weights[i] for i in twin.trainable()]
    optimizer = torch.optim.Adam(parameters, learning_rate)
    results, losses = {"outputs": outputs(twin, x)}, []
    for step in range(steps):
        optimizer.param_groups[0]["eps"] = epsilon / (1 - BETA_2 ** (step + 1)) ** 0.5
        optimizer.zero_grad()
        loss = F.nll_loss(twin(x, training=True).log(), y)
        loss.backward()
        if step == 0:
            results.update({f"gradients/{i}": twin.weights[i].grad.numpy().copy() for i in twin.trainable()})
        optimizer.step()
        losses.append(loss.item())
    return {**results, "losses": np.array(losses), "outputs after": outputs(twin, x)}


def outputs(twin, x):
    with torch.no_grad():
        return torch.movedim(twin(x), 1, -1).numpy()


def main(cases, results):
    torch.set_num_threads(1)
    data = np.load(cases)
    found = {}
    for name in data["names"]:
        count = sum(key.startswith(f"{name}/weights/") for key in data)
        weights = [data[f"{name}/weights/{i}"] for i in range(count)]
        nodes = json.loads(str(data[f"{name}/nodes"]))
        trained = train(nodes, weights, data[f"{name}/x"], data[f"{name}/y"], data["steps"].item(),
                        data[f"{name}/learning_rate"].item(), data["epsilon"].item())
        found.update({f"{name}/{key}": value for key, value in trained.items()})
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
