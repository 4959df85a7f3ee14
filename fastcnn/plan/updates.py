"""What the optimiser does in a training step: one pass over all weights at its end, but for large ones of their own.

A large weight whose gradient is summed part by part, each over all images, is updated part by part, too: the part is
still in the cache, and no memory is needed for the rest of its gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.kernels import _optim
from fastcnn.layers.base import Variable
from fastcnn.optimizers import Optimizer
from fastcnn.plan.operations import Operation, Python
from fastcnn.plan.stages import stages_of
from fastcnn.store import Store
from fastcnn.utils import compiled_kernel

# Smaller gradients stay in the cache until the end of the step.
LARGE_GRADIENT = 1 << 20


class Updates:
    """The optimiser's rule for the weights in `store`, in a step that consists of `ops`.

    early : the weights whose gradients nobody will find in the store, as they are updated part by part.
    """

    def __init__(self, store: Store, optimizer: Optimizer, ops: Sequence[Operation]):
        self.store, self.optimizer = store, optimizer
        self.kernel = compiled_kernel(optimizer, "step", "update")
        self.early: set[Variable] = set()
        self.clips_norms = optimizer.clipnorm is not None or optimizer.global_clipnorm is not None
        self.uses = Counter(variable for op in ops for variable in op.variables)
        # NumPy layers may fail in the midst of a step, which is then to leave all weights as they were.
        self.may_fail = any(isinstance(op, Python) for op in ops)
        self.scalars = np.zeros(_optim.SCALARS)
        self._scalars = memoryview(self.scalars)  # writes a number in a fraction of NumPy's time
        self.scale = np.ones(max(1, len(store.variables)), np.float32)
        if self.kernel is not None:
            self.scalar_names = _optim.rules()[self.kernel][1]
            self.slots = [store.slots[name] for name in optimizer.slots]

    def may_be_early(self, variable: Variable) -> bool:
        """Whether a weight may be updated as soon as its gradient is known, and is not read any more."""
        alone = self.kernel is not None and not self.clips_norms and not self.may_fail
        plain = variable.trainable and variable.regularizer is None and self.uses[variable] == 1
        return alone and plain and variable.value.nbytes >= LARGE_GRADIENT

    def rule_of(self, variable: Variable) -> _optim.Rule:
        """What updates a weight from parts of its gradient, from now on its only update."""
        self.early.add(variable)
        flat = [self.store.view(array, variable).reshape(-1) for array in (self.store.values, *self.slots)]
        return _optim.Rule(self.kernel, flat[0], flat[1:], self.scalars)

    @property
    def early_bytes(self) -> int:
        """Of gradients that are not kept."""
        return sum(variable.value.nbytes for variable in self.early)

    def add(self, segments: list[Any]) -> None:
        """The end of a step: regularisers, clipping and the rule, for all weights that are not early."""
        store = self.store
        penalties = [(v, store.view(store.gradients, v)) for v in store.variables
                     if v.trainable and v.regularizer is not None]
        if penalties:
            def add_penalties():
                for variable, gradient in penalties:
                    gradient += variable.regularizer.gradient(variable.value)

            segments += [add_penalties, []]
        trainable = store.segments(without=self.early)
        if self.clips_norms:
            norm = _optim.SquaredNorm(store.gradients, trainable)
            segments[-1].extend(stages_of([norm]))
            segments += [lambda: self._set_scale(norm.per_variable(len(store.variables))), []]
        if self.kernel is None:
            segments += [self._update_in_numpy, []]
        elif trainable:
            update = _optim.Update(self.kernel, store.values, store.gradients, self.slots, self.scalars, trainable,
                                   self.scale)
            segments[-1].extend(stages_of([update]))

    def _set_scale(self, squares: np.ndarray) -> None:
        """Factors that bring each variable's gradient, or all of them together, to the norm asked for."""
        optimizer = self.optimizer
        limit = optimizer.clipnorm or optimizer.global_clipnorm
        norms = np.sqrt(squares if optimizer.clipnorm else squares.sum())
        self.scale[...] = limit / np.maximum(norms, limit)

    def _update_in_numpy(self) -> None:
        store, optimizer = self.store, self.optimizer
        for variable in store.variables:
            if variable.trainable:
                w, g = (store.view(flat, variable) for flat in (store.values, store.gradients))
                g = g * self.scale[store.variables.index(variable)]
                if optimizer.clipvalue is not None:
                    g = np.clip(g, -optimizer.clipvalue, optimizer.clipvalue)
                optimizer.update(w, g, {name: store.view(flat, variable) for name, flat in store.slots.items()})

    def refresh(self) -> None:
        """Tell the rule the numbers of the step that begins."""
        if self.kernel is None:
            return
        values = self.optimizer.scalars()
        values.update(rate=values["learning_rate"], clip=self.optimizer.clipvalue or np.inf)
        for i, name in enumerate(self.scalar_names):
            self._scalars[i] = values[name]
