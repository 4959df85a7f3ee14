"""PyTorch: eager, eager with channels_last memory, or compiled; Adam in its fused form."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bench.versus.nets import Conv, Dense, Flatten, MaxPool
from bench.versus.runners import EPSILON, LEARNING_RATE


class Torch:
    version = f"torch {torch.__version__}"

    def __init__(self, net, weights, batches, threads, channels_last=False, compiled=False):
        torch.set_num_threads(threads)
        memory = torch.channels_last if channels_last else torch.contiguous_format
        self.module = build(net, weights).to(memory_format=memory)
        self.optimizer = torch.optim.Adam(self.module.parameters(), LEARNING_RATE, eps=EPSILON, fused=True)
        self.model = torch.compile(self.module) if compiled else self.module
        self.criterion = nn.CrossEntropyLoss()
        self.batches = [(images(x, memory), torch.from_numpy(y.astype(np.int64))) for x, y in batches]
        self.ones = [images(x[:1], memory) for x, _ in batches]

    def loss(self, i):
        x, y = self.batches[i]
        with torch.no_grad():
            return self.criterion(self.module(x), y).item()

    def train(self, i):
        x, y = self.batches[i]
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        loss.item()

    def predict(self, i):
        with torch.inference_mode():
            self.model(self.batches[i][0]).numpy()

    def predict_one(self, i):
        with torch.inference_mode():
            self.model(self.ones[i]).numpy()


def images(x, memory) -> torch.Tensor:
    """NHWC as NCHW in the given memory order."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).contiguous(memory_format=memory)


def build(net, weights) -> nn.Sequential:
    """The network with the given weights, put into torch's order of axes."""
    modules, weights, image = [], list(weights), None
    for layer, shape, _ in net.steps():
        match layer:
            case Conv():
                kernel, bias = weights.pop(0), weights.pop(0)
                conv = nn.Conv2d(shape[2], layer.filters, layer.kernel, layer.strides, layer.padding)
                modules += [load(conv, kernel.transpose(3, 2, 0, 1), bias), nn.ReLU()]
            case MaxPool():
                modules.append(nn.MaxPool2d(layer.size, layer.strides))
            case Flatten():
                modules.append(nn.Flatten())
                image = shape
            case Dense():
                kernel, bias = weights.pop(0), weights.pop(0)
                if image:  # just flattened, in torch with the channels first
                    kernel = kernel.reshape(*image, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
                modules += [load(nn.Linear(*kernel.shape), kernel.T, bias), nn.ReLU()]
                image = None
    return nn.Sequential(*modules[:-1])


def load(module, weight, bias):
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        module.bias.copy_(torch.from_numpy(bias))
    return module
