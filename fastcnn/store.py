"""The weights of a model as one flat array, with their gradients and the optimiser's moments beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter, is_

import numpy as np

from fastcnn.arrays import ALIGN, aligned_zeros
from fastcnn.layers.base import Layer, Variable

VALUE = attrgetter("value")


class Store:
    """Variables placed one after another in `values`; `gradients` and each slot have the same layout.

    A variable that another model took into its own store is taken back, with its present value, by `adopt`.
    """

    def __init__(self, variables: Sequence[Variable]):
        self.variables = list(variables)
        self.offsets: dict[Variable, int] = {}
        size = 0
        for variable in self.variables:
            self.offsets[variable] = size
            size += -(-variable.value.size // ALIGN) * ALIGN  # every variable starts on a cache line
        self.values = aligned_zeros(size)
        self.gradients = aligned_zeros(size)
        self.slots: dict[str, np.ndarray] = {}
        self.views = {v: self.view(self.values, v) for v in self.variables}
        self.adopt()

    def view(self, flat: np.ndarray, variable: Variable) -> np.ndarray:
        """A variable's part of a flat array, in its shape."""
        start = self.offsets[variable]
        return flat[start: start + variable.value.size].reshape(variable.shape)

    def gradient_views(self) -> dict[Variable, np.ndarray]:
        return {v: self.view(self.gradients, v) for v in self.variables}

    def is_current(self, layers: Iterable[Layer]) -> bool:
        """Whether the variables of these layers are the ones placed here, and have their values here."""
        variables = [variable for layer in layers for variable in layer.variables]
        return variables == self.variables and all(map(is_, map(VALUE, variables), self.views.values()))

    def adopt(self) -> None:
        """Make every variable's value a view of `values`, keeping what it holds now."""
        for variable, view in self.views.items():
            if variable.value is not view:
                view[...] = variable.value
                variable.value = view

    def segments(self, without: Collection[Variable] = ()) -> list[tuple[int, int, int, bool]]:
        """(offset, length, number, decays) of the trainable variables, without some."""
        return [(self.offsets[v], v.value.size, i, True) for i, v in enumerate(self.variables)
                if v.trainable and v not in without]
