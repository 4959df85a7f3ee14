"""The networks of fastcnn.zoo: sizes as published, training as in PyTorch, the same bits on any number of threads."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import initializers, zoo
from fastcnn.kernels import _cpu
from tests import curves, zoo_cases
from tests.check import assert_allocates_nothing

EXAMPLES = zoo_cases.CURVES.parents[1] / "examples"

# Trainable parameters of the default networks: from torchvision's and Keras's documentation, the papers' tables
# (ResNets for small images, to two digits there), and for the U-Net from its formula.
PUBLISHED = {
    "alexnet": 61_100_840, "vgg11": 132_863_336, "vgg13": 133_047_848, "vgg16": 138_357_544, "vgg19": 143_667_240,
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032,
    "resnet20": 269_722, "resnet32": 464_154, "resnet56": 853_018,
    "mobilenet_v1": 4_231_976, "mobilenet_v2": 3_504_872, "unet": 31_030_658,
    "lenet5": 61_706, "simple_cnn": 421_642,
}


@pytest.fixture
def no_values(monkeypatch):
    """Weights that are never touched: nobody waits for 138 million random numbers."""
    monkeypatch.setattr(initializers.Initializer, "__call__", lambda self, shape, rng=None: np.zeros(shape, np.float32))


# ------------------------------------------------------------------------------------------ shapes and sizes


@pytest.mark.parametrize("name", zoo.__all__)
def test_parameters_are_as_many_as_published(name, no_values):
    model = getattr(zoo, name)()
    assert sum(v.value.size for v in model.trainable_weights) == PUBLISHED[name]


def test_parameters_as_keras_counts_them(no_values):
    """With the moving statistics; narrower networks as well."""
    assert zoo.mobilenet_v1().count_params() == 4_253_864
    assert zoo.mobilenet_v2().count_params() == 3_538_984
    assert zoo.mobilenet_v1(alpha=0.25).count_params() == 475_544
    assert zoo.mobilenet_v2(alpha=0.35).count_params() == 1_691_208


def test_parameters_of_a_normalised_unet(no_values):
    """As many as in the widely used PyTorch implementation of milesial."""
    model = zoo.unet((64, 64, 3), 1, batch_norm=True)
    assert sum(v.value.size for v in model.trainable_weights) == 31_037_633


def test_simple_cnn():
    model = zoo.simple_cnn((32, 32, 3), 7)
    assert model.output_shape == (None, 7)
    assert [w.shape for w in model.weights][::2] == [(3, 3, 3, 32), (3, 3, 32, 64), (4096, 128), (128, 7)]


@pytest.mark.parametrize("size", [28, 32])
def test_lenet5_has_the_maps_of_the_paper(size):
    model = zoo.lenet5((size, size, 1), 10)
    shapes = [layer.output_shape[1:] for layer in model.layers[:5]]
    assert shapes == [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (1, 1, 120)]


def test_a_residual_network_starts_as_large_and_ends_four_times_smaller():
    model = zoo.resnet20((30, 32, 3), width=4)
    sums = [layer.output_shape[1:] for layer in model.layers if layer.name.startswith("add")]
    assert sums == [(30, 32, 4)] * 3 + [(15, 16, 8)] * 3 + [(8, 8, 16)] * 3


@pytest.mark.parametrize("name", [name for name in zoo.__all__ if name not in ("alexnet", "unet")])
def test_digits_fit(name):
    """`fastcnn train --model NAME` takes 28x28 pixels."""
    words = {"alpha": 0.125} if "mobile" in name else {"width": 6, "units": 6} if "vgg" in name else {"width": 6}
    assert getattr(zoo, name)((28, 28, 1), 10, **words).output_shape == (None, 10)


def test_images_that_do_not_fit():
    with pytest.raises(ValueError, match="max_pooling2d"):
        zoo.alexnet((28, 28, 1), 10, width=2)
    with pytest.raises(ValueError, match="unet: height and width must be multiples of 16 for depth 4, got"):
        zoo.unet((24, 32, 1), width=2)


def test_a_residual_network_survives_a_file(tmp_path):
    model, (x, _) = zoo_cases.make("resnet20"), zoo_cases.data("resnet20")
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(fc.load_model(tmp_path / "model.safetensors").predict(x), model.predict(x))


# ------------------------------------------------------------------------------------------ examples


def test_resnet20_example():
    main = runpy.run_path(str(EXAMPLES / "resnet20_mnist.py"))["main"]
    assert main(epochs=1, samples=64, batch_size=32) > 0.05  # chance is 0.1; all of it, eight times, gives 0.98


def test_unet_example(tmp_path):
    pytest.importorskip("matplotlib")
    example = runpy.run_path(str(EXAMPLES / "unet_segmentation.py"))
    iou = example["main"](pictures=40, epochs=1, width=4, picture=tmp_path / "masks.png")
    assert 0 < iou < 1  # 2,000 pictures, nine times, give 0.7
    assert (tmp_path / "masks.png").stat().st_size > 10_000


def test_pictures_of_the_unet_example():
    """Ink is brighter than noise, and classes are those of the digits pasted."""
    example = runpy.run_path(str(EXAMPLES / "unet_segmentation.py"))
    digits, labels = fc.datasets.mnist_5k.load_data()[1]
    sevens = digits[labels == 7]
    x, y = example["make_pictures"](20, sevens, np.full(len(sevens), 7), seed=0)
    assert set(np.unique(y)) == {0, 8}
    assert x[..., 0][y == 8].mean() > 0.5 > abs(x[..., 0][y == 0].mean())
    assert example["mean_iou"](y, y) == 1.0


# ------------------------------------------------------------------------------------------ agreement with PyTorch


def tolerance(name: str) -> float:
    """Relative; batch normalisation divides by deviations, and so makes rounding errors larger."""
    return 1e-3 if name.startswith(("resnet", "mobilenet")) else 1e-4


@pytest.mark.parametrize("name", zoo.__all__)
def test_training_agrees_with_stored_results_of_pytorch(name):
    """Forward, all gradients, ten steps of Adam; `python -m tools.make_zoo_curves` stores them."""
    wanted = json.loads(zoo_cases.CURVES.read_text())[name]
    curves.assert_digests_agree(curves.digest(zoo_cases.train(name)), wanted, tolerance(name))


@pytest.fixture(scope="module")
def from_torch():
    """What PyTorch computes now; FASTCNN_TORCH_PYTHON names a Python that has it, if this one does not."""
    python = curves.peer_python("FASTCNN_TORCH_PYTHON", "torch")
    if python is None:
        pytest.skip("no PyTorch here, and no FASTCNN_TORCH_PYTHON")
    return zoo_cases.train_in_torch(python)


@pytest.mark.parametrize("name", zoo.__all__)
def test_training_agrees_with_pytorch(name, from_torch):
    """The same, value for value."""
    curves.assert_results_agree(zoo_cases.train(name), from_torch[name], tolerance(name))


# ------------------------------------------------------------------------------------------ threads, memory


def trained_bits(name: str, steps: int = 2) -> bytes:
    """Weights and predictions after some steps."""
    model, (x, y) = zoo_cases.make(name), zoo_cases.data(name)
    model.compile("adam", "sparse_categorical_crossentropy")
    losses = [model.train_on_batch(x, y) for _ in range(steps)]
    return b"".join([*(w.tobytes() for w in model.get_weights()), model.predict(x).tobytes(), repr(losses).encode()])


@pytest.mark.parametrize("name", zoo.__all__)
def test_threads_do_not_change_a_bit(name, two_threads):
    found = []
    for threads in (1, 2, 3):
        _cpu.set_num_threads(threads)
        found.append(trained_bits(name))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2", "unet"])
def test_a_steady_step_allocates_nothing(name):
    model, (x, y) = zoo_cases.make(name), zoo_cases.data(name)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    assert_allocates_nothing(model._plan("train", len(x)), runs=10)


def test_two_python_threads_train_networks_with_branches(two_threads):
    """At the same time, and with the bits they get one after the other."""
    wanted, found = {name: trained_bits(name, 4) for name in ("resnet20", "mobilenet_v2")}, {}

    def train(name):
        found[name] = trained_bits(name, 4)

    workers = [threading.Thread(target=train, args=(name,)) for name in wanted]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    assert found == wanted


FORK = """
import os, sys
import fastcnn
from fastcnn.plan import plan
from tests.test_zoo import trained_bits

plan.SERIAL_WORK = 0
fastcnn.set_num_threads(2)
wanted = trained_bits("resnet20")  # the parent's worker threads exist before the fork
child = os.fork()
if child == 0:
    os._exit(0 if trained_bits("resnet20") == wanted and fastcnn.get_num_threads() == 1 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_trains_a_network_with_branches():
    root = zoo_cases.CURVES.parents[1]
    package = os.path.dirname(os.path.dirname(fc.__file__))
    path = os.pathsep.join([package, str(root)])
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
