"""What the families of convolutions share: three passes, on integers and on real data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import ops, reference
from tests.check import small_ints
from tests.fuzz.trial import Trial, Want, channels, normal, whole


def passes(module: Any, function: str, x, w, b, dy, **words: Any) -> Iterator[tuple[str, np.ndarray]]:
    """(name, result) of `function` and its two gradients; `module` is fastcnn.ops or fastcnn.reference."""
    yield function, getattr(module, function)(x, w, b, **words)
    yield f"{function}_input_grad", getattr(module, f"{function}_input_grad")(dy, w, np.shape(x), **words)
    yield f"{function}_weight_grad", getattr(module, f"{function}_weight_grad")(x, dy, np.shape(w)[:-2], **words)


def terms(function: str, x, w, b, dy, **words: Any) -> dict[str, int]:
    """How many products one output of each pass sums, at most."""
    taps, (inner, outer), groups = prod(w.shape[:-2]), w.shape[-2:], words.get("groups", 1)
    pixels = prod(x.shape[:-1]) if "transpose" in function else prod(dy.shape[:-1])
    ahead, back = (outer // groups, inner) if "transpose" in function else (inner, outer // groups)
    return {function: taps * ahead + 1, f"{function}_input_grad": taps * back,
            f"{function}_weight_grad": max(1, pixels)}


def trials_of(function: str, rng: np.random.Generator, x_shape: Sequence[int], w_shape: Sequence[int],
              words: Mapping[str, Any], algorithms: Sequence[str] = ()) -> Iterator[Trial]:
    """The three passes, each with every one of `algorithms`.

    Integers must agree to the bit, real data within 4 units in the last place of the sum of magnitudes.
    """
    filters = w_shape[-2] * words.get("groups", 1) if "transpose" in function else w_shape[-1]
    for exact in (True, False):
        draw = small_ints if exact else normal
        x, w, b = (draw(rng, shape) for shape in (x_shape, w_shape, (filters,)))
        dy = draw(rng, getattr(reference, function)(x, w, b, **words).shape)
        arrays = x, w, b, dy
        wants = {name: Want(value) for name, value in passes(reference, function, *arrays, **words)}
        if not exact:
            counts = terms(function, *arrays, **words)
            scales = dict(passes(reference, function, *map(np.abs, arrays), **words))
            wants = {name: Want(want.value, counts[name], scales[name]) for name, want in wants.items()}
        for option in [{"algorithm": a} for a in algorithms] or [{}]:
            yield Trial(lambda a=arrays, o=option: dict(passes(ops, function, *a, **words, **o)), wants)


def grouped(rng: np.random.Generator, most: int, groups: int = 6) -> tuple[int, int, int]:
    """(input channels, filters, groups): one group every second time."""
    if rng.random() < 0.5:
        return channels(rng, most), channels(rng, most), 1
    count = whole(rng, 2, groups)
    share = max(1, most // count)
    return count * channels(rng, share), count * channels(rng, share), count
