"""How a model's inputs and outputs are handed over: one array alone, a list of them, or a dictionary by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.batches import is_list_of_arrays
from fastcnn.errors import unknown_name
from fastcnn.graph import SymbolicTensor


class Ports:
    """The inputs, or the outputs, of a model.

    Parameters
    ----------
    given : a symbolic tensor, a list or a dictionary of them, as the model was made with.
    role : 'inputs' or 'outputs', for messages.
    where : the model's name.

    Attributes
    ----------
    tensors : the symbolic tensors in order.
    names : of each, all different: the dictionary's keys, or the tensors' names.

    Raises
    ------
    TypeError, ValueError
        For anything but symbolic tensors, and for none of them.
    """

    def __init__(self, given: Any, role: str, where: str):
        self.role = role
        self.kind = "dict" if isinstance(given, Mapping) else "list" if isinstance(given, (list, tuple)) else "one"
        self.tensors = list(given.values()) if self.kind == "dict" else list(given) if self.kind == "list" else [given]
        for tensor in self.tensors:
            if not isinstance(tensor, SymbolicTensor):
                raise TypeError(f"{where}: {role} must be symbolic tensors (from Input and layer calls), got "
                                f"{type(tensor).__name__}")
        if not self.tensors:
            raise ValueError(f"{where}: {role} must hold at least one symbolic tensor, got {given!r}")
        self.names = list(given) if self.kind == "dict" else distinct([t.name or role[:-1] for t in self.tensors])

    def __len__(self) -> int:
        return len(self.tensors)

    def pack(self, values: Sequence[Any]) -> Any:
        """Values, one for each, in the form that the model was made with."""
        if self.kind == "dict":
            return dict(zip(self.names, values, strict=True))
        return list(values) if self.kind == "list" else values[0]

    def places(self, where: str) -> list[str]:
        """What errors call each: the call it belongs to and, of several, its name."""
        return [where] if len(self.tensors) == 1 else [f"{where}: {self.role[:-1]} {name!r}" for name in self.names]

    def unpack(self, value: Any, what: str) -> list[Any]:
        """One value for each, from a value alone, a list, or a dictionary by name.

        Raises
        ------
        ValueError
            For too many or too few, and for names that are unknown or missing; `what` names the argument.
        """
        if isinstance(value, np.ndarray) and len(self.tensors) == 1:
            return [value]
        if isinstance(value, Mapping):
            return self.by_name(value, what)
        several = isinstance(value, (list, tuple)) and (len(self) > 1 or is_list_of_arrays(value))
        values = list(value) if several else [value]
        if len(values) != len(self):
            hint = "; to make one array of samples, use numpy.stack" if len(self) == 1 else \
                f", one for each of {', '.join(self.names)}"
            raise ValueError(f"{what}: expected {len(self)} array{'s' * (len(self) > 1)}, got {len(values)}{hint}")
        return values

    def by_name(self, value: Mapping[str, Any], what: str, optional: bool = False, hint: str = "") -> list[Any]:
        """The entries of a dictionary in order; None for those it lacks, if they are `optional`."""
        for name in value:
            if name not in self.names:
                raise unknown_name(self.role[:-1], name, self.names, what)
        missing = [name for name in self.names if name not in value]
        if missing and not optional:
            raise ValueError(f"{what}: {', '.join(map(repr, missing))} missing; the model's {self.role} are "
                             f"{', '.join(map(repr, self.names))}{hint}")
        return [value.get(name) for name in self.names]


def distinct(names: Sequence[str]) -> list[str]:
    """The names, later ones that appeared before numbered: d, d_1, d_2."""
    result: list[str] = []
    for name in names:
        number, candidate = 0, name
        while candidate in result:
            number += 1
            candidate = f"{name}_{number}"
        result.append(candidate)
    return result
