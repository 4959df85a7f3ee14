"""Optimisers: some steps of every one, with decay, clipping and frozen weights, from given gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn import layers, optimizers, reference
from tests.fuzz.step import GivenGradient
from tests.fuzz.trial import Trial, Want, channels, choose, normal, whole

Rule = Callable[..., tuple[np.ndarray, dict[str, Any]]]


@dataclass(frozen=True)
class Case:
    """`steps` of weights (rows, units), with `words` for every optimiser and `own` for each."""

    rows: int
    units: tuple[int, ...]
    frozen: bool
    steps: int
    words: dict[str, Any]
    own: dict[str, dict[str, Any]]


def draw(rng: np.random.Generator) -> Case:
    units = tuple(channels(rng, choose(rng, (33, 600))) for _ in range(2))
    clip = choose(rng, [{}, {"clipnorm": 1.5}, {"clipvalue": 0.7}, {"global_clipnorm": 2.0}])
    words = {"learning_rate": choose(rng, (0.001, 0.03, 0.5)), "weight_decay": choose(rng, (None, 0.004, 0.1)), **clip}
    betas = {"beta_1": choose(rng, (0.9, 0.5)), "beta_2": choose(rng, (0.999, 0.9))}
    epsilon, momentum, rho = choose(rng, (1e-7, 1e-2)), choose(rng, (0.0, 0.9)), choose(rng, (0.9, 0.6))
    return Case(whole(rng, 1, 20), units, bool(rng.random() < 0.2), whole(rng, 1, 4), words, {
        "SGD": {"momentum": momentum, "nesterov": bool(rng.random() < 0.5)},
        "Adam": {**betas, "epsilon": epsilon}, "AdamW": {**betas, "epsilon": epsilon},
        "Nadam": {**betas, "epsilon": epsilon},
        "RMSprop": {"rho": rho, "momentum": momentum, "epsilon": epsilon, "centered": bool(rng.random() < 0.5)},
        "Adagrad": {"initial_accumulator_value": choose(rng, (0.1, 1.0)), "epsilon": epsilon},
        "Adadelta": {"rho": rho, "epsilon": epsilon}})


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    for name, own in case.own.items():
        words = {**case.words, **own}
        if name == "AdamW" and words["weight_decay"] is None:
            words.pop("weight_decay")
        yield steps(case, name, words, rng)


def model_of(case: Case) -> fc.Model:
    """Dense layers side by side: where x is the unit matrix, gradients of their results are those of their weights."""
    x = fc.Input((case.rows,))
    outputs = [layers.Dense(units, use_bias=False)(x) for units in case.units]
    model = fc.Model(x, outputs)
    model.layers[-1].trainable = not case.frozen
    return model


def steps(case: Case, name: str, words: dict[str, Any], rng: np.random.Generator) -> Trial:
    """The weights after the last step."""
    model = model_of(case)
    start = [normal(rng, (case.rows, units)) for units in case.units]
    gradients = [[normal(rng, w.shape) for w in start] for _ in range(case.steps)]
    want, moved = textbook(case, name, words, start, gradients)
    ulps = 400.0 if words.get("centered") else 16.0  # a centered second moment is a difference
    wants = {f"{name} weights {i}": Want(w, case.steps, np.abs(start[i]) + moved[i], ulps) for i, w in enumerate(want)}

    def run():
        model.set_weights(start)
        model.compile(getattr(optimizers, name)(**words), [GivenGradient() for _ in start])
        for given in gradients:
            model.train_on_batch(np.eye(case.rows, dtype=np.float32), given)
        return {f"{name} weights {i}": w for i, w in enumerate(model.get_weights())}

    return Trial(run, wants)


def textbook(case: Case, name: str, words: dict[str, Any], start: list[np.ndarray],
             gradients: list[list[np.ndarray]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(weights after the last step, sum of the magnitudes of their changes), in float64."""
    trained = len(start) - case.frozen
    weights = [w.astype(np.float64) for w in start]
    moved, states = [np.zeros(w.shape) for w in start], [initial(name, words)] * len(start)
    rest = {key: value for key, value in words.items() if "clip" not in key and key != "initial_accumulator_value"}
    for number, given in enumerate(gradients, 1):
        clipped = clip([g.astype(np.float64) for g in given[:trained]], words)
        for i, g in enumerate(clipped):
            counted = (number,) if name in ("Adam", "AdamW", "Nadam") else ()
            rule = getattr(reference, f"{name.lower()}_step")
            new, *states[i] = rule(weights[i], g, *states[i], *counted, **rest)
            moved[i] += np.abs(new - weights[i])
            weights[i] = new
    return weights, moved


def initial(name: str, words: dict[str, Any]) -> list[Any]:
    """The state before the first step, as the rule takes it."""
    if name == "Adagrad":
        return [words["initial_accumulator_value"]]
    return [0.0] * {"SGD": 1, "RMSprop": 3}.get(name, 2)


def clip(gradients: list[np.ndarray], words: dict[str, Any]) -> list[np.ndarray]:
    """The gradients within the bound that `words` ask for."""
    if "clipvalue" in words:
        return [np.clip(g, -words["clipvalue"], words["clipvalue"]) for g in gradients]
    norms = [np.sqrt((g * g).sum()) for g in gradients]
    if "global_clipnorm" in words:
        norms = [np.sqrt(sum(norm**2 for norm in norms))] * len(norms)
    limit = words.get("clipnorm", words.get("global_clipnorm", np.inf))
    return [g * min(1.0, limit / norm) for g, norm in zip(gradients, norms, strict=True)]
