"""The random cases of tests/fuzz, a few of each family; and that its checks notice what is wrong."""

from __future__ import annotations

import os
import runpy

import numpy as np
import pytest

from fastcnn import ops, reference
from tests.fuzz import FAMILIES
from tests.fuzz.__main__ import main
from tests.fuzz.driver import family, generator, run

SEED = int(os.environ.get("FASTCNN_TEST_SEED", "0"))
# A function of the reference that each family calls.
CALLED = {
    "conv2d": "conv2d_weight_grad",
    "conv1d": "conv1d_input_grad",
    "conv3d": "conv3d",
    "transpose": "conv2d_transpose_weight_grad",
    "depthwise": "conv2d_input_grad",
    "dense": "dense_weight_grad",
    "pool": "avg_pool2d_grad",
    "norm": "group_norm_grad",
    "merge": "merge_grad",
    "resize": "upsample2d_grad",
    "activation": "softmax_grad",
    "loss": "softmax_cross_entropy",
    "optimizer": "rmsprop_step",
    "augment": "affine_transform",
    "network": "conv2d_input_grad",
}
each_family = pytest.mark.parametrize("name", FAMILIES)


def spoilt(value):
    """One element wrong by a twentieth of the largest, or where there is none, one element too many."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(spoilt, value))
    value = np.array(value)
    if value.size == 0:
        return np.zeros(np.add(value.shape, 1), value.dtype)
    flat = value.reshape(-1)
    finite = np.flatnonzero(np.isfinite(flat))
    at, largest = (finite[len(finite) // 2], np.abs(flat[finite]).max()) if finite.size else (0, 0)
    step = max(1, largest // 20) if value.dtype.kind == "i" else largest / 20 or 1
    flat[at] = (flat[at] if finite.size else 0) + step
    return value


@each_family
def test_a_few_cases(name):
    assert run(name, 12, SEED).startswith(f"{name}: 12 cases, ")


@each_family
def test_every_comparison_notices_a_wrong_value(name):
    for number in range(2):
        rng = generator(1, number)
        for trial in family(name).trials(family(name).draw(rng), rng):
            results = trial.run()
            assert trial.check() == len(results) > 0
            for key, want in trial.wants.items():
                if 0 < np.abs(want.value).max(initial=0) < 1e-6:
                    continue  # nothing but roundings of what is zero: no twentieth of it can be seen
                with pytest.raises(AssertionError):
                    want.check(spoilt(results[key]))


@each_family
def test_a_wrong_operation_is_found_and_its_case_printed(name, monkeypatch, capsys):
    function = getattr(reference, CALLED[name])
    monkeypatch.setattr(reference, CALLED[name], lambda *args, **words: spoilt(function(*args, **words)))
    with pytest.raises(AssertionError):
        run(name, 30, seed=2)
    printed = capsys.readouterr().err
    assert " of seed 2 fails on " in printed and f"--ops {name} --seed 2 --first " in printed
    monkeypatch.undo()
    number = int(printed.split("--first ")[1].split()[0])
    case = family(name).draw(generator(2, number))
    assert f"threads: {case}\n" in printed
    assert run(name, 1, 2, number).startswith(f"{name}: 1 cases, ")


def test_a_wrong_kernel_is_found(monkeypatch):
    monkeypatch.setattr(ops, "dense", lambda x, w, b=None: -reference.dense(x, w, b).astype(np.float32))
    with pytest.raises(AssertionError, match="dense: .* values differ"):
        run("dense", 5)


@pytest.mark.parametrize("dropped", ["mean of dy", "mean of dy * xhat"])
def test_a_gradient_without_one_of_its_terms_is_found(dropped, monkeypatch):
    """Over two values near -30, where the terms cancel to a thousandth of themselves."""
    def wrong(dy, x, gamma, axis, epsilon):
        rows, slopes = x.reshape(2, 2).astype(np.float64), (dy * gamma[None]).reshape(2, 2)
        inverse = 1 / np.sqrt(rows.var(1, keepdims=True) + epsilon)
        xhat = (rows - rows.mean(1, keepdims=True)) * inverse
        factor = np.ones_like(xhat) if dropped == "mean of dy" else xhat
        missing = (slopes * factor).mean(1, keepdims=True) * factor * inverse
        dx, *others = right(dy, x, gamma, axis, epsilon)
        return (dx + missing.reshape(x.shape)).astype(np.float32), *others

    right = ops.layer_norm_grad
    run("norm", 1, 3, 289)
    monkeypatch.setattr(ops, "layer_norm_grad", wrong)
    with pytest.raises(AssertionError, match=r"layer_norm_grad\[0\]"):
        run("norm", 1, 3, 289)


def test_the_command(monkeypatch, capsys):
    assert main(["--ops", "dense", "resize", "--cases", "2", "--seed", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["dense: 2 cases", "resize: 2 cases"]
    monkeypatch.setattr("sys.argv", ["fuzz_conv", "--cases", "1"])
    with pytest.raises(SystemExit) as done:
        runpy.run_module("tests.fuzz_conv", run_name="__main__")
    assert done.value.code == 0 and capsys.readouterr().out.startswith("conv2d: 1 cases, ")
