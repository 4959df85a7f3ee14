"""PyTorch: eager, eager with channels_last memory, or compiled; Adam in its fused form."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.versus import nets
from bench.versus.runners import EPSILON, LEARNING_RATE


class Torch:
    version = f"torch {torch.__version__}"

    def __init__(self, net, weights, batches, threads, channels_last=False, compiled=False):
        torch.set_num_threads(threads)
        self.batch_size = net.batch
        self.memory = torch.channels_last if channels_last else torch.contiguous_format
        self.module = build(net, weights).to(memory_format=self.memory)
        self.optimizer = torch.optim.Adam(self.module.parameters(), LEARNING_RATE, eps=EPSILON, fused=True)
        if compiled:
            torch.compile(torch.nn.functional.relu)(torch.ones(64))  # fails now if there is no compiler
        self.model = torch.compile(self.module) if compiled else self.module
        self.criterion = nn.CrossEntropyLoss()
        self.batches = [(self.images(x), torch.from_numpy(y.astype(np.int64))) for x, y in batches]
        self.ones = [self.images(x[:1]) for x, _ in batches]

    def images(self, x) -> torch.Tensor:
        """NHWC as NCHW in the memory order chosen."""
        x = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        return x.contiguous(memory_format=self.memory)

    def training(self, mode: bool) -> None:
        if self.module.training != mode:
            self.module.train(mode)

    def loss(self, i):
        x, y = self.batches[i]
        self.training(False)
        with torch.no_grad():
            return self.criterion(self.module(x), y).item()

    def train(self, i):
        return self._train(*self.batches[i]).item()

    def _train(self, x, y):
        self.training(True)
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def predict(self, i):
        self._predict(self.batches[i][0])

    def predict_one(self, i):
        self._predict(self.ones[i])

    def _predict(self, x):
        self.training(False)
        with torch.inference_mode():
            self.model(x).numpy()

    def epoch(self, images, labels):
        images, labels = self.scaled(images, labels)
        for samples in torch.randperm(len(images)).split(self.batch_size):
            self._train(images[samples], labels[samples])

    def epoch_loader(self, images, labels):
        data = TensorDataset(*self.scaled(images, labels))
        for x, y in DataLoader(data, self.batch_size, shuffle=True):
            self._train(x, y)

    def scaled(self, images, labels):
        return self.images(images).float().div_(255), torch.from_numpy(labels.astype(np.int64))


class Graph(nn.Module):
    """The modules of a network that is no chain."""

    def __init__(self, net, modules):
        super().__init__()
        self.net, self.nodes = net, nn.ModuleList(modules)

    def forward(self, x):
        return self.net.evaluate(x, lambda k, _, *inputs: self.nodes[k](*inputs))


class Add(nn.Module):
    def forward(self, x, y):
        return x + y


class Concat(nn.Module):
    def forward(self, *inputs):
        return torch.cat(inputs, 1)


def build(net, weights) -> nn.Module:
    """The network with the given weights, put into torch's order of axes."""
    modules = []
    for node, arrays in zip(net.nodes, weights, strict=True):
        shape = net.shapes[node.inputs[0]]
        flattened = None
        if isinstance(node.layer, nets.Dense) and isinstance(net.nodes[node.inputs[0] - 1].layer, nets.Flatten):
            flattened = net.shapes[net.nodes[node.inputs[0] - 1].inputs[0]]
        modules.append(load(make_module(node.layer, shape), arrays, flattened))
    return nn.Sequential(*modules) if net.is_chain else Graph(net, modules)


def make_module(layer, shape) -> nn.Module:
    match layer:
        case nets.Conv(filters, kernel, strides, padding, bias):
            return nn.Conv2d(shape[2], filters, kernel, strides, padding, bias=bias)
        case nets.DepthwiseConv(kernel, strides, padding):
            return nn.Conv2d(shape[2], shape[2], kernel, strides, padding, groups=shape[2], bias=False)
        case nets.Dense(units):
            return nn.Linear(shape[0], units)
        case nets.BatchNorm():
            return nn.BatchNorm2d(shape[2], nets.BATCH_NORM_EPSILON, 1 - nets.MOMENTUM)
        case nets.Relu():
            return nn.ReLU(inplace=True)
        case nets.MaxPool(kernel, strides):
            return nn.MaxPool2d(kernel, strides)
        case nets.GlobalAvgPool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case nets.Flatten():
            return nn.Flatten()
        case nets.UpSample(size):
            return nn.Upsample(scale_factor=size)
        case nets.Add():
            return Add()
        case nets.Concat():
            return Concat()


def load(module, arrays, flattened):
    """The module with these weights; `flattened` is the image that a dense layer's input was, (h, w, c)."""
    match module:
        case nn.Conv2d():  # (kh, kw, in, out); depthwise (kh, kw, channels, 1)
            axes = (3, 2, 0, 1) if module.groups == 1 else (2, 3, 0, 1)
            assign(arrays, module.weight, lambda w: w.transpose(axes))
            assign(arrays[1:], module.bias)
        case nn.Linear():
            if flattened:  # by torch with the channels first
                order = np.arange(module.in_features).reshape(flattened).transpose(2, 0, 1).ravel()
                arrays = (arrays[0][order], arrays[1])
            assign(arrays, module.weight, np.transpose)
            assign(arrays[1:], module.bias)
        case nn.BatchNorm2d():
            names = module.weight, module.bias, module.running_mean, module.running_var
            for array, tensor in zip(arrays, names, strict=True):
                assign((array,), tensor)
    return module


def assign(arrays, tensor, change=lambda array: array) -> None:
    """Overwrite a tensor with the first of `arrays`, if there is one."""
    if arrays:
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(change(arrays[0]))))
