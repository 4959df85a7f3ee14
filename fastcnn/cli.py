"""The command line: `fastcnn train`, `evaluate`, `predict`, `bench` and `doctor`."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn import datasets, doctor, reference, zoo
from fastcnn.datasets import image_folder
from fastcnn.errors import CheckpointError, unknown_name
from fastcnn.kernels import _cpu
from fastcnn.models import Model
from fastcnn.optimizers import Adam
from fastcnn.schedules import OneCycle

DATASETS: dict[str, Any] = {name: getattr(datasets, name) for name in
                            ("mnist_5k", "mnist", "fashion_mnist", "cifar10")}
CLASS_NAMES = {
    "fashion_mnist": ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
                      "bag", "ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
MODELS: dict[str, Callable[..., Model]] = {name: getattr(zoo, name) for name in zoo.__all__ if name != "unet"}
DATASET_HELP = f"{', '.join(DATASETS)}, or a folder with a sub-folder of images for each class"
USER_ERRORS = (ValueError, TypeError, OSError, ImportError, MemoryError, CheckpointError)
INTERRUPTED = 130  # what shells report for Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeds, 1 if `doctor` finds a fault, 2 for wrong input, 130 after Ctrl-C."""
    arguments = make_parser().parse_args(argv)
    try:
        if arguments.threads is not None:
            fastcnn.set_num_threads(arguments.threads)
        return arguments.run(arguments) or 0
    except USER_ERRORS as error:
        print(f"fastcnn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastcnn: interrupted", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser("fastcnn", description="Convolutional neural networks on the CPU.")
    parser.add_argument("--version", action="version", version=f"fastcnn {fastcnn.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = _command(commands, "train", train, "train a model on images")
    command.add_argument("--dataset", default="mnist_5k", help=f"{DATASET_HELP} (default: %(default)s)")
    command.add_argument("--model", default="simple_cnn", help=f"{', '.join(MODELS)} (default: %(default)s)")
    command.add_argument("--epochs", type=_count, default=5,
                         help="passes over the data (default: %(default)s)")
    command.add_argument("--batch-size", type=_count, default=64, help="(default: %(default)s)")
    command.add_argument("--learning-rate", type=float, default=0.003,
                         help="of Adam at the peak of its one cycle (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0,
                         help="of weights and order; one seed gives one result (default: %(default)s)")
    command.add_argument("--image-size", type=_count, metavar="PIXELS",
                         help="scale the images of a folder to squares of this size")
    command.add_argument("--save", type=Path, metavar="PATH",
                         help="write the trained model, a .safetensors file")

    command = _command(commands, "evaluate", evaluate, "test accuracy of a saved model")
    command.add_argument("model", metavar="MODEL", help="a .safetensors file")
    command.add_argument("--dataset", default="mnist_5k", help=f"{DATASET_HELP} (default: %(default)s)")

    command = _command(commands, "predict", predict, "classify image files with a saved model")
    command.add_argument("model", metavar="MODEL", help="a .safetensors file")
    command.add_argument("images", metavar="IMAGE", nargs="+",
                         help="image file, scaled to the model's input size, values 0 to 1")
    command.add_argument("--dataset", help="name the classes as this data set does: " + DATASET_HELP)

    command = _command(commands, "bench", bench, "time training steps of a small network, a few seconds")
    command.add_argument("--model", default="simple_cnn", help=f"{', '.join(MODELS)} (default: %(default)s)")
    command.add_argument("--batch-size", type=_count, default=64, help="(default: %(default)s)")
    command.add_argument("--profile", action="store_true", help="show where the time goes, by layer and pass")
    command.add_argument("--plot", metavar="PATH", help="draw the profile under the machine's roofline, an image file")

    _command(commands, "doctor", doctor_command, "show this installation and check that it computes right")
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int | None],
             help: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    command.set_defaults(run=run)
    command.add_argument("--threads", type=_count, help="number of threads (default: all CPUs allowed)")
    return command


def _count(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


# ------------------------------------------------------------------------------------------ commands


def train(arguments: argparse.Namespace) -> None:
    """Train with Adam and one cycle of its learning rate, test, and save if asked to."""
    make = _choose("model", arguments.model, MODELS)
    if arguments.save is not None:
        _check_writable(arguments.save)
    (x, y), (x_test, y_test) = load_dataset(arguments.dataset, arguments.image_size)
    fastcnn.seed(arguments.seed)
    model = make(x.shape[1:], int(y.max()) + 1)
    rate = OneCycle(arguments.learning_rate, arguments.epochs * -(-len(x) // arguments.batch_size))
    model.compile(Adam(rate), "sparse_categorical_crossentropy", ["accuracy"])
    print(f"{arguments.model} on {arguments.dataset}: {len(x)} images of {_times(x.shape[1:])} to train, "
          f"{len(x_test)} to test; {model.count_params():,} parameters; {machine()}")
    start = time.perf_counter()
    model.fit(x, y, batch_size=arguments.batch_size, epochs=arguments.epochs)
    seconds = time.perf_counter() - start
    if arguments.save is not None:
        model.save(arguments.save)
    accuracy = model.evaluate(x_test, y_test, return_dict=True, verbose=0)["accuracy"]
    print(f"Test accuracy: {accuracy:.4f}   Time: {seconds:.1f} s")


def evaluate(arguments: argparse.Namespace) -> None:
    """Accuracy of a saved model on the test images of a data set."""
    model, shape = load_classifier(arguments.model)
    _, (x, y) = load_dataset(arguments.dataset, shape[:2], shape[2])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    accuracy = model.evaluate(x, y, return_dict=True, verbose=0)["accuracy"]
    print(f"Test accuracy: {accuracy:.4f}   ({len(x)} images)")


def predict(arguments: argparse.Namespace) -> None:
    """The most probable class of each image file."""
    model, shape = load_classifier(arguments.model)
    names = class_names(arguments.dataset)
    mode = color_mode(shape[2])
    images = [image_folder.read_image(Path(path), mode, shape[:2], "predict") for path in arguments.images]
    for path, scores in zip(arguments.images, probabilities(model.predict(scaled(images))), strict=True):
        label = int(scores.argmax())
        name = names[label] if label < len(names) else str(label)
        print(f"{path}: {name}  {scores[label]:.4f}")


def bench(arguments: argparse.Namespace) -> None:
    """Median time of a training step on random images and what that means per second, or where it goes."""
    make, n = _choose("model", arguments.model, MODELS), arguments.batch_size
    fastcnn.seed(0)
    model = make((28, 28, 1), 10)
    model.compile("adam", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.random((n, 28, 28, 1), np.float32), rng.integers(0, 10, n)
    if arguments.profile or arguments.plot:
        profile = model.profile(x, y)
        print(profile)
        if arguments.plot:
            profile.plot(arguments.plot)
        return
    times = _step_times(lambda: model.train_on_batch(x, y))
    step = statistics.median(times)
    print(f"{arguments.model}, images of 28x28x1, batch {n}; {machine()}")
    print(f"{1e3 * step:.2f} ms per training step (median of {len(times)}, fastest {1e3 * min(times):.2f})   "
          f"{n / step:,.0f} images/s   {n * training_flops(model) / step / 1e9:.1f} GFLOP/s")


def doctor_command(arguments: argparse.Namespace) -> int:
    """What is installed, and whether it computes right."""
    print(fastcnn.config_text())
    return 0 if doctor.check_installation() else 1


# ------------------------------------------------------------------------------------------ what they share


def load_dataset(name: str, size: int | tuple[int, int] | None = None, channels: int = 3):
    """(x_train, y_train), (x_test, y_test), values 0 to 1; a folder's images are scaled to `size` pixels."""
    if name in DATASETS:
        parts = DATASETS[name].load_data()
    elif Path(name).is_dir():
        size = (size, size) if isinstance(size, int) else size
        parts = image_folder.load_data(name, size, color_mode(channels))
    else:
        raise ValueError(f"{unknown_name('data set', name, DATASETS)} Or give an existing folder of images.")
    return [(scaled(x), y) for x, y in parts]


def scaled(images: Any) -> np.ndarray:
    """Bytes as float32 values from 0 to 1."""
    return np.asarray(images, np.float32) / 255


def load_classifier(path: str) -> tuple[Model, tuple[int, int, int]]:
    """A saved model of one image to several classes, and the shape of the image."""
    model = fastcnn.load_model(path)
    given, made = model.input_shape, model.output_shape
    is_image, is_classes = (isinstance(shape, tuple) and len(shape) == axes
                            for shape, axes in ((given, 4), (made, 2)))
    if not is_image or not is_classes or made[1] < 2:
        raise ValueError(f"'{path}' must be a model from images (batch, height, width, channels) to two or "
                         f"more classes (batch, classes), its shapes are {given} and {made}")
    return model, given[1:]


def probabilities(scores: np.ndarray) -> np.ndarray:
    """The scores (images, classes), through softmax unless they are probabilities already."""
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-4):
        return scores
    return reference.softmax(scores)


def class_names(dataset: str | None) -> Sequence[str]:
    """Names of the classes of a data set or a folder; empty where they are numbers."""
    if dataset is None or dataset in DATASETS:
        return CLASS_NAMES.get(dataset or "", ())
    return image_folder.class_names(dataset)


def color_mode(channels: int) -> str:
    """What image files are read as, for a model with that many input channels."""
    modes = {1: "grayscale", 3: "rgb", 4: "rgba"}
    if channels not in modes:
        raise ValueError(f"the model takes images of {channels} channels; image files have 1, 3 or 4")
    return modes[channels]


def machine() -> str:
    """Threads and instruction set, for a line of output."""
    threads = fastcnn.get_num_threads()
    return f"{threads} thread{'s' * (threads > 1)}, {_cpu.isa()}"


def training_flops(model: Model) -> int:
    """Floating-point operations of a training step per image, two per multiply-add.

    Each layer with weights computes its output, its weight gradient and its input gradient with as many; the
    first one needs no input gradient.
    """
    work = [node.layer.flops(node.outputs[0].shape) for node in model.graph.nodes if node.layer.variables]
    return 3 * sum(work) - work[0]


def _step_times(step: Callable[[], Any], seconds: float = 2.0) -> list[float]:
    """Times of single calls in seconds, for so long, after a few that do not count."""
    for _ in range(3):
        step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def _choose(kind: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise unknown_name(kind, name, table)
    return table[name]


def _check_writable(path: Path) -> None:
    """Before hours of training, not after."""
    if path.suffix != ".safetensors":
        raise ValueError(f"--save: the file name must end in '.safetensors', got '{path}'")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"--save: no folder '{path.resolve().parent}'; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"--save: '{path}' is a folder; give the name of a file")


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
