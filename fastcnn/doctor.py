"""Checks of an installation: every kernel this machine can run, threads, and a training run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from fastcnn import ops, random, reference
from fastcnn.kernels import _cpu
from fastcnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from fastcnn.models import Sequential

# (n, h, w, in_channels), (kh, kw, in_channels, filters), options: tails of tiles, strides, padding, dilation.
CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 9, 11, 3), (3, 3, 3, 33), {"padding": "same"}),
    ((1, 8, 17, 16), (1, 1, 16, 31), {}),
    ((2, 13, 10, 5), (5, 3, 5, 17), {"strides": 2, "padding": "same"}),
    ((3, 7, 9, 8), (3, 2, 8, 7), {"dilation": 2, "padding": ((1, 2), (0, 3))}),
    ((2, 6, 6, 12), (3, 3, 6, 16), {"groups": 2}),
]


def check_installation(report: Callable[[str], None] = print) -> bool:
    """Run all checks; each gives a line that ends in OK or FAIL. Whether all are OK.

    The kernels of each usable instruction set must agree exactly with `fastcnn.reference` on whole numbers;
    training must give the same bits on one thread and on several, and lower the loss.
    """
    checks: list[tuple[str, Callable[[], str]]] = [(f"kernels {isa}", partial(check_kernels, isa))
                                                   for isa in _cpu.isas()]
    checks += [("threads", check_threads), ("training", check_training)]
    return all([_is_ok(name, check, report) for name, check in checks])  # a list: every check runs


def _is_ok(name: str, check: Callable[[], str], report: Callable[[str], None]) -> bool:
    """Report what a check found: it returns a sentence, or raises an exception when it fails."""
    try:
        found, verdict = check(), "OK"
    except Exception as error:  # whatever went wrong, the report must say it and go on
        found, verdict = f"{type(error).__name__}: {error}", "FAIL"
    report(f"{name:<16} {found}  {verdict}")
    return verdict == "OK"


def check_kernels(isa: str) -> str:
    """Forward pass and both gradients of a few convolutions, on integers, for which float32 is exact."""
    rng = np.random.default_rng(0)
    with selected_isa(isa):
        for x_shape, w_shape, options in CONVOLUTIONS:
            x, w = (rng.integers(-7, 8, shape).astype(np.float32) for shape in (x_shape, w_shape))
            y = reference.conv2d(x, w, **options)
            dy = rng.integers(-7, 8, y.shape).astype(np.float32)
            _same("conv2d", ops.conv2d(x, w, **options), y)
            for name, arguments in (("conv2d_input_grad", (dy, w, x_shape)),
                                    ("conv2d_weight_grad", (x, dy, w_shape[:2]))):
                _same(name, getattr(ops, name)(*arguments, **options),
                      getattr(reference, name)(*arguments, **options))
    return f"{len(CONVOLUTIONS)} convolutions and their gradients equal the reference"


def _same(name: str, got: np.ndarray, want: np.ndarray) -> None:
    wrong = np.count_nonzero(got != want)
    if got.shape != want.shape or wrong:
        raise AssertionError(f"{name} of shape {got.shape} differs from the reference in {wrong} of "
                             f"{want.size} values")


def check_threads() -> str:
    """The same weights after a few steps of training on 1, 2 and 4 threads."""
    results = []
    for threads in (1, 2, 4):
        with number_of_threads(threads):
            results.append(b"".join(w.tobytes() for w in _train()[0]))
    if len(set(results)) > 1:
        raise AssertionError("training on 1, 2 and 4 threads does not give the same bits")
    if not _cpu.openmp():
        return "this build is serial (no OpenMP)"
    return "training on 1, 2 and 4 threads gives the same bits"


def check_training() -> str:
    """The loss must fall, and stay finite."""
    losses = _train(epochs=8)[1]
    if not losses[-1] < 0.5 * losses[0]:
        raise AssertionError(f"the loss did not fall: {losses[0]:.3f} at first, {losses[-1]:.3f} at the end")
    return f"loss falls from {losses[0]:.3f} to {losses[-1]:.3f}"


def _train(epochs: int = 2) -> tuple[list[np.ndarray], list[float]]:
    """(weights, losses) of a small network that learns which quarter of an image is bright."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 96)
    x = rng.random((96, 12, 12, 1), np.float32)
    for image, label in zip(x, y, strict=True):
        image[6 * (label // 2):, 6 * (label % 2):][:6, :6] += 1.0
    with repeatable():
        model = Sequential([Conv2D(16, 3, padding="same", activation="relu", input_shape=(12, 12, 1)),
                            MaxPooling2D(2), Dropout(0.1), Flatten(), Dense(4, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        history = model.fit(x, y, batch_size=20, epochs=epochs, verbose=0).history
    return model.get_weights(), history["loss"]


@contextmanager
def selected_isa(isa: str) -> Iterator[None]:
    """Use the kernels of one instruction set in this block."""
    before = _cpu.isa()
    _cpu.select_isa(isa)
    try:
        yield
    finally:
        _cpu.select_isa(before)


@contextmanager
def number_of_threads(threads: int) -> Iterator[None]:
    """Use that many threads in this block."""
    before = _cpu.get_num_threads()
    _cpu.set_num_threads(threads)
    try:
        yield
    finally:
        _cpu.set_num_threads(before)


@contextmanager
def repeatable() -> Iterator[None]:
    """Random numbers that are the same every time; afterwards the global generator is where it was."""
    before = random.generator().bit_generator.state
    random.seed(0)
    try:
        yield
    finally:
        random.generator().bit_generator.state = before
