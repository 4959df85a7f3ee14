"""What every public name says of itself: a docstring, and each of its arguments by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import fastcnn
from fastcnn import (
    callbacks,
    data,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    ops,
    optimizers,
    reference,
    regularizers,
    schedules,
    utils,
    zoo,
)

MODULES = (fastcnn, callbacks, data, datasets, initializers, layers, losses, metrics, ops, optimizers, reference,
           regularizers, schedules, utils, zoo)
EVERYWHERE = {"name", "where"}  # `where` is who asks, for messages


def public_names(module: ModuleType) -> list[str]:
    """`__all__`, or what a module without it defines."""
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]


def public_objects() -> Iterator[Any]:
    for module in MODULES:
        for name in public_names(module):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield pytest.param(value, module, id=f"{module.__name__}.{name}")


EVERY_OBJECT = list(public_objects())
each_object = pytest.mark.parametrize(("thing", "module"), EVERY_OBJECT)
not_the_reference = pytest.mark.parametrize(  # where formulas say what the arguments are
    ("thing", "module"), [case for case in EVERY_OBJECT if case.values[1] is not reference
                          and case.values[0] is not fastcnn.CheckpointError])


@each_object
def test_everything_public_has_a_docstring(thing, module):
    assert thing.__doc__
    if inspect.isclass(thing):
        silent = [name for name in vars(thing) if not name.startswith("_") and is_documentable(vars(thing)[name])
                  and not inspect.getdoc(getattr(thing, name))]
        assert silent == []


def is_documentable(member: Any) -> bool:
    return inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod))


@not_the_reference
def test_arguments_are_explained(thing, module):
    """In the docstring of the class or function, of its bases, or of another public name that it refers to."""
    arguments = set(inspect.signature(thing).parameters) - EVERYWHERE
    text = explained(thing, module, depth=2)
    assert [name for name in arguments if not re.search(rf"\b{name}\b", text)] == []


def explained(thing: Any, module: ModuleType, depth: int) -> str:
    """The docstring, those of base classes, and those of the names in backticks."""
    text = "".join(cls.__doc__ or "" for cls in getattr(thing, "__mro__", [thing]) if cls is not object)
    named = [getattr(module, name, None) for name in re.findall(r"`(\w+)`", text)]
    others = [other for other in named if callable(other) and other is not thing]
    return text + "".join(explained(other, module, depth - 1) for other in others if depth)
