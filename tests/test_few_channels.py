"""The passes for few channels: plane by plane, and overlap-add; every size around a vector, every way to cut the work.

Outputs start as NaN inside guard bands, so that a value not written, and a write that strays, both show.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers, ops, reference
from fastcnn.algorithms import INPUT_GRAD, WEIGHT_GRAD, adds_overlaps, computes_planes
from fastcnn.geometry import Conv
from fastcnn.kernels import _cpu, _overlap, _planes, _pool, overlap, planes
from fastcnn.kernels import conv as passes
from fastcnn.kernels._executor import Program, Stage, run_op
from tests.check import assert_same, guarded, small_ints
from tests.test_tiles import assert_border, haloed, packed, tensor

SIZES = [
    # images, rows, columns, in, out, kernel, padding
    (2, 1, 1, 1, 1, (1, 1), "valid"),
    (1, 5, 3, 2, 1, (3, 3), "same"),
    (2, 6, 15, 1, 2, (3, 5), "valid"),
    (1, 4, 16, 3, 2, (2, 2), "same"),
    (3, 5, 17, 2, 2, (5, 3), ((3, 0), (1, 4))),
    (1, 3, 33, 1, 2, (1, 7), 3),
    (2, 28, 28, 1, 6, (5, 5), "same"),
    (1, 9, 31, 5, 5, (3, 3), "same"),
    (2, 14, 14, 6, 8, (5, 5), "valid"),
    (1, 2, 40, 8, 7, (3, 3), ((5, 4), (6, 3))),
    (1, 4, 20, 17, 3, (2, 5), "same"),
    (1, 5, 12, 3, 19, (3, 3), "same"),
    (1, 3, 9, 20, 4, (3, 4), "same"),
]
each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def problem(size, rng):
    """The convolution, x, w, b and dy of small integers, and the words of the reference."""
    n, h, w, ic, oc, kernel, padding = size
    conv = Conv.resolve((n, h, w, ic), (*kernel, ic, oc), 1, padding, 1, 1, "conv")
    arrays = [small_ints(rng, shape) for shape in (conv.x_shape, conv.w_shape, (oc,), conv.y_shape)]
    return conv, arrays, {"padding": padding}


def overlap_weights(w):
    memory, check = guarded((overlap.input_grad_weights(w).packed_size,))
    weights = overlap.input_grad_weights(w, memory)
    run_op(_overlap.PackOverlap(weights))
    check()
    return weights


@pytest.fixture(params=(16 << 10, 0), ids="band{}".format)
def band_bytes(request, monkeypatch):
    """Bands of many rows, and of one."""
    monkeypatch.setattr(_overlap, "BAND_BYTES", request.param)
    monkeypatch.setattr(overlap, "GRAD_PIXELS", request.param // 16)
    monkeypatch.setattr(_planes, "BAND_BYTES", request.param)


# ---- plane by plane


@each_size
def test_planes(size, isa, band_bytes, rng):
    conv, (x, w, b, _), words = problem(size, rng)
    if 2 * conv.oc > _cpu.tile_sizes()[0]:
        return
    want = reference.conv2d(x, w, b, **words)
    for bands in (1, 3):
        y_tensor, y, memory = haloed(np.full(conv.y_shape, np.nan, np.float32), ((1, 0), (2, 1)), 7)
        run_op(planes.forward(conv, haloed(x, ((0, 1), (1, 0)))[0], w, y_tensor, b, bands=bands, clamp=(0, 40)))
        assert_same(y, np.clip(want, 0, 40))
        assert_border(memory, y, ((1, 0), (2, 1)))


@pytest.mark.parametrize("width", (1, 2, 7, 8, 9, 15, 16, 17, 31, 33))
def test_planes_of_every_number_of_channels(width, isa, rng):
    """As many outputs as the kernels have cases for, any number of inputs; all strips of a row."""
    for oc in range(1, _cpu.tile_sizes()[0] // 2 + 1):
        conv, (x, w, _, _), words = problem((1, 3, width, oc % 3 + 1, oc, (2, 3), "same"), rng)
        y, check = guarded(conv.y_shape)
        run_op(planes.forward(conv, tensor(x), w, tensor(y)))
        check()
        assert_same(y, reference.conv2d(x, w, **words))


def pooled(size, arrays, relu, by_planes):
    """(y, arg) of a convolution and 2 x 2 max-pooling, by planes or by the usual pass."""
    conv, (x, w, b) = size, arrays
    shape = (conv.n, conv.window.oh // 2, conv.window.ow // 2, conv.oc)
    (y, check_y), (arg, check_arg) = guarded(shape), guarded(shape, 9, np.uint8)
    options = {"arg": arg, "pool_relu": relu}
    if by_planes:
        op = planes.forward(conv, tensor(x), w, tensor(y), b, pooled=True, **options)
    else:
        weights = packed(lambda memory: passes.forward_weights(conv, w, memory))
        op = passes.forward(conv, tensor(x), weights, tensor(y), b, "direct", pool=(2, 2), **options)
    run_op(op)
    check_y()
    check_arg()
    return y, arg


@pytest.mark.parametrize("relu", (False, True), ids=("linear", "relu"))
@pytest.mark.parametrize("width", (2, 3, 9, 16, 18, 31, 32, 34, 49))
def test_pooled_planes(width, relu, isa, band_bytes, rng):
    """Values and taps are those of the usual pass: the first of equal maxima, NaN before all, -1 where ReLU closes."""
    for oc in range(1, _cpu.tile_sizes()[0] // 2 + 1):
        conv, (x, w, b, _), _ = problem((2, 7, width, 2, oc, (3, 3), "same"), rng)
        x = np.sign(x)  # many ties
        x[0, 3, width // 2, 0] = np.nan
        w[w == 0] = 1
        for got, want in zip(pooled(conv, (x, w, b), relu, True), pooled(conv, (x, w, b), relu, False), strict=True):
            assert_same(got, want)


def test_pooling_without_taps(isa, rng):
    conv, (x, w, b, _), words = problem((2, 6, 12, 1, 2, (3, 3), "same"), rng)
    y, check = guarded((2, 3, 6, 2))
    run_op(planes.forward(conv, tensor(x), w, tensor(y), b, pooled=True))
    check()
    assert_same(y, reference.conv2d(x, w, b, **words).reshape(2, 3, 2, 6, 2, 2).max((2, 4)))


@pytest.mark.parametrize("width", (1, 7, 8, 9, 15, 16, 17, 33))
def test_gradient_of_pooling_few_channels(width, isa, rng):
    """Each gradient goes to the tap that is named; 255 names none. A row and a column are left over."""
    for c in range(1, _cpu.tile_sizes()[0] // 2 + 1):
        dy, arg = small_ints(rng, (2, 3, width, c)), rng.choice([0, 1, 2, 3, 255], (2, 3, width, c)).astype(np.uint8)
        (dx, check), window = guarded((2, 7, 2 * width + 1, c)), (2, 2)
        run_op(_pool.MaxPoolGrad(tensor(dy), tensor(dx), arg, window, window))
        check()
        taps = np.where(arg[..., None] == np.arange(4), dy[..., None], 0).reshape(2, 3, width, c, 2, 2)
        assert_same(dx[:, :6, :-1], taps.transpose(0, 1, 4, 2, 5, 3).reshape(2, 6, 2 * width, c))


# ---- overlap-add


@each_size
def test_overlap_input_grad(size, isa, band_bytes, rng):
    conv, (_, w, _, dy), words = problem(size, rng)
    weights, want = overlap_weights(w), reference.conv2d_input_grad(dy, w, conv.x_shape, **words)
    for bands in (1, 3):
        dx_tensor, dx, memory = haloed(np.full(conv.x_shape, np.nan, np.float32), ((1, 0), (2, 1)), 7)
        run_op(overlap.input_grad(conv, haloed(dy, ((0, 1), (1, 0)))[0], weights, dx_tensor, bands=bands))
        assert_same(dx, want)
        assert_border(memory, dx, ((1, 0), (2, 1)))


@each_size
@pytest.mark.parametrize("halo", (False, True), ids=("copied", "in place"))
def test_overlap_weight_grad(size, halo, isa, band_bytes, rng):
    """In chunks of one image, and of all: an image adds to what the one before left."""
    conv, (x, w, _, dy), words = problem(size, rng)
    want = reference.conv2d_weight_grad(x, dy, w.shape[:2], **words)
    for chunk in (1, conv.n):
        (dw, check_dw), (db, check_db) = guarded((1, *w.shape)), guarded((1, conv.oc))
        x_tensor = haloed(x, conv.window.pads)[0] if halo else tensor(x)
        op = overlap.weight_grad(conv, x_tensor, haloed(dy, ((1, 1), (0, 2)))[0], dw, db)
        Program([Stage([op], conv.n, conv.n, chunk)]).run()
        check_dw()
        check_db()
        assert_same(dw[0], want)
        assert_same(db[0], dy.sum((0, 1, 2), dtype=float))


def test_partial_sums(threads, rng):
    """One row of partial sums per group of images, whoever computes it."""
    conv, (x, w, _, dy), words = problem((5, 6, 18, 2, 3, (3, 3), "same"), rng)
    dw, check = guarded((3, *w.shape))
    Program([Stage([overlap.weight_grad(conv, tensor(x), tensor(dy), dw)], 5, 2, 1)]).run()
    check()
    for part in range(3):
        images = slice(2 * part, 2 * part + 2)
        assert_same(dw[part], reference.conv2d_weight_grad(x[images], dy[images], 3, **words))


def test_nan_reaches_what_was_multiplied_by_it(isa, rng):
    """As in the reference, whose border of zeros takes part."""
    conv, (x, w, _, dy), words = problem((1, 6, 9, 2, 2, (3, 3), "same"), rng)
    w[w == 0] = 1
    x[0, 2, 0, 1], dy[0, 0, 8, 1] = np.nan, np.inf
    y, dx, dw = (np.full(shape, np.nan, np.float32) for shape in (conv.y_shape, conv.x_shape, (1, *w.shape)))
    run_op(planes.forward(conv, tensor(x), w, tensor(y)))
    run_op(overlap.input_grad(conv, tensor(dy), overlap_weights(w), tensor(dx)))
    run_op(overlap.weight_grad(conv, tensor(x), tensor(dy), dw))
    with np.errstate(invalid="ignore"):
        assert_same(y, reference.conv2d(x, w, **words))
        assert_same(dx, reference.conv2d_input_grad(dy, w, conv.x_shape, **words))
        assert_same(dw[0], reference.conv2d_weight_grad(x, dy, 3, **words))


def test_what_does_not_fit_together_is_refused(rng):
    conv, (x, w, b, dy), _ = problem((2, 6, 18, 2, 3, (3, 3), "same"), rng)
    with pytest.raises(ValueError, match="plane convolution: input, weights and output"):
        planes.forward(conv, tensor(x), w, tensor(x))
    with pytest.raises(ValueError, match="plane convolution: bias: expected 3 elements of float32"):
        planes.forward(conv, tensor(x), w, tensor(dy), b[:2])
    with pytest.raises(ValueError, match="plane convolution: arg: expected [0-9]+ elements of uint8"):
        planes.forward(conv, tensor(x), w, tensor(dy), pooled=True, arg=np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="input gradient: gradients and packed weights"):
        overlap.input_grad(conv, tensor(dy), overlap.input_grad_weights(w), tensor(x))
    with pytest.raises(ValueError, match="weight gradient: panel and gradients"):
        overlap.weight_grad(conv, tensor(dy), tensor(dy), w[None])
    with pytest.raises(ValueError, match="packed: expected [0-9]+ elements of float32"):
        overlap.input_grad_weights(w, np.zeros(5, np.float32))


# ---- where they are used

LENET = Conv.resolve((64, 28, 28, 1), (5, 5, 1, 6), 1, "same", 1, 1, ""), Conv.resolve(
    (64, 14, 14, 6), (5, 5, 6, 16), 1, "valid", 1, 1, "")


@pytest.mark.skipif(_cpu.tile_sizes()[0] != 16, reason="the choice depends on the length of a vector")
def test_choice():
    first, second = LENET
    assert computes_planes(first) and computes_planes(first, "direct", (2, 2))
    assert not computes_planes(first, "im2col") and not computes_planes(first, "auto", (3, 3))
    assert not computes_planes(second)
    assert adds_overlaps(first, WEIGHT_GRAD) and not adds_overlaps(second, WEIGHT_GRAD)
    assert adds_overlaps(second, INPUT_GRAD) and not adds_overlaps(second, INPUT_GRAD, "im2col")
    wide = Conv.resolve((64, 32, 32, 3), (3, 3, 3, 32), 1, "same", 1, 1, "")
    assert not computes_planes(wide) and not adds_overlaps(wide, WEIGHT_GRAD)
    for words in ((2, "same", 1, 1), (1, "same", 2, 1)):
        conv = Conv.resolve((64, 28, 28, 1), (5, 5, 1, 6), *words, "")
        assert not (computes_planes(conv) or adds_overlaps(conv, WEIGHT_GRAD) or adds_overlaps(conv, INPUT_GRAD))
    dense = Conv.resolve((64, 1, 1, 8), (1, 1, 8, 16), 1, "valid", 1, 1, "")
    assert not any(adds_overlaps(dense, which) for which in (INPUT_GRAD, WEIGHT_GRAD))


@pytest.mark.parametrize("n", (0, 1, 9))
def test_operations(n, isa, threads, rng):
    """The three passes of both convolutions of LeNet-5, few images and none."""
    for conv in LENET:
        shape = (n, *conv.x_shape[1:])
        x, w, b = small_ints(rng, shape), small_ints(rng, conv.w_shape), small_ints(rng, (conv.oc,))
        dy = small_ints(rng, (n, *conv.y_shape[1:]))
        words = {"padding": conv.window.pads}
        assert_same(ops.conv2d(x, w, b, **words), reference.conv2d(x, w, b, **words))
        assert_same(ops.conv2d_input_grad(dy, w, shape, **words), reference.conv2d_input_grad(dy, w, shape, **words))
        assert_same(ops.conv2d_weight_grad(x, dy, 5, **words), reference.conv2d_weight_grad(x, dy, 5, **words))


def lenet(algorithm):
    fc.seed(5)
    model = fc.Sequential([
        layers.Conv2D(6, 5, padding="same", activation="relu", algorithm=algorithm, input_shape=(28, 28, 1)),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 5, activation="relu", algorithm=algorithm),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(10),
    ])
    model.compile(fc.optimizers.SGD(0.05), fc.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_training_is_that_of_the_usual_passes(isa, rng):
    x, y = rng.standard_normal((12, 28, 28, 1)), rng.integers(0, 10, 12)
    models = lenet("auto"), lenet("im2col")
    for _ in range(3):
        losses = [model.train_on_batch(x, y) for model in models]
        np.testing.assert_allclose(*losses, rtol=1e-5)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    assert_same(models[0].predict(x[:1]), models[0].predict(x)[:1])


def test_training_has_the_same_bits_on_any_number_of_threads(rng):
    x, y = rng.standard_normal((12, 28, 28, 1)), rng.integers(0, 10, 12)
    usual, results = _cpu.get_num_threads(), []
    for count in (1, 3):
        _cpu.set_num_threads(count)
        model = lenet("auto")
        model.train_on_batch(x, y)
        results.append(model.get_weights())
    _cpu.set_num_threads(usual)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
