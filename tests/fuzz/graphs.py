"""Small random graphs of layers: blocks that the planner fuses, branches that meet, single layers of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn import layers
from tests.fuzz.trial import channels, choose, whole

MOST_VALUES = 6000  # of a sample at any place in the graph
SMOOTH = ("tanh", "sigmoid", "gelu", "silu", "softplus", "elu", "mish")
Spec = tuple[str, dict[str, Any], tuple[int, ...]]


@dataclass(frozen=True)
class Graph:
    """Layers by name, words and the numbers of their inputs: 0 is the graph's input, then one for each layer."""

    shape: tuple[int, ...]
    specs: tuple[Spec, ...]
    outputs: tuple[int, ...]

    def build(self) -> fc.Model:
        tensors = [fc.Input(self.shape)]
        for name, words, inputs in self.specs:
            tensors.append(_called(name, words, [tensors[i] for i in inputs]))
        outputs = [tensors[i] for i in self.outputs]
        return fc.Model(tensors[0], outputs if len(outputs) > 1 else outputs[0])


def _called(name: str, words: dict[str, Any], inputs: Sequence[Any]) -> Any:
    return getattr(layers, name)(**words)(inputs if len(inputs) > 1 else inputs[0])


class Drawing:
    """A graph while it grows, of images, or sequences or volumes with fewer kinds of layers.

    `exact`: of layers only whose results are whole numbers if all weights are.
    """

    def __init__(self, rng: np.random.Generator, exact: bool):
        self.rng, self.exact, self.rank = rng, exact, choose(rng, (1, 2, 2, 2, 2, 3))
        size = (whole(rng, 1, {1: 40, 2: 12, 3: 6}[self.rank]) for _ in range(self.rank))
        self.tensors = [fc.Input((*size, channels(rng, 20)))]
        self.specs: list[Spec] = []

    def grow(self, parts: int) -> Graph:
        """`parts` blocks, branches or layers; layers that refuse their input are drawn again.

        What a second output reads cannot be fused away.
        """
        for _ in range(parts):
            while not self.add(choose(self.rng, (self.block, self.block, self.branch, self.layer, self.layer))):
                pass
        while not self.add(self.head):
            pass
        last = len(self.tensors) - 1
        second = (whole(self.rng, 1, last - 1),) if last > 1 and self.rng.random() < 0.2 else ()
        return Graph(self.tensors[0].sample_shape, tuple(self.specs), (*second, last))

    def add(self, draw: Callable[[], Iterator[tuple]]) -> bool:
        """Take in all layers that `draw` yields, or none; they follow the last tensor, or those that are named."""
        tensors, specs = list(self.tensors), list(self.specs)
        try:
            for name, words, *inputs in draw():
                at = tuple(inputs[0]) if inputs else (len(tensors) - 1,)
                tensors.append(_called(name, words, [tensors[i] for i in at]))
                specs.append((name, words, at))
                if prod(tensors[-1].sample_shape) > MOST_VALUES:
                    return False
        except (ValueError, TypeError):
            return False
        self.tensors, self.specs = tensors, specs
        return True

    @property
    def here(self) -> tuple[int, ...]:
        """The shape of the last tensor."""
        return self.tensors[-1].sample_shape

    # ---- what may be added

    def block(self) -> Iterator[tuple]:
        """What is fused: a convolution or dense layer, batch normalisation in inference, a clamp, a max-pooling."""
        rng = self.rng
        yield self.dense() if len(self.here) == 1 else self.convolution()
        if not self.exact and rng.random() < 0.3:
            yield "BatchNormalization", {"momentum": 0.5}
        after = [("ReLU", {"max_value": choose(rng, (None, None, 6))})] if rng.random() < 0.8 else []
        if rng.random() < 0.4 and len(self.here) > 1:
            after.append((f"MaxPooling{self.rank}D", self.pool()))
        yield from after if rng.random() < 0.7 else after[::-1]

    def branch(self) -> Iterator[tuple]:
        """The last tensor meets an earlier one, or its own means or maxima, or itself behind a convolution."""
        rng, last = self.rng, len(self.tensors) - 1
        kinds = ("Add", "Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate")
        kind, other, side = choose(rng, kinds if self.exact else (*kinds, "Average")), whole(rng, 0, last), rng.random()
        if side < 0.7:
            same = {"filters": self.here[-1], "kernel_size": choose(rng, (1, 3)), "padding": "same"}
            pooled = f"Global{'Max' if self.exact else 'Average'}Pooling{self.rank}D"
            yield (pooled, {"keepdims": True}) if side < 0.2 else (f"Conv{self.rank}D", {**same, **self.algorithm()})
            yield kind, {}, (last + 1, last)
        else:
            yield kind, {}, (last, other)
        if rng.random() < 0.5:
            yield "ReLU", {}

    def layer(self) -> Iterator[tuple]:
        """One that stands alone."""
        kinds = [self.convolution, self.pooling, self.dense] + [self.depthwise] * (self.rank < 3)
        if self.rank == 2:
            kinds += [self.transposed, self.shaped]
        if not self.exact:
            kinds += [self.normalisation, self.activation]
        yield choose(self.rng, kinds)()

    def head(self) -> Iterator[tuple]:
        """A few numbers for each sample, or for each of its pixels."""
        if len(self.here) > 1 and self.rng.random() < 0.6:
            pooled = f"Global{'Max' if self.exact else 'Average'}Pooling{self.rank}D"
            yield choose(self.rng, ("Flatten", pooled)), {}
        yield "Dense", {"units": whole(self.rng, 1, 17)}

    # ---- layers with their words

    def axes(self, choices: Sequence[Any]) -> Any:
        """One of `choices` for all axes, or for each its own."""
        if self.rng.random() < 0.7:
            return choose(self.rng, choices)
        return tuple(choose(self.rng, choices) for _ in range(self.rank))

    def padding(self) -> Any:
        sides = tuple((whole(self.rng, 0, 1), whole(self.rng, 0, 1)) for _ in range(self.rank))
        causal = ["causal"] * (self.rank == 1)
        return choose(self.rng, ["valid", "same", "same", "same", 1, sides if self.rank > 1 else sides[0], *causal])

    def window(self) -> dict[str, Any]:
        """The words that convolutions share."""
        rng = self.rng
        words = {"kernel_size": self.axes((1, 2, 3, 3, 3, 3, 5)), "padding": self.padding(),
                 "strides": self.axes((1, 1, 1, 2, 3)), "use_bias": bool(rng.random() < 0.7),
                 "trainable": bool(rng.random() < 0.9)}
        return words if self.exact or rng.random() < 0.8 else {**words, "activation": choose(rng, SMOOTH)}

    def algorithm(self) -> dict[str, str]:
        """One that keeps whole numbers exact, or any; not every window can have Winograd's."""
        return {"algorithm": choose(self.rng, ("direct", "im2col") if self.exact else ("auto", "direct", "winograd"))}

    def convolution(self) -> tuple:
        rng, words = self.rng, {"filters": channels(self.rng, 20), **self.window(), **self.algorithm()}
        if rng.random() < 0.2:
            words["groups"] = choose(rng, divisors(self.here[-1]))
            words["filters"] = words["groups"] * whole(rng, 1, 3)
        if rng.random() < 0.2:
            words["dilation_rate"] = 2
        return f"Conv{self.rank}D", words

    def depthwise(self) -> tuple:
        words = {**self.window(), "depth_multiplier": choose(self.rng, (1, 1, 2))}
        if self.rng.random() < 0.5:
            return f"SeparableConv{self.rank}D", {**words, "filters": channels(self.rng, 20)}
        return f"DepthwiseConv{self.rank}D", words

    def transposed(self) -> tuple:
        return "Conv2DTranspose", {"filters": channels(self.rng, 12), **self.window()}

    def pool(self) -> dict[str, Any]:
        """The words of a pooling layer."""
        return {"pool_size": self.axes((2, 2, 1, 3)), "strides": choose(self.rng, (None, None, 1, 2)),
                "padding": self.padding()}

    def pooling(self) -> tuple:
        kinds = ["Max"] + ["Min"] * (self.rank == 2) + ["Average"] * (not self.exact)
        return f"{choose(self.rng, kinds)}Pooling{self.rank}D", self.pool()

    def shaped(self) -> tuple:
        rng = self.rng
        sides = tuple((whole(rng, 0, 2), whole(rng, 0, 2)) for _ in range(2))
        size, kind = choose(rng, (2, (1, 2), (3, 1))), "nearest" if self.exact else choose(rng, ("nearest", "bilinear"))
        return choose(rng, [
            ("ZeroPadding2D", {"padding": sides}), ("Cropping2D", {"cropping": sides}),
            ("UpSampling2D", {"size": size, "interpolation": kind}),
            ("Permute", {"dims": choose(rng, ((2, 1, 3), (3, 1, 2), (2, 3, 1)))}),
            ("Reshape", {"target_shape": self.here[1::-1] + self.here[2:]}),
            ("PReLU", {"shared_axes": choose(rng, (None, (1, 2)))})])

    def dense(self) -> tuple:
        return "Dense", {"units": channels(self.rng, 20), "use_bias": bool(self.rng.random() < 0.7)}

    def normalisation(self) -> tuple:
        return choose(self.rng, [
            ("BatchNormalization", {"momentum": 0.9, "trainable": bool(self.rng.random() < 0.8)}),
            ("LayerNormalization", {}), ("GroupNormalization", {"groups": choose(self.rng, divisors(self.here[-1]))})])

    def activation(self) -> tuple:
        return "Activation", {"activation": choose(self.rng, SMOOTH)}


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]
