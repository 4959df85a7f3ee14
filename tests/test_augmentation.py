"""Augmentation: the kernels against the reference, the layers against Keras, random numbers of their own."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from fastcnn import reference
from fastcnn.kernels import _augment, _cpu
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._op import Tensor
from tests.check import Framed, assert_close, assert_same, guarded, small_ints
from tests.philox import philox4x32

STATE = np.array([0x9E3779B97F4A7C15, 2**32 + 5], np.uint64)
FILLS = tuple(_augment.FILL_MODES)
SIZES = [(1, 1, 1), (3, 1, 4), (5, 17, 1), (9, 8, 3), (4, 33, 2), (7, 16, 5)]
LAYERS = {
    "RandomFlip": {"mode": "horizontal"},
    "RandomTranslation": {"height_factor": 0.3, "width_factor": (-0.5, 0.1), "fill_mode": "wrap"},
    "RandomRotation": {"factor": (-0.1, 0.2), "interpolation": "nearest"},
    "RandomZoom": {"height_factor": 0.3, "fill_mode": "constant", "fill_value": 7.0},
    "RandomCrop": {"height": 5, "width": 4},
    "RandomContrast": {"factor": 0.5, "value_range": (0, 1)},
    "RandomBrightness": {"factor": 0.3, "value_range": (0, 1), "seed": 3},
}


def draws(images, stream, seed=int(STATE[0]), step=int(STATE[1])):
    """The eight numbers of each image: words of counters 0 and 1, 24 bits each."""
    counter = np.zeros((images, 2, 4), np.uint64)
    counter[:, :, 0] = [0, 1]
    counter[:, :, 1] = np.arange(images)[:, None]
    counter[..., 2:] = step % 2**32, stream
    words = philox4x32(counter, (seed % 2**32, seed >> 32))
    return (words.reshape(images, 8) >> np.uint64(8)) / 2.0**24


def sampled(x, size, make):
    """What the op `make(x, y)` writes into a poisoned, framed y of another size."""
    fx, fy = Framed(x.shape, x), Framed((len(x), *size, x.shape[3]))
    run_op(make(fx.tensor, fy.tensor))
    return fy.result()


# ---- kernels ----


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("fill", FILLS)
def test_exact_positions_read_exact_pixels(isa, shape, fill, rng):
    """Halves of a pixel and small integers are exact in float32, far outside the image too."""
    x = small_ints(rng, (3, *shape))
    matrix = (-2.5, 1.5, 0.5, shape[1] + 3.5, 0.5, -1.5)
    for interpolation in _augment.INTERPOLATIONS:
        words = fill, interpolation, 9.0
        got = sampled(x, (6, 19), lambda a, b, w=words: _augment.Affine(a, b, matrix, *w))
        assert_same(got, reference.affine_transform(x, matrix, (6, 19), *words))


@pytest.mark.parametrize("fill", FILLS)
def test_any_position(isa, fill, rng):
    x = rng.standard_normal((2, 7, 9, 3)).astype(np.float32)
    matrix = (-3.3, 0.91, 0.37, 4.2, -0.41, 0.93)
    got = sampled(x, (8, 21), lambda a, b: _augment.Affine(a, b, matrix, fill))
    want = reference.affine_transform(x, matrix, (8, 21), fill)
    assert_close(got, want, 64)  # positions are rounded, and move the result by as much as pixels differ


def test_nan_stays_where_it_is_read(isa):
    x = np.zeros((1, 3, 3, 1), np.float32)
    x[0, 0, 0] = np.nan
    got = sampled(x, (3, 3), lambda a, b: _augment.Affine(a, b, (0, 1, 0, 0.5, 0, 1), "nearest"))
    assert np.isnan(got[0, 0, 0, 0]) and not np.isnan(got[0, 1:]).any()


def test_motion_is_the_counted_one(isa, rng):
    """R Z F about the centre, then the shift, from the numbers that the counter gives."""
    n, h, w = 12, 6, 8
    x = rng.standard_normal((n, h, w, 2)).astype(np.float32)
    words = {"flips": (True, True), "turn": (-0.1, 0.3), "zoom": ((0.7, 1.3), (0.5, 0.9)), "shift": ((-2, 3), (1, 4))}
    got = sampled(x, (h, w), lambda a, b: _augment.RandomAffine(a, b, STATE, 7, **words))
    u = draws(n, 7)
    turn = 2 * np.pi * (-0.1 + 0.4 * u[:, 0])
    zoom = np.stack([0.7 + 0.6 * u[:, 1], 0.5 + 0.4 * u[:, 2]], 1) * np.where(u[:, 5:7] < 0.5, -1, 1)
    shift = np.stack([-2 + 5 * u[:, 3], 1 + 3 * u[:, 4]], 1)
    rotation = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], 1).reshape(n, 2, 2)
    linear = rotation * zoom[:, None]
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    start = centre + shift - linear @ centre
    matrix = np.concatenate([start[:, :1], linear[:, 0], start[:, 1:], linear[:, 1]], 1)
    assert_close(got, reference.affine_transform(x, matrix, (h, w)), 64)
    assert {True, False} == set((u[:, 5] < 0.5).tolist())


def test_a_seed_of_its_own(rng):
    x = rng.standard_normal((4, 5, 5, 1)).astype(np.float32)
    words = {"shift": ((-2, 2), (-2, 2))}
    own = [sampled(x, (5, 5), lambda a, b, s=state: _augment.RandomAffine(a, b, s, 1, seed=5, **words))
           for state in (STATE, np.array([8, STATE[1]], np.uint64))]
    assert_same(*own)
    other = np.array([5, STATE[1]], np.uint64)
    assert_same(own[0], sampled(x, (5, 5), lambda a, b: _augment.RandomAffine(a, b, other, 1, **words)))


@pytest.mark.parametrize("shape", [(4, 3, 5, c) for c in (1, 3, 17)], ids=str)
def test_shading(isa, threads, shape, rng):
    x = rng.random(shape).astype(np.float32)
    x[1, 0, 0, 0] = np.nan
    u = draws(len(x), 2)[:, :1, None, None]
    limits = (0.25, 0.75)
    got = sampled(x, shape[1:3], lambda a, b: _augment.RandomBrightness(a, b, STATE, 2, (-0.5, 0.25), limits))
    assert_close(got, np.clip(x + (-0.5 + 0.75 * u), *limits), 4)
    got = sampled(x, shape[1:3], lambda a, b: _augment.RandomContrast(a, b, STATE, 2, (0.5, 2), limits))
    mean = x.astype(np.float64).mean((1, 2), keepdims=True)
    assert_close(got, np.clip((x - mean) * (0.5 + 1.5 * u) + mean, *limits), 16)


def test_cutting_the_batch_changes_nothing(rng):
    x = rng.random((11, 9, 7, 3)).astype(np.float32)
    results = []
    for group, chunk in ((11, 11), (4, 3), (1, 1)):
        y, check = guarded(x.shape)
        op = _augment.RandomAffine(Tensor(x.shape, x), Tensor(x.shape, y), STATE, 0, turn=(-1, 1))
        Program([Stage([op], 11, group, chunk)], 0).run()
        check()
        results.append(y.copy())
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


@pytest.mark.parametrize(("make", "words"), [
    (lambda x, y: _augment.Affine(x, y, (0, 1, 0, 0, 0, 1), "mirror"), "mirror"),
    (lambda x, y: _augment.Affine(x, y, (0, 1, 0, 0, 0, 1), "wrap", "cubic"), "cubic"),
    (lambda x, y: _augment.Affine(x, y, (0, 1, 0, 0, 0, np.nan)), "nan"),
    (lambda x, y: _augment.Affine(x, y, (0, 1, 0, 0, 0, 1e9)), "1e6"),
    (lambda x, y: _augment.RandomAffine(x, y, STATE, 0, turn=(1, 0)), "turn"),
    (lambda x, y: _augment.RandomAffine(x, y, STATE[:1], 0), "2 elements"),
    (lambda x, y: _augment.RandomBrightness(x, Tensor((1, 2, 3, 1)), STATE, 0, (0, 1), (0, 1)), "one shape"),
])
def test_drivers_refuse(make, words):
    x = np.zeros((1, 3, 3, 1), np.float32)
    with pytest.raises(ValueError, match=words):
        make(Tensor(x.shape, x), Tensor(x.shape, x.copy()))


# ---- layers ----

IMAGE = np.round(np.arange(20) ** 1.5, 1).reshape(1, 4, 5, 1)
# What Keras 3.15 on TensorFlow makes of IMAGE; bounds that are equal leave nothing to chance.
KERAS = {
    "translation": (L.RandomTranslation, {"height_factor": (0.3, 0.3), "width_factor": (-0.5, -0.5)}, [
        [7.31, 10.24, 11.8, 10.24, 7.31], [4.0, 6.6, 8.0, 6.6, 4.0], [17.24, 21.16, 23.2, 21.16, 17.24],
        [39.51, 44.68, 47.32, 44.68, 39.51]]),
    "rotation": (L.RandomRotation, {"factor": (0.1, 0.1)}, [
        [1.474559, 2.974386, 9.843060, 23.312220, 38.735943], [0.675859, 9.320699, 21.944489, 39.733772, 60.134396],
        [8.412679, 21.198750, 37.931778, 58.614120, 78.474503],
        [22.174284, 36.486607, 56.809818, 69.656769, 74.739044]]),
    "nearest": (L.RandomRotation, {"factor": (0.1, 0.1), "fill_mode": "constant", "fill_value": 7.0,
                                   "interpolation": "nearest"}, [
        [7.0, 2.8, 5.2, 27.0, 27.0], [1.0, 14.7, 18.5, 46.9, 52.4], [11.2, 14.7, 41.6, 46.9, 76.4],
        [31.6, 31.6, 64.0, 70.1, 7.0]]),
    "zoom": (L.RandomZoom, {"height_factor": (0.3, 0.3), "width_factor": (-0.2, -0.2), "fill_mode": "constant",
                            "fill_value": 7.0}, [
        [3.37, 3.898, 4.69, 5.746, 6.934], [10.77, 13.345, 16.145, 19.221, 22.486],
        [37.595, 41.675, 45.875, 50.235, 54.706], [36.403, 39.021, 41.705, 44.477, 47.282]]),
    "brightness": (L.RandomBrightness, {"factor": (-0.1, -0.1)}, np.clip(IMAGE[0, :, :, 0] - 25.5, 0, 255)),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras_agrees(name):
    layer, arguments, want = KERAS[name]
    np.testing.assert_allclose(layer(**arguments)(IMAGE, training=True)[0, :, :, 0], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_change_images_in_training_only(name, rng):
    x = rng.random((6, 9, 8, 3)).astype(np.float32)
    layer = getattr(L, name)(**LAYERS[name])
    if name != "RandomCrop":
        assert_same(layer(x), x)
    assert not np.array_equal(layer(x, training=True), x)


@pytest.mark.parametrize("name", LAYERS)
def test_the_seed_repeats_them_on_any_number_of_threads(name, rng):
    x = rng.random((16, 9, 8, 3)).astype(np.float32)
    runs = []
    before = _cpu.get_num_threads()
    for threads in (1, 2, 3):
        fc.set_num_threads(threads)
        fc.seed(4)
        model = fc.Sequential([L.Input((9, 8, 3)), getattr(L, name)(**LAYERS[name])])
        runs.append([model(x, training=True) for _ in range(2)])
    fc.set_num_threads(before)
    assert not np.array_equal(*runs[0]), "each step draws anew"
    for run in runs[1:]:
        assert_same(np.stack(run), np.stack(runs[0]))


def test_flips_mirror_half_of_the_images():
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1).repeat(400, 0)
    fc.seed(1)
    y = L.RandomFlip()(x, training=True)
    kinds = [x[0], x[0, ::-1], x[0, :, ::-1], x[0, ::-1, ::-1]]
    counts = [int((y == kind).all((1, 2, 3)).sum()) for kind in kinds]
    assert sum(counts) == 400 and min(counts) > 70
    assert_same(np.unique(L.RandomFlip("vertical")(x, training=True), axis=0), np.stack([x[0], x[0, ::-1]]))


def test_crops_are_windows_of_the_image():
    x = np.arange(30, dtype=np.float32).reshape(1, 5, 6, 1).repeat(300, 0)
    y = L.RandomCrop(3, 4)(x, training=True)
    top, left = np.divmod(y[:, 0, 0, 0], 6)
    assert {*top} == {0, 1, 2} and {*left} == {0, 1, 2}
    assert_same(y[..., 0], y[:, :1, :1, 0] + (np.arange(3)[:, None] * 6 + np.arange(4)))


def test_crops_in_inference_show_the_middle():
    """The largest part of the window's proportions, halved by averaging its pixels in twos."""
    x = np.arange(32, dtype=np.float32).reshape(1, 4, 8, 1)
    want = x[:, :, 2:6].reshape(1, 2, 2, 2, 2, 1).mean((2, 4))
    assert_same(L.RandomCrop(2, 2)(x), want)
    assert L.RandomCrop(6, 5)(x, training=True).shape == (1, 6, 5, 1)


def test_contrast_takes_its_bounds_on_both_sides():
    x = np.linspace(100, 150, 50, dtype=np.float32).reshape(1, 50, 1, 1).repeat(200, 0)
    spread = np.ptp(L.RandomContrast((0.2, 0.5))(x, training=True), axis=1).ravel() / 50
    assert 0.8 <= spread.min() < 0.85 and 1.45 < spread.max() <= 1.5


def test_training_and_files(tmp_path):
    """Augmentation in a model that trains from bytes, and comes back from a file with all arguments."""
    model = fc.Sequential([L.Input((9, 8, 3)), *(getattr(L, name)(**words) for name, words in LAYERS.items()),
                           L.Rescaling(1 / 255), L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(2)])
    model.compile("sgd", fc.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).integers(0, 256, (10, 9, 8, 3), dtype=np.uint8)
    model.fit(x, np.arange(10) % 2, batch_size=4, epochs=2, verbose=0)
    model.save(tmp_path / "model.safetensors")
    again = fc.load_model(tmp_path / "model.safetensors")
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    assert_same(again.predict(x), model.predict(x))
    assert again.train_on_batch(x, np.arange(10) % 2) == model.train_on_batch(x, np.arange(10) % 2)


def test_no_gradient_passes():
    model = fc.Sequential([L.Conv2D(2, 1, input_shape=(4, 4, 1)), L.RandomFlip(name="flip"), L.Flatten(), L.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="flip: a layer with trainable weights stands before"):
        model.train_on_batch(np.zeros((2, 4, 4, 1)), np.zeros((2, 1)))
    model.layers[0].trainable = False
    model.train_on_batch(np.zeros((2, 4, 4, 1)), np.zeros((2, 1)))


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: L.RandomFlip("sideways", name="r"), ValueError, "r: unknown mode 'sideways'"),
    (lambda: L.RandomRotation(1.5, name="r"), ValueError, "r: factor must be at least -1 and at most 1, got 1.5"),
    (lambda: L.RandomTranslation((0.1,), 0, name="r"), ValueError, "r: height_factor must be two numbers"),
    (lambda: L.RandomZoom("big", name="r"), TypeError, "r: height_factor must be a number"),
    (lambda: L.RandomZoom(0.1, fill_mode="mirror", name="r"), ValueError, "r: unknown fill_mode 'mirror'"),
    (lambda: L.RandomZoom(0.1, interpolation="cubic", name="r"), ValueError, "r: unknown interpolation"),
    (lambda: L.RandomCrop(0, 3, name="r"), ValueError, "r: height must be a whole number of 1 or more"),
    (lambda: L.RandomContrast(-0.1, name="r"), ValueError, "r: factor must be at least 0"),
    (lambda: L.RandomBrightness(0.1, value_range=1, name="r"), ValueError, "r: value_range must be two numbers"),
    (lambda: L.RandomFlip(seed=-1, name="r"), ValueError, "r: seed must lie in 0"),
    (lambda: L.RandomFlip(seed="a", name="r"), TypeError, "r: seed must be a whole number"),
    (lambda: L.RandomFlip(name="r")(L.Input((4, 3))), ValueError, "r: expected an input of shape"),
])
def test_wrong_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()
