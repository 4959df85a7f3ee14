"""Convolutions of small integers with their exact results, for tests of the passes that compute them."""

from __future__ import annotations

import pytest

from fastcnn import reference
from fastcnn.geometry import Conv
from tests.check import small_ints

SHAPES = [
    # x, w, strides, padding, groups
    ((5, 6, 7, 9), (3, 3, 9, 37), 1, "same", 1),
    ((4, 9, 5, 8), (3, 2, 4, 70), 2, ((1, 0), (2, 1)), 2),
    ((70, 1, 1, 20), (1, 1, 20, 40), 1, "valid", 1),
    ((3, 4, 4, 33), (3, 3, 33, 5), 3, "same", 1),
]
each_shape = pytest.mark.parametrize("x_shape, w_shape, strides, padding, groups", SHAPES)


class Problem:
    """A convolution of small integers with its exact results."""

    def __init__(self, x_shape, w_shape, strides, padding, groups, rng):
        self.conv = Conv.resolve(x_shape, w_shape, strides, padding, 1, groups, "conv")
        self.x, self.w, self.b = (
            small_ints(rng, x_shape),
            small_ints(rng, w_shape),
            small_ints(rng, w_shape[3:]),
        )
        self.dy = small_ints(rng, self.conv.y_shape)
        words = {"strides": strides, "padding": padding, "groups": groups}
        self.y = reference.conv2d(self.x, self.w, self.b, **words)
        self.dx = reference.conv2d_input_grad(self.dy, self.w, x_shape, **words)
        self.dw = [
            reference.conv2d_weight_grad(self.x[i : i + 1], self.dy[i : i + 1], w_shape[:2], **words)
            for i in range(x_shape[0])
        ]
