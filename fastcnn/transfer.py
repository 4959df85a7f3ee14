"""Weights of a file into a model that shares some layers with the one saved: the start of transfer learning."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fastcnn.errors import CheckpointError
from fastcnn.layers.base import Variable
from fastcnn.saving import match_weights


@dataclass
class LoadReport:
    """What `Model.load_weights` took from a file; printed, it is a table.

    Attributes
    ----------
    loaded : names 'layer/weight' of the weights that were overwritten.
    skipped : name -> why this weight of the model stayed as it was.
    unused : names of the file's weights that no layer took.
    """

    loaded: list[str]
    skipped: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        count = f"{len(self.loaded)} weights loaded, {len(self.skipped)} left as they were, {len(self.unused)} unused"
        rows = [(name, "loaded") for name in self.loaded]
        rows += [(name, f"left: {why}") for name, why in self.skipped.items()]
        rows += [(name, "unused: the model has no such layer or weight") for name in self.unused]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join([count, *(f"  {name:<{width}}  {what}" for name, what in rows)])


def load_fitting(variables: Sequence[Variable], saved: Mapping[str, np.ndarray], by_name: bool, skip_mismatch: bool,
                 path: str | os.PathLike[str]) -> LoadReport:
    """Overwrite the weights of those layers that the file has whole, under the same names and in the same shapes.

    Parameters
    ----------
    by_name : leave layers alone whose names are not in the file, and weights of the file that no layer has.
    skip_mismatch : leave layers alone whose weights have other shapes in the file, and warn.

    Raises
    ------
    CheckpointError
        For a difference that neither flag allows, or if not a single layer fits; the model is unchanged then.
    """
    wanted = {variable.path: variable.shape for variable in variables}
    match = match_weights(saved, wanted, strict=False)
    if (match.mismatched and not skip_mismatch) or ((match.missing or match.unexpected) and not by_name):
        match_weights(saved, wanted, where=path)
    why = {name: "not in the file" for name in match.missing}
    why.update({name: f"shape {shape} here, {found} in the file" for name, shape, found in match.mismatched})
    left = {variable.layer for variable in variables if variable.path in why}
    taken = [variable for variable in variables if variable.layer not in left]
    if variables and not taken:
        raise CheckpointError(f"'{path}': no layer of the model fits the file, whose weights are "
                              f"{', '.join(saved)}; give the layers to be loaded the names they had when saved")
    for variable in taken:
        variable.assign(saved[variable.path])
    skipped = {variable.path: why.get(variable.path, "the rest of its layer does not fit") for variable in variables
               if variable.layer in left}
    if match.mismatched:
        names = ", ".join(name for name, _, _ in match.mismatched)
        warnings.warn(f"load_weights: '{path}' has other shapes for {names}; their layers stay as they were",
                      stacklevel=5)
    return LoadReport([variable.path for variable in taken], skipped, match.unexpected)
