"""Small random graphs of layers: blocks that the planner fuses, branches that meet, single layers of every kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """A graph while it grows; `exact`: of layers only whose results are whole numbers if all weights are."""

    def __init__(self, rng: np.random.Generator, exact: bool):
        self.rng, self.exact = rng, exact
        self.tensors = [fc.Input((whole(rng, 1, 12), whole(rng, 1, 12), channels(rng, 20)))]
        self.specs: list[Spec] = []

    def grow(self, parts: int) -> Graph:
        """`parts` blocks, branches or layers; layers that refuse their input are drawn again."""
        for _ in range(parts):
            while not self.add(choose(self.rng, (self.block, self.block, self.branch, self.layer, self.layer))):
                pass
        while not self.add(self.head):
            pass
        used = {i for _, _, inputs in self.specs for i in inputs}
        ends = tuple(i for i in range(1, len(self.tensors)) if i not in used)
        return Graph(self.tensors[0].sample_shape, tuple(self.specs), ends)

    def add(self, draw: Any) -> bool:
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
        if rng.random() < 0.4:
            after.append(("MaxPooling2D", {"pool_size": choose(rng, (2, 2, 3, (1, 2), (2, 3))),
                                           "strides": choose(rng, (None, None, 1, 2)), "padding": self.padding()}))
        yield from after if rng.random() < 0.7 else after[::-1]

    def branch(self) -> Iterator[tuple]:
        """The last tensor meets an earlier one, or its own means or maxima, or itself behind a convolution."""
        rng, last = self.rng, len(self.tensors) - 1
        kinds = ("Add", "Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate")
        kind, other = choose(rng, kinds if self.exact else (*kinds, "Average")), whole(rng, 0, last)
        if rng.random() < 0.5:
            yield "Conv2D", {"filters": self.here[-1], "kernel_size": choose(rng, (1, 3)), "padding": "same",
                             "algorithm": "direct" if self.exact else "auto"}
            other = last
        elif rng.random() < 0.4:
            yield "GlobalMaxPooling2D" if self.exact else "GlobalAveragePooling2D", {"keepdims": True}
            other = last
        here = len(self.tensors) - 1 if other == len(self.tensors) - 1 else last + (other == last)
        yield kind, {}, (here, other)
        if rng.random() < 0.5:
            yield "ReLU", {}

    def layer(self) -> Iterator[tuple]:
        """One that stands alone."""
        rng = self.rng
        kinds = [self.convolution, self.depthwise, self.transposed, self.pooling, self.shaped, self.dense]
        if not self.exact:
            kinds += [self.normalisation, self.activation]
        yield choose(rng, kinds)()

    def head(self) -> Iterator[tuple]:
        """A few numbers for each sample, or the last tensor as it is."""
        rng = self.rng
        if len(self.here) == 3 and rng.random() < 0.6:
            names = ("Flatten", "GlobalMaxPooling2D") if self.exact else ("Flatten", "GlobalAveragePooling2D")
            yield choose(rng, names), {}
        yield "Dense", {"units": whole(rng, 1, 17)}

    # ---- layers with their words

    def padding(self) -> Any:
        sides = tuple((whole(self.rng, 0, 1), whole(self.rng, 0, 1)) for _ in range(2))
        return choose(self.rng, ["valid", "same", "same", "same", 1, sides])

    def window(self) -> dict[str, Any]:
        rng = self.rng
        return {"kernel_size": choose(rng, (1, 2, 3, 3, 3, 3, 5, (1, 3), (4, 2))), "padding": self.padding(),
                "strides": choose(rng, (1, 1, 1, 2, (1, 2), 3)), "use_bias": bool(rng.random() < 0.7)}

    def convolution(self) -> tuple:
        rng, words = self.rng, {"filters": channels(self.rng, 20), **self.window()}
        if rng.random() < 0.2:
            words["groups"] = choose(rng, [g for g in range(1, self.here[-1] + 1) if self.here[-1] % g == 0])
            words["filters"] = words["groups"] * whole(rng, 1, 3)
        if rng.random() < 0.2:
            words["dilation_rate"] = 2
        return "Conv2D", {**words, "algorithm": choose(rng, ("direct", "im2col") if self.exact else ("auto", "direct"))}

    def depthwise(self) -> tuple:
        words = {**self.window(), "depth_multiplier": choose(self.rng, (1, 1, 2))}
        if self.rng.random() < 0.5:
            return "SeparableConv2D", {**words, "filters": channels(self.rng, 20)}
        return "DepthwiseConv2D", words

    def transposed(self) -> tuple:
        return "Conv2DTranspose", {"filters": channels(self.rng, 12), **self.window()}

    def pooling(self) -> tuple:
        kinds = ["MaxPooling2D", "MinPooling2D"] + ["AveragePooling2D"] * (not self.exact)
        words = {"pool_size": choose(self.rng, (2, 3, (1, 2), (3, 1))), "strides": choose(self.rng, (None, 1, 2))}
        return choose(self.rng, kinds), {**words, "padding": self.padding()}

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
        groups = choose(self.rng, [g for g in range(1, self.here[-1] + 1) if self.here[-1] % g == 0])
        return choose(self.rng, [("BatchNormalization", {"momentum": 0.9}), ("LayerNormalization", {}),
                                 ("GroupNormalization", {"groups": groups})])

    def activation(self) -> tuple:
        return "Activation", {"activation": choose(self.rng, SMOOTH)}
