"""Initial weights: their distribution, their shape, and who may make them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastcnn import initializers, random

SHAPE = (3, 3, 64, 96)  # fans 576 and 864
FAN_IN, FAN_OUT = 576, 864


def draw(initializer, shape=SHAPE):
    return initializers.get(initializer)(shape, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((7,), (7, 7)), ((5, 7), (5, 7)), ((3, 5, 7), (15, 21)), (SHAPE, (FAN_IN, FAN_OUT))],
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


@pytest.mark.parametrize(
    ("name", "variance", "bound"),
    [
        ("glorot_uniform", 2 / (FAN_IN + FAN_OUT), math.sqrt(6 / (FAN_IN + FAN_OUT))),
        ("he_uniform", 2 / FAN_IN, math.sqrt(6 / FAN_IN)),
        ("lecun_uniform", 1 / FAN_IN, math.sqrt(3 / FAN_IN)),
        ("glorot_normal", 2 / (FAN_IN + FAN_OUT), 2 * math.sqrt(2 / (FAN_IN + FAN_OUT)) / 0.87962566),
        ("he_normal", 2 / FAN_IN, 2 * math.sqrt(2 / FAN_IN) / 0.87962566),
        ("lecun_normal", 1 / FAN_IN, 2 * math.sqrt(1 / FAN_IN) / 0.87962566),
        ("random_uniform", 0.1**2 / 12, 0.05),
        ("truncated_normal", (0.05 * 0.87962566) ** 2, 0.1),
        ("random_normal", 0.05**2, math.inf),
    ],
)
def test_distribution(name, variance, bound):
    values = draw(name)
    assert values.dtype == np.float32 and values.shape == SHAPE
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    if bound < math.inf:
        assert np.abs(values).max() > 0.99 * bound
    assert values.std() ** 2 == pytest.approx(variance, rel=0.02)
    assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)


def test_untruncated_normal_has_the_same_variance_and_tails():
    values = draw(initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal"))
    assert values.std() ** 2 == pytest.approx(1 / FAN_IN, rel=0.02)
    assert np.abs(values).max() > 3.5 / math.sqrt(FAN_IN)


def test_constants():
    np.testing.assert_array_equal(draw("zeros", (2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(draw("ones", (2, 3)), np.ones((2, 3)))
    np.testing.assert_array_equal(draw(initializers.Constant(2.5), (2, 3)), np.full((2, 3), 2.5))
    np.testing.assert_array_equal(draw(initializers.Constant([1, 2, 3]), (2, 3)), [[1, 2, 3], [1, 2, 3]])
    with pytest.raises(ValueError, match=r"value of shape \(3,\) does not fit a weight of shape \(2,\)"):
        draw(initializers.Constant([1, 2, 3]), (2,))


def test_a_constant_is_new_each_time():
    constant = initializers.Constant(1.0)
    constant((3,))[:] = 7
    np.testing.assert_array_equal(constant((3,)), 1.0)


@pytest.mark.parametrize("shape", [(8, 8), (20, 8), (8, 20), (3, 3, 4, 16)])
def test_orthogonal(shape):
    matrix = draw(initializers.Orthogonal(gain=2.0), shape).reshape(-1, shape[-1]).astype(np.float64)
    product = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(product, 4.0 * np.eye(len(product)), atol=1e-5)


def test_orthogonal_prefers_no_sign():
    rng = np.random.default_rng(0)
    corners = [initializers.Orthogonal()((4, 4), rng)[0, 0] > 0 for _ in range(200)]
    assert 70 < sum(corners) < 130


def test_orthogonal_refuses_vectors():
    with pytest.raises(ValueError, match="Orthogonal"):
        draw("orthogonal", (5,))


def test_where_randomness_comes_from():
    normal = initializers.HeNormal()
    random.seed(1)
    first = normal((4, 4))
    assert not np.array_equal(normal((4, 4)), first)
    random.seed(1)
    np.testing.assert_array_equal(normal((4, 4)), first)
    seeded = initializers.HeNormal(seed=9)
    np.testing.assert_array_equal(seeded((4, 4)), seeded((4, 4)))


def test_functions_are_initializers():
    np.testing.assert_array_equal(draw(lambda shape, rng: np.full(shape, 3), (2, 2)), np.full((2, 2), 3.0))
    wrong = initializers.get(lambda shape, rng: np.zeros(5))
    with pytest.raises(ValueError, match=r"asked for shape \(2, 2\), got \(5,\)"):
        wrong((2, 2))
    with pytest.raises(TypeError, match="cannot be written to a file"):
        wrong.get_config()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: initializers.VarianceScaling(mode="fan_inn"), "Did you mean 'fan_in'"),
        (lambda: initializers.VarianceScaling(distribution="gauss"), "unknown distribution 'gauss'"),
        (lambda: initializers.VarianceScaling(scale=0), "scale must be above 0"),
        (lambda: initializers.RandomNormal(stddev=-1), "stddev must be at least 0"),
        (lambda: initializers.RandomUniform(1, 0), "maxval must be at least 1"),
        (lambda: initializers.get("glorot_unifrom", "Dense"), "Dense: .*Did you mean 'glorot_uniform'"),
    ],
)
def test_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_none_is_not_an_initializer():
    with pytest.raises(TypeError, match="initializer"):
        initializers.get(None)
