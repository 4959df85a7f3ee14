"""The activations as functions: of arrays, computed at once, or of symbolic tensors, as a layer `Activation`.

Layers take them as their `activation`, as they take their names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn import ops
from fastcnn.graph import SymbolicTensor
from fastcnn.layers.activations import Activation, activation_name


def _function(name: str) -> Callable[[Any], Any]:
    compute = getattr(ops, name)

    def activation(x: Any) -> Any:
        return Activation(name)(x) if isinstance(x, SymbolicTensor) else compute(x)

    activation.__name__ = activation.__qualname__ = name
    activation.__doc__ = f"{compute.__doc__} Of an array or a symbolic tensor `x`."
    return activation


elu = _function("elu")
gelu = _function("gelu")
hard_sigmoid = _function("hard_sigmoid")
hard_swish = _function("hard_swish")
leaky_relu = _function("leaky_relu")
linear = _function("linear")
log_softmax = _function("log_softmax")
mish = _function("mish")
relu = _function("relu")
relu6 = _function("relu6")
selu = _function("selu")
sigmoid = _function("sigmoid")
silu = _function("silu")
softmax = _function("softmax")
softplus = _function("softplus")
softsign = _function("softsign")
swish = _function("swish")
tanh = _function("tanh")


def get(identifier: Any) -> Callable[[Any], Any]:
    """Return the function meant by a name, or by itself; `linear` for None.

    Parameters
    ----------
    identifier : a name, one of these functions, or None.

    Raises
    ------
    ValueError, TypeError
        If the name is unknown, or `identifier` something else.
    """
    return globals()[activation_name(identifier, "activations.get")]
