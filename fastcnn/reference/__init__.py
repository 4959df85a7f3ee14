"""Every operation of fastcnn in float64, written from its definition.

This is the oracle of the tests and a textbook for readers: one formula per function, nothing clever, and
nothing shared with the fast code. Every function takes real arrays of any dtype and layout, leaves them
unchanged and returns new float64 arrays (int64 for indices).

Notation: x, w, b, y are input, weights, bias and output; dx, dw, dy are the gradients of a scalar loss with
respect to them. Images are NHWC (batch, height, width, channels), convolution weights
(kh, kw, in_channels // groups, out_channels). Pairs are (height, width), or one int for both.

`padding` is one of (names also in capitals)
    'valid'                           no padding;
    'same'                            TensorFlow's rule: the output has ceil(size / stride) pixels, and an
                                      odd number of padded pixels puts the extra one at the bottom or right;
    p or (ph, pw)                     that many pixels on both sides;
    ((top, bottom), (left, right))    each side on its own.
"""

from fastcnn.reference._windows import conv_output_size, resolve_padding
from fastcnn.reference.activation import (
    ACTIVATIONS,
    SELU_ALPHA,
    SELU_SCALE,
    activation,
    activation_grad,
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    linear,
    log_softmax,
    log_softmax_grad,
    mish,
    prelu,
    prelu_grad,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softmax_grad,
    softplus,
    softsign,
    swish,
    tanh,
)
from fastcnn.reference.convolution import conv2d, conv2d_input_grad, conv2d_weight_grad, convolve2d
from fastcnn.reference.dense import dense, dense_input_grad, dense_weight_grad
from fastcnn.reference.losses import (
    mean_absolute_error,
    mean_squared_error,
    sigmoid_binary_cross_entropy,
    softmax_cross_entropy,
)
from fastcnn.reference.merging import merge, merge_grad
from fastcnn.reference.normalization import (
    batch_norm,
    batch_norm_grad,
    group_norm,
    group_norm_grad,
    layer_norm,
    layer_norm_grad,
    moments,
    moving_average,
)
from fastcnn.reference.optimizers import (
    adadelta_step,
    adagrad_step,
    adam_step,
    adamw_step,
    nadam_step,
    rmsprop_step,
    sgd_step,
)
from fastcnn.reference.pooling import (
    avg_pool2d,
    avg_pool2d_grad,
    global_avg_pool2d,
    global_avg_pool2d_grad,
    global_max_pool2d,
    global_max_pool2d_grad,
    max_pool2d,
    max_pool2d_grad,
    min_pool2d,
    min_pool2d_grad,
)
from fastcnn.reference.regularization import dropout
from fastcnn.reference.resizing import affine_transform, upsample2d, upsample2d_grad
from fastcnn.reference.sequences import (
    avg_pool1d,
    avg_pool1d_grad,
    conv1d,
    conv1d_input_grad,
    conv1d_weight_grad,
    max_pool1d,
    max_pool1d_grad,
)
from fastcnn.reference.transposed import (
    conv2d_transpose,
    conv2d_transpose_input_grad,
    conv2d_transpose_weight_grad,
    resolve_transpose_padding,
)
from fastcnn.reference.volumes import (
    avg_pool3d,
    avg_pool3d_grad,
    conv3d,
    conv3d_input_grad,
    conv3d_weight_grad,
    max_pool3d,
    max_pool3d_grad,
)

__all__ = [
    "ACTIVATIONS", "SELU_ALPHA", "SELU_SCALE", "activation", "activation_grad", "adadelta_step", "adagrad_step",
    "adam_step", "adamw_step", "affine_transform", "avg_pool1d", "avg_pool1d_grad", "avg_pool2d", "avg_pool2d_grad",
    "avg_pool3d", "avg_pool3d_grad", "batch_norm", "batch_norm_grad", "conv1d", "conv1d_input_grad",
    "conv1d_weight_grad", "conv2d", "conv2d_input_grad", "conv2d_transpose", "conv2d_transpose_input_grad",
    "conv2d_transpose_weight_grad", "conv2d_weight_grad", "conv3d", "conv3d_input_grad", "conv3d_weight_grad",
    "conv_output_size", "convolve2d", "dense", "dense_input_grad", "dense_weight_grad", "dropout", "elu", "gelu",
    "global_avg_pool2d", "global_avg_pool2d_grad", "global_max_pool2d", "global_max_pool2d_grad", "group_norm",
    "group_norm_grad", "hard_sigmoid", "hard_swish", "layer_norm", "layer_norm_grad", "leaky_relu", "linear",
    "log_softmax", "log_softmax_grad", "max_pool1d", "max_pool1d_grad", "max_pool2d", "max_pool2d_grad", "max_pool3d",
    "max_pool3d_grad", "mean_absolute_error", "mean_squared_error", "merge", "merge_grad", "min_pool2d",
    "min_pool2d_grad", "mish", "moments", "moving_average", "nadam_step", "prelu", "prelu_grad", "relu", "relu6",
    "resolve_padding", "resolve_transpose_padding", "rmsprop_step", "selu", "sgd_step", "sigmoid",
    "sigmoid_binary_cross_entropy", "silu", "softmax", "softmax_cross_entropy", "softmax_grad", "softplus",
    "softsign", "swish", "tanh", "upsample2d", "upsample2d_grad",
]
