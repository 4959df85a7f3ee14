"""What users give to fit, evaluate and predict, as arrays the engine can read and batches of sample numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.kernels._load import DTYPES, all_finite
from fastcnn.utils import first_where, real_number

if TYPE_CHECKING:
    from fastcnn.ports import Ports

LARGEST = np.finfo(np.float32).max


def shapes_of(x, where: str) -> Any:
    """The shape of x, or for a list or dictionary of arrays, one for each input, that of theirs."""
    if isinstance(x, Mapping):
        return {name: as_array(a, where).shape for name, a in x.items()}
    if isinstance(x, (list, tuple)) and is_list_of_arrays(x):
        return [tuple(a.shape) for a in x]
    return as_array(x, where).shape


def as_array(value, where: str) -> np.ndarray:
    """An input as an array of any dtype; ValueError where its samples differ in shape."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: x must be an array, its samples of equal shape: {error}") from None


def is_list_of_arrays(value) -> bool:
    return bool(value) and all(hasattr(v, "__array__") and np.ndim(v) > 0 for v in value)


def prepare_input(value, shape, where: str, check_finite: bool = False) -> np.ndarray:
    """One input as a C-contiguous array (samples, ...) of a dtype the engine loads.

    As in Keras, a last axis of 1 may be missing, or be one too many.

    Raises
    ------
    TypeError, ValueError
        For values that are not numbers, do not fit the model's input `shape` (None first), or are not finite.
    """
    array = as_array(value, where)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{where}: x must hold real numbers, got dtype {array.dtype}"
                        + ("; are the samples of equal shape?" if array.dtype.kind == "O" else ""))
    if array.ndim != len(shape):
        array = _adjust_rank(array, shape)
    if array.ndim != len(shape) or tuple(array.shape[1:]) != tuple(shape[1:]):
        raise ValueError(f"{where}: the model expects x of shape {shape}, got {array.shape}" + _hint(array, shape))
    if array.dtype not in DTYPES:
        array = array.astype(np.float32)
    array = np.ascontiguousarray(array)
    if check_finite and array.dtype.kind == "f" and not is_finite(array):
        at = tuple(int(i) for i in np.argwhere(~(np.abs(array) <= LARGEST))[0])
        raise ValueError(f"{where}: x holds {array[at]} at {at}; clean the data or bring it to scale first, for "
                         f"instance with numpy.nan_to_num")
    return array


def is_finite(array: np.ndarray) -> bool:
    """Whether no value of a contiguous array of floats is NaN or infinite, in float32 too."""
    if array.dtype == np.float32:
        return all_finite(array)
    return array.size == 0 or bool(array.min() >= -LARGEST and array.max() <= LARGEST)


def _adjust_rank(array: np.ndarray, shape) -> np.ndarray:
    """The array with a last axis of 1 added or taken away, if it then fits; else as it is."""
    adjusted = array
    if array.ndim == len(shape) - 1:
        adjusted = array[..., None]
    elif array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        adjusted = array[..., 0]
    return adjusted if tuple(adjusted.shape[1:]) == tuple(shape[1:]) else array


def _hint(array, shape) -> str:
    if array.shape == tuple(shape[1:]):
        return "; one sample alone needs a batch axis: x[None]"
    if array.ndim == 4 and array.shape[1] == shape[-1] and tuple(array.shape[2:]) == tuple(shape[1:3]):
        return "; the channels come last here: x.transpose(0, 2, 3, 1)"
    return "; reshape the data, or build the model for this shape"


def check_lengths(where: str, **groups: Sequence[np.ndarray | None]) -> None:
    """ValueError unless all arrays hold as many samples; `groups` are lists of them by name."""
    if len({len(a) for arrays in groups.values() for a in arrays if a is not None}) > 1:
        found = ", ".join(f"{name}[{i}] has {len(a)}" if len(arrays) > 1 else f"{name} has {len(a)}"
                          for name, arrays in groups.items() for i, a in enumerate(arrays) if a is not None)
        raise ValueError(f"{where}: all arrays must have the same number of samples, but {found}")


def slices(samples: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """(first, last) of each batch; the last may be smaller."""
    for first in range(0, samples, batch_size):
        yield first, min(first + batch_size, samples)


def output_weights(outputs: Ports, sample_weight, class_weight, ys, samples: int,
                   where: str) -> list[np.ndarray] | None:
    """For each output one float32 weight per sample, from Keras's two arguments, or None.

    `sample_weight` is one array for all outputs, or a list or dictionary with one, or None, for each.
    """
    if sample_weight is None and class_weight is None:
        return None
    if class_weight is not None and len(outputs) > 1:
        raise ValueError(f"{where}: class_weight is for models with one output, this one has {len(outputs)}; give "
                         f"sample_weight as a list")
    if isinstance(sample_weight, Mapping):
        given = outputs.by_name(sample_weight, f"{where}: sample_weight", optional=True)
    elif isinstance(sample_weight, (list, tuple)) and len(outputs) > 1 and any(np.ndim(w) for w in sample_weight):
        given = outputs.unpack(sample_weight, f"{where}: sample_weight")
    else:
        given = [sample_weight] * len(outputs)
    weights = [sample_weights(w, class_weight, y, samples, where) for w, y in zip(given, ys, strict=True)]
    return [np.ones(samples, np.float32) if w is None else w for w in weights]


def sample_weights(sample_weight, class_weight, targets, samples: int, where: str) -> np.ndarray | None:
    """Keras's two arguments as float32 weights, one per sample or, for maps, one per position; or None."""
    if sample_weight is None and class_weight is None:
        return None
    positions = _positions(targets)
    weights = np.ones(samples, np.float32)
    if sample_weight is not None:
        given = np.asarray(sample_weight)
        if given.shape == (samples, 1) != positions:
            given = given[:, 0]
        if given.shape not in ((samples,), positions) or given.dtype.kind not in "fiub":
            choices = f"{samples} numbers" + (f", or numbers of shape {positions}" if len(positions) > 1 else "")
            raise ValueError(f"{where}: sample_weight must be {choices}, got {given.dtype} {given.shape}")
        weights = given.astype(np.float32)
        if not np.isfinite(weights).all():
            index, value = first_where(~np.isfinite(weights), given)
            raise ValueError(f"{where}: sample_weight must be finite, got {value} at index {index}")
    if class_weight is not None:
        of_class = _class_weights(class_weight, _labels(targets), where)
        weights = weights.reshape(weights.shape + (1,) * (of_class.ndim - weights.ndim)) * of_class
    return weights


def _class_weights(class_weight, labels: np.ndarray, where: str) -> np.ndarray:
    """The weight of each label; 1 for classes that `class_weight` does not name."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"{where}: class_weight must be a dict of class -> weight, got {class_weight!r}")
    table = np.ones(int(labels.max(initial=0)) + 1, np.float32)
    for label, value in class_weight.items():
        if not hasattr(label, "__index__"):
            raise TypeError(f"{where}: the keys of class_weight must be class numbers, got {label!r}")
        weight = real_number(value, f"class_weight[{label}]", where)
        if 0 <= label < len(table):
            table[label] = weight
    return table[np.maximum(labels, 0)]  # a negative label is one that the loss ignores


def _positions(targets: np.ndarray) -> tuple[int, ...]:
    """Shape of the targets without their class axis."""
    return targets.shape if targets.dtype == np.int32 else targets.shape[:-1]


def _labels(targets: np.ndarray) -> np.ndarray:
    """Classes from sparse labels, from one unit that is 0 or 1, or from one-hot rows."""
    if targets.dtype == np.int32:
        return targets
    return np.rint(targets[..., 0]).astype(np.intp) if targets.shape[-1] == 1 else targets.argmax(-1)
