"""The weight gradient of a max-pooled convolution from the gradient of the pooled result.

Outputs start as NaN inside guard bands, so that a value not written, and a write that strays, both show.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers, reference
from fastcnn.algorithms import sums_pooled
from fastcnn.geometry import Conv
from fastcnn.kernels import _cpu, _pooled_grad
from fastcnn.kernels import conv as passes
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._pooled_grad import most_channels
from tests.check import assert_same, guarded, small_ints
from tests.fuzz.step import set_weights, step_back, textbook
from tests.test_tiles import haloed, tensor

CLOSED = 255
SIZES = [
    # images, rows, columns, in, out, kernel, padding
    (2, 2, 2, 1, 1, (1, 1), "valid"),
    (1, 5, 7, 1, 6, (3, 3), "same"),
    (3, 6, 9, 2, 15, (2, 3), "valid"),
    (2, 8, 8, 3, 16, (3, 3), "same"),
    (1, 7, 10, 3, 17, (5, 5), ((3, 0), (1, 4))),
    (2, 6, 33, 1, 33, (1, 7), "same"),
    (1, 13, 6, 2, 64, (4, 2), ((0, 3), (2, 0))),
    (1, 9, 5, 3, 31, (3, 3), 3),
    (2, 12, 4, 1, 8, (7, 7), "same"),
]
each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def problem(size, rng):
    """(the convolution, x, dy and arg, the unpooled dy): small integers, a fifth of the windows closed."""
    n, h, w, ic, oc, kernel, padding = size
    conv = Conv.resolve((n, h, w, ic), (*kernel, ic, oc), 1, padding, 1, 1, "conv")
    shape = n, conv.window.oh // 2, conv.window.ow // 2, oc
    x, dy = small_ints(rng, conv.x_shape), small_ints(rng, shape)
    arg = rng.choice([0, 1, 2, 3, CLOSED], shape).astype(np.uint8)
    return conv, x, dy, arg, unpooled(conv, dy, arg)


def unpooled(conv, dy, arg):
    rows, cols = 2 * dy.shape[1], 2 * dy.shape[2]
    dz = np.zeros(conv.y_shape, np.float32)
    for tap in range(4):
        dz[:, tap // 2:rows:2, tap % 2:cols:2] = np.where(arg == tap, dy, 0)
    return dz


def gradients(conv, x_tensor, dy_tensor, arg, group, chunk):
    """(dw, db), a row for each group of images."""
    parts = -(-conv.n // group)
    (dw, check_dw), (db, check_db) = guarded((parts, *conv.w_shape)), guarded((parts, conv.oc))
    op = passes.pooled_weight_grad(conv, x_tensor, dy_tensor, arg, dw, db)
    Program([Stage([op], conv.n, group, chunk)]).run()
    check_dw()
    check_db()
    return dw, db


@pytest.fixture(params=(16 << 10, 0), ids="band{}".format)
def band_bytes(request, monkeypatch):
    """Bands of many rows, and of one."""
    monkeypatch.setattr(_pooled_grad, "BAND_BYTES", request.param)


@each_size
@pytest.mark.parametrize("halo", (False, True), ids=("copied", "in place"))
def test_gradients(size, halo, isa, band_bytes, rng):
    """In chunks of one image, and of all: an image adds to what the one before left."""
    conv, x, dy, arg, dz = problem(size, rng)
    x_tensor = haloed(x, conv.window.pads)[0] if halo else tensor(x)
    for chunk in (1, conv.n):
        dw, db = gradients(conv, x_tensor, haloed(dy, ((1, 1), (0, 2)))[0], arg, conv.n, chunk)
        assert_same(dw[0], reference.conv2d_weight_grad(x, dz, conv.window.kernel, padding=conv.window.pads))
        assert_same(db[0], dz.sum((0, 1, 2), dtype=float))


@pytest.mark.parametrize("kw", (1, 2, 3, 5))
def test_every_number_of_channels(kw, isa, rng):
    """All tiles: up to three whole ones side by side in a row of the kernel, and all lanes of a block."""
    for ic in range(1, most_channels() + 1):
        for oc in range(1 + ic % 3, _cpu.tile_sizes()[2] + 2, 3):
            conv, x, dy, arg, dz = problem((1, 4, 6, ic, oc, (2, kw), "same"), rng)
            dw, _ = gradients(conv, tensor(x), tensor(dy), arg, 1, 1)
            assert_same(dw[0], reference.conv2d_weight_grad(x, dz, (2, kw), padding="same"))


def test_partial_sums(threads, rng):
    """One row of partial sums per group of images, whoever computes it."""
    conv, x, dy, arg, dz = problem((5, 6, 18, 3, 20, (3, 3), "same"), rng)
    dw, db = gradients(conv, tensor(x), tensor(dy), arg, 2, 1)
    for part in range(3):
        images = slice(2 * part, 2 * part + 2)
        assert_same(dw[part], reference.conv2d_weight_grad(x[images], dz[images], 3, padding="same"))
        assert_same(db[part], dz[images].sum((0, 1, 2), dtype=float))


def test_without_bias(rng):
    conv, x, dy, arg, dz = problem(SIZES[3], rng)
    dw, check = guarded((1, *conv.w_shape))
    Program([Stage([passes.pooled_weight_grad(conv, tensor(x), tensor(dy), arg, dw)], conv.n, conv.n)]).run()
    check()
    assert_same(dw[0], reference.conv2d_weight_grad(x, dz, 3, padding="same"))


def test_nan_reaches_its_channel_and_not_through_closed_windows(isa, rng):
    conv, x, dy, arg, _ = problem(SIZES[4], rng)
    arg[0, 1, 2, 5], arg[0, 1, 2, 8] = CLOSED, 3
    dy[0, 1, 2, 5] = dy[0, 1, 2, 8] = np.nan
    dw, db = gradients(conv, tensor(x), tensor(dy), arg, 1, 1)
    assert np.flatnonzero(np.isnan(db[0])).tolist() == [8]
    assert np.isnan(dw[0][..., 8]).all() and not np.isnan(np.delete(dw[0], 8, -1)).any()


def test_infinite_pixel_reaches_what_picks_it(isa, rng):
    """Windows that name another pixel do not see it; the unpooled gradient would multiply it by zero."""
    conv, x, dy, arg, _ = problem((1, 4, 4, 1, 4, (1, 1), "valid"), rng)
    x[0, 1, 1], dy[0, 0, 0], arg[0] = np.inf, 2, 0
    arg[0, 0, 0, 2] = 3
    dw, _ = gradients(conv, tensor(x), tensor(dy), arg, 1, 1)
    assert np.isinf(dw).ravel().tolist() == [False, False, True, False]


def test_what_does_not_fit_together_is_refused(rng):
    conv, x, dy, arg, _ = problem(SIZES[3], rng)
    dw = np.zeros((1, *conv.w_shape), np.float32)
    with pytest.raises(ValueError, match="panel and gradients do not fit"):
        passes.pooled_weight_grad(conv, tensor(x), tensor(x), arg, dw)
    with pytest.raises(ValueError, match="arg: expected [0-9]+ elements of uint8"):
        passes.pooled_weight_grad(conv, tensor(x), tensor(dy), arg[:1], dw)
    with pytest.raises(ValueError, match="db: expected 16 elements of float32"):
        passes.pooled_weight_grad(conv, tensor(x), tensor(dy), arg, dw, np.zeros(3, np.float32))
    conv, x, dy, arg, _ = problem((1, 4, 4, most_channels() + 1, 2, (3, 3), "same"), rng)
    with pytest.raises(ValueError, match=f"more than {most_channels()}"):
        passes.pooled_weight_grad(conv, tensor(x), tensor(dy), arg, np.zeros((1, *conv.w_shape), np.float32))


# ---- where it is used


def test_choice(isa):
    def chosen(ic=3, oc=32, kernel=3, words=(1, "same", 1, 1), algorithm="auto"):
        w_shape = kernel, kernel, ic // words[3], oc
        return sums_pooled(Conv.resolve((64, 32, 32, ic), w_shape, *words, ""), algorithm)

    assert chosen() == chosen(1, 6, 5) == chosen(algorithm="direct") == (_cpu.tile_sizes()[0] >= 8)
    assert chosen(algorithm="winograd") and chosen(32, 32)  # whose tiles read pooled gradients on their own
    assert not chosen(algorithm="im2col")
    assert not chosen(most_channels() + 1, algorithm="direct")
    assert not any(chosen(4, 32, 3, words) for words in ((2, "same", 1, 1), (1, "same", 2, 1), (1, "same", 1, 2)))


def network(size, algorithm, activation, before=()):
    n, h, w, ic, oc, kernel, padding = size
    return fc.Sequential([
        layers.Input((h, w, ic)), *before,
        layers.Conv2D(oc, kernel, padding=padding, activation=activation, algorithm=algorithm, name="conv"),
        layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(3, name="last")])


def steps_of(model):
    """The names of the steps of its training plan."""
    (plan,) = (plan for plan in model._plans.values() if plan.builder.training)
    return [step.name for step in plan.builder.steps]


@pytest.mark.parametrize("activation", ("linear", "relu"))
@pytest.mark.parametrize("size", [size for size in SIZES if min(size[1:3]) > 4], ids=str)
def test_step_of_a_network(size, activation, isa, threads, rng):
    """Ties, closed windows, and rows and columns that no window covers: gradients are those of float64."""
    model = network(size, "direct", activation)
    set_weights(model, lambda shape: small_ints(rng, shape, 1))
    x, dy = small_ints(rng, (size[0], *size[1:4]), 1), small_ints(rng, (size[0], 3), 1)
    got = step_back(model, [x], [dy])
    for name, want in textbook(model, [x], [dy]).items():
        assert_same(got[name], want)
    assert ("conv unpool" in steps_of(model)) == (_cpu.tile_sizes()[0] < 8)


@pytest.mark.skipif(_cpu.tile_sizes()[0] < 8, reason="the choice depends on the length of a vector")
def test_unpooled_gradient_is_made_where_the_input_gradient_reads_it(rng):
    size = SIZES[3]
    model = network(size, "direct", "relu", [layers.Conv2D(3, 1, use_bias=False, name="before")])
    set_weights(model, lambda shape: small_ints(rng, shape, 1))
    x, dy = small_ints(rng, (size[0], *size[1:4]), 1), small_ints(rng, (size[0], 3), 1)
    got = step_back(model, [x], [dy])
    for name, want in textbook(model, [x], [dy]).items():
        assert_same(got[name], want)
    assert "conv unpool" in steps_of(model)
    model.get_layer("before").trainable = False
    step_back(model, [x], [dy])
    assert "conv unpool" not in steps_of(model)


@pytest.mark.parametrize("pool", [(3, 3), (2, 3), (2, 1)])
def test_other_windows_are_unpooled(pool):
    model = fc.Sequential([layers.Input((12, 12, 3)), layers.Conv2D(8, 3), layers.MaxPooling2D(pool, name="pool"),
                           layers.Flatten(), layers.Dense(3)])
    step_back(model, [np.zeros((2, 12, 12, 3), np.float32)], [np.zeros((2, 3), np.float32)])
    assert any(name.endswith("unpool") for name in steps_of(model))
