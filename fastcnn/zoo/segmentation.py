"""Networks that classify each pixel."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.graph import SymbolicTensor
from fastcnn.layers import BatchNormalization, Concatenate, Conv2D, Conv2DTranspose, Input, MaxPooling2D, ReLU
from fastcnn.models import Model
from fastcnn.utils import flag


def unet(input_shape: Sequence[int] = (256, 256, 1), classes: int = 2, width: int = 64, depth: int = 4,
         batch_norm: bool = False) -> Model:
    """U-Net: an image is made smaller step by step, then larger again beside what it was at each size.

    Source: Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, but
    padded, so that each pixel gets its class. 31,030,658 parameters by default.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image, height and width multiples of 2**depth.
    classes : number of classes of a pixel; the output is (height, width, classes), probabilities.
    width : filters at the image's own size; at each smaller one there are twice as many.
    depth : how many times the image is made half as large.
    batch_norm : normalise before each ReLU, as later U-Nets do; they learn in fewer steps.

    Raises
    ------
    ValueError
        For images of another size.
    """
    flag(batch_norm, "batch_norm", "unet")
    if any(size % 2**depth for size in input_shape[:2]):
        raise ValueError(f"unet: height and width must be multiples of {2**depth} for depth {depth}, got input_shape="
                         f"{tuple(input_shape)}; pad the images, or take another depth")
    image = Input(tuple(input_shape))
    x, skips = image, []
    for level in range(depth):
        x = _two_convs(x, width << level, batch_norm)
        skips.append(x)
        x = MaxPooling2D(2)(x)
    x = _two_convs(x, width << depth, batch_norm)
    for level in reversed(range(depth)):
        x = Conv2DTranspose(width << level, 2, strides=2)(x)
        x = _two_convs(Concatenate()([skips[level], x]), width << level, batch_norm)
    return Model(image, Conv2D(classes, 1, activation="softmax")(x))


def _two_convs(x: SymbolicTensor, filters: int, batch_norm: bool) -> SymbolicTensor:
    for _ in range(2):
        x = Conv2D(filters, 3, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal")(x)
        x = ReLU()(BatchNormalization(momentum=0.9, epsilon=1e-5)(x) if batch_norm else x)
    return x
