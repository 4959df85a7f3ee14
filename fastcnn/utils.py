"""Small tools: one-hot targets for users; argument checks and configurations for the modules above."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastcnn.errors import Explained, unknown_name

if TYPE_CHECKING:
    from fastcnn.pydataset import PyDataset
    from fastcnn.pydataset import PyDataset as Sequence
    from fastcnn.random import seed as set_random_seed

__all__ = ["PyDataset", "Sequence", "set_random_seed", "to_categorical"]  # the others serve the modules above

# Keras has these here. They are made of what is here, and so imported when asked for.
_ELSEWHERE = {"PyDataset": ("pydataset", "PyDataset"), "Sequence": ("pydataset", "PyDataset"),
              "set_random_seed": ("random", "seed")}

T = TypeVar("T")


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _ELSEWHERE[name]
    return getattr(import_module(f"fastcnn.{module}"), attribute)


def to_categorical(y: Any, num_classes: int | None = None) -> np.ndarray:
    """Turn class labels into one-hot rows.

    Parameters
    ----------
    y : whole numbers 0..num_classes-1, shape (...) or (..., 1), any real dtype.
    num_classes : width of the rows; the largest label plus one by default.

    Returns
    -------
    float32 array of shape (..., num_classes), 1 at the label and 0 elsewhere.

    Raises
    ------
    TypeError, ValueError
        If a label is not a whole number or lies outside 0..num_classes-1.
    """
    labels = whole_numbers(y, "to_categorical")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        if labels.size == 0:
            raise ValueError("to_categorical: no labels to count classes from; pass num_classes")
        num_classes = int(labels.max()) + 1
    check_labels(labels, num_classes, "to_categorical", "Pass a larger num_classes or correct the labels.")
    one_hot = np.zeros((*labels.shape, num_classes), np.float32)
    np.put_along_axis(one_hot, labels[..., None], 1.0, axis=-1)
    return one_hot


def whole_numbers(y: Any, where: str) -> np.ndarray:
    """Return `y` as an int64 array; a fraction, a NaN or a non-number is refused by value and index."""
    array = np.asarray(y)
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    if array.dtype.kind != "f":
        raise TypeError(f"{where}: expected integer class labels, got an array of dtype {array.dtype}")
    wrong = array != np.trunc(array)
    wrong |= ~np.isfinite(array)
    if wrong.any():
        index, value = first_where(wrong, array)
        raise ValueError(f"{where}: expected integer class labels, got {value} at index {index}")
    return array.astype(np.int64)


def class_number(value: Any, name: str, where: str) -> int:
    """Return a label that stands for a class, or for none, as an int; TypeError for anything else."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{where}: {name} must be a whole number or None, got {value!r}")
    return operator.index(value)


def check_labels(labels: np.ndarray, num_classes: int, where: str, remedy: str) -> None:
    """Refuse labels outside 0..num_classes-1, naming the first one."""
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        index, value = first_where(wrong, labels)
        raise ValueError(
            f"{where}: label {value} at index {index} is outside 0..{num_classes - 1} "
            f"({num_classes} classes). {remedy}"
        )


def first_where(mask: np.ndarray, array: np.ndarray) -> tuple[Any, Any]:
    """Return the index and the value of the first element of `array` at which `mask` is true."""
    index = tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))
    return (index[0] if len(index) == 1 else index), array[index].item()


def flag(value: Any, name: str, where: str) -> bool:
    """Return `value` as a bool; TypeError for anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{where}: {name} must be True or False, got {value!r}")
    return bool(value)


def whole_number(value: Any, name: str, where: str, least: int = 1) -> int:
    """Return `value` as an int of `least` or more; else raise TypeError or ValueError."""
    message = f"{where}: {name} must be a whole number of {least} or more, got {value!r}"
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(message)
    if value < least:
        raise ValueError(message)
    return operator.index(value)


def optional_number(value: Any, name: str, where: str) -> int | None:
    """`whole_number`, or None."""
    return None if value is None else whole_number(value, name, where)


def real_number(
    value: Any, name: str, where: str, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """Return `value` as a finite float of [low, high], or of (low, high] with `open_low`; else raise."""
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{where}: {name} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{where}: {name} must be a number, got {value!r}") from None
    if math.isfinite(number) and low <= number <= high and not (open_low and number == low):
        return number
    bounds = []
    if math.isfinite(low):
        bounds.append(f"above {low:g}" if open_low else f"at least {low:g}")
    if math.isfinite(high):
        bounds.append(f"at most {high:g}")
    raise ValueError(f"{where}: {name} must be {' and '.join(bounds) or 'finite'}, got {value!r}")


class Configurable(Explained):
    """An object that can be rebuilt from its constructor's arguments.

    Each argument of the constructor must be kept in an attribute of the same name.
    """

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain, JSON-ready values."""
        names = [p.name for p in inspect.signature(type(self)).parameters.values() if p.kind != p.VAR_KEYWORD]
        return {name: _plain(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        """Build the object that `get_config` described."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def serialize(value: Configurable | None) -> dict[str, Any] | None:
    """Describe an object by class name and configuration; every `get` function accepts the result."""
    return None if value is None else {"class_name": type(value).__name__, "config": value.get_config()}


def compiled_kernel(rule: Any, *methods: str) -> str | None:
    """`rule.kernel`, or None if the class of `rule` changes one of `methods`.

    The class that declares `kernel` vouches that it computes what the methods say. A subclass of a user that
    defines one of them anew inherits the name, but not the promise.
    """
    cls = type(rule)
    owner = next(ancestor for ancestor in cls.__mro__ if "kernel" in vars(ancestor))
    changed = any(getattr(cls, name, None) is not getattr(owner, name, None) for name in methods)
    return None if changed else rule.kernel


def _plain(value: Any) -> Any:
    if isinstance(value, Configurable):
        return serialize(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def look_up(kind: str, name: str, table: Mapping[str, T], where: str | None = None) -> T:
    """Find `name` in `table`, taking ``'GlorotUniform'`` and ``'glorot_uniform'`` for the same word."""
    plain = {key.replace("_", ""): value for key, value in table.items()}
    try:
        return plain[name.lower().replace("_", "")]
    except KeyError:
        raise unknown_name(kind, name, table, where) from None


def resolve(
    kind: str, identifier: Any, table: Mapping[str, type[T]], base: type[T], where: str | None = None
) -> T:
    """Turn an instance, a class, a name or a `serialize` dictionary into an instance of `base`.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is something else.
    """
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, base):
        return identifier()
    if isinstance(identifier, str):
        return look_up(kind, identifier, table, where)()
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        cls: Any = look_up(kind, identifier["class_name"], table, where)
        return cls.from_config(identifier.get("config", {}))
    prefix = f"{where}: " if where else ""
    raise TypeError(f"{prefix}expected the name of a {kind} or a {base.__name__} object, got {identifier!r}")
