"""Arguments that are True or False: anything else is refused, by the name of the class and of the argument."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import callbacks, data, layers, losses, metrics, ops, optimizers, plot, schedules, zoo
from tests.small_nets import X, Y, compiled

REQUIRED = {"filters": 4, "kernel_size": 3, "units": 4, "filepath": "m.safetensors", "filename": "log.csv",
            "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "x": np.zeros((4, 8, 8, 1)),
            "pool_size": 2, "dy": np.zeros((4, 4, 4, 1)), "input_shape": (4, 8, 8, 1), "model": None,
            "y_true": [[0.0, 1]], "y_pred": [[0.5, 0.5]]}
INTERNAL = {"add_history"}  # of CallbackList, which no user makes


def functions_with_flags():
    """(function, argument) for every argument of the public modules that is annotated as bool."""
    for module in (callbacks, data, layers, losses, metrics, ops, optimizers, schedules, zoo):
        for name, member in vars(module).items():
            if not callable(member) or not str(getattr(member, "__module__", "")).startswith(module.__name__):
                continue
            for argument, parameter in inspect.signature(member).parameters.items():
                if parameter.annotation in (bool, "bool") and argument not in INTERNAL:
                    yield pytest.param(member, argument, id=f"{module.__name__.split('.')[-1]}.{name}-{argument}")


def required(member):
    parameters = inspect.signature(member).parameters.values()
    return {p.name: REQUIRED[p.name] for p in parameters if p.default is p.empty and p.name in REQUIRED}


@pytest.mark.parametrize(("member", "argument"), list(functions_with_flags()))
def test_other_values_are_refused(member, argument):
    for wrong in ("yes", 1, None):
        with pytest.raises(TypeError, match=rf"\w+: {argument} must be True or False, got {wrong!r}"):
            member(**required(member), **{argument: wrong})


def test_all_kinds_of_functions_are_found():
    found = {f"{p.values[0].__name__}.{p.values[1]}" for p in functions_with_flags()}
    assert {"BinaryCrossentropy.from_logits", "SGD.nesterov", "EarlyStopping.restore_best_weights", "Dataset.shuffle",
            "MeanIoU.sparse_y_true", "Conv2D.use_bias", "ExponentialDecay.staircase", "avg_pool2d.count_include_pad",
            "unet.batch_norm"} <= found


@pytest.mark.parametrize(("call", "argument"), [
    (lambda net: net.evaluate(X, Y, return_dict="yes", verbose=0), "return_dict"),
    (lambda net: plot.graph(net, show_shapes="yes"), "show_shapes"),
    (lambda net: net.fit(X, Y, shuffle="batch", verbose=0), "shuffle"),
    (lambda net: net.save("net.safetensors", include_optimizer="yes"), "include_optimizer"),
    (lambda net: net.load_weights("net.safetensors", by_name="yes"), "by_name"),
    (lambda net: net.load_weights("net.safetensors", skip_mismatch=1), "skip_mismatch"),
    (lambda net: net(X, training="yes"), "training"),
    (lambda net: net.layers[0](X, training="yes"), "training"),
    (lambda net: net.layers[0].add_weight((2,), trainable="yes"), "trainable"),
])
def test_methods_refuse_them_too(call, argument):
    net = compiled(fc.Sequential([layers.Flatten(input_shape=X.shape[1:]), layers.Dense(5, "softmax")], name="net"))
    with pytest.raises(TypeError, match=f"{argument} must be True or False, got "):
        call(net)


def test_bools_of_numpy_and_keras_none_are_taken():
    assert losses.BinaryCrossentropy(from_logits=np.bool_(True)).from_logits is True
    net = fc.Sequential([layers.Flatten(input_shape=X.shape[1:]), layers.Dropout(0.5)])
    np.testing.assert_array_equal(net(X[:2], training=None), X[:2].reshape(2, -1))
