"""The theory of stale gradients against closed forms, numerical integration and simulation."""

from __future__ import annotations

import math
import random

import pytest

from asyncpipe.analysis.staleness_theory import (
    drift,
    gradient_bias,
    gradient_bias_bound,
    quadratic_covariance,
    quadratic_sigma_stale,
    sigma,
    stationary_density,
)

GRID = [-6 + 12 * i / 2000 for i in range(2001)]
STEP = GRID[1] - GRID[0]


def test_sigma_is_the_sample_deviation_of_vectors() -> None:
    gradients = [(1.0, 2.0), (3.0, -2.0), (-1.0, 0.0)]
    mean = [sum(column) / 3 for column in zip(*gradients, strict=True)]
    expected = sum((x - m) ** 2 for g in gradients for x, m in zip(g, mean, strict=True)) / 2
    squares = sum(x * x for g in gradients for x in g) / 3
    assert sigma(squares, sum(m * m for m in mean), 3) == pytest.approx(math.sqrt(expected))


def test_sigma_of_equal_gradients_is_zero_in_spite_of_rounding() -> None:
    assert sigma(0.1, math.nextafter(0.1, 1), 5) == 0


def test_sigma_of_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two samples, found 1"):
        sigma(1.0, 1.0, 1)


def test_drift_adds_the_stages_as_orthogonal() -> None:
    assert drift([3.0, 2.0, 7.0], [1, 2, 0]) == 5.0


def test_bias_bound_is_the_fixed_point_of_its_own_inequality() -> None:
    bound = gradient_bias_bound(2.0, 5.0, 0.01, 4)
    assert bound == pytest.approx(5.0 * 0.01 * 4 * (2.0 + bound))
    assert gradient_bias_bound(2.0, 5.0, 0.01, 0) == 0


@pytest.mark.parametrize("staleness", [20, 21, 1000])
def test_bias_is_unbounded_from_a_lr_tau_of_one_on(staleness: int) -> None:
    assert gradient_bias_bound(1.0, 0.5, 0.1, staleness) == math.inf


def test_measured_bias_on_a_quadratic_meets_the_bound_with_equality() -> None:
    assert gradient_bias(4.0, abs(0.7 - 0.2)) == pytest.approx(abs(4 * 0.7 - 4 * 0.2))


def test_density_of_a_quadratic_is_normal_with_variance_lr_noise_squared_over_twice_the_curvature() -> None:
    density = stationary_density(GRID, lambda x: 2.0 * x, lambda x: 3.0, 0.1)
    variance = 0.1 * 9 / (2 * 2.0)
    for x, found in zip(GRID[::50], density[::50], strict=True):
        expected = math.exp(-x * x / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        assert found == pytest.approx(expected, abs=1e-6)


def test_density_counts_noise_that_varies_in_space() -> None:
    """The current mu p - (D p)' vanishes everywhere, to the order of the grid."""
    lr = 0.5
    density = stationary_density(GRID, lambda x: x**3 - x, lambda x: 1 + 0.3 * math.sin(x), lr)
    diffused = [p * (lr * (1 + 0.3 * math.sin(x))) ** 2 / 2 for x, p in zip(GRID, density, strict=True)]
    for i in range(600, 1401, 25):
        x = GRID[i]
        slope = (diffused[i + 1] - diffused[i - 1]) / (2 * STEP)
        assert -lr * (x**3 - x) * density[i] == pytest.approx(slope, abs=1e-4)


def test_density_of_steep_walls_does_not_overflow() -> None:
    density = stationary_density(GRID, lambda x: 1000 * x**3, lambda x: 0.1, 0.001)
    assert sum(density) * STEP == pytest.approx(1)


def test_variance_without_staleness_is_that_of_an_autoregression() -> None:
    assert quadratic_covariance(2.0, 0.1, 3.0, 0) == pytest.approx(0.01 * 9 / (0.2 * 1.8))


@pytest.mark.parametrize("staleness", [0, 1, 2, 5])
def test_covariances_solve_the_equations_of_the_recursion(staleness: int) -> None:
    """r(k+1) = r(k) - x r(|k - tau|), and the equation of the variance, exactly."""
    curvature, lr, noise = 3.0, 0.05, 2.0
    gain = curvature * lr
    values = [quadratic_covariance(curvature, lr, noise, staleness, k) for k in range(staleness + 2)]
    for k in range(staleness + 1):
        assert values[k + 1] == pytest.approx(values[k] - gain * values[staleness - k], rel=1e-12)
    grown = (1 + gain**2) * values[0] - 2 * gain * values[staleness] + (lr * noise) ** 2
    assert grown == pytest.approx(values[0], rel=1e-12)


def test_variance_and_sigma_stale_are_those_of_a_simulation() -> None:
    curvature, lr, noise, staleness = 1.0, 0.1, 1.0, 4
    generator = random.Random(0)
    theta, squares, differences = [0.0] * (staleness + 1), 0.0, 0.0
    count = 200_000
    for _ in range(count):
        new = theta[-1] - lr * (curvature * theta[0] + noise * generator.gauss(0, 1))
        theta = [*theta[1:], new]
        squares += new * new
        differences += (theta[0] - new) ** 2
    assert squares / count == pytest.approx(quadratic_covariance(curvature, lr, noise, staleness), rel=0.04)
    expected = quadratic_sigma_stale(curvature, lr, noise, staleness)
    assert curvature * math.sqrt(differences / count) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("staleness", [0, 1, 4, 30])
def test_variance_grows_without_bound_at_the_limit_of_stability(staleness: int) -> None:
    limit = 2 * math.sin(math.pi / (4 * staleness + 2))
    near = quadratic_covariance(1.0, limit * (1 - 1e-6), 1.0, staleness)
    assert near > 1e4 * quadratic_covariance(1.0, limit / 2, 1.0, staleness)
    assert quadratic_covariance(1.0, limit, 1.0, staleness) == math.inf
    assert quadratic_sigma_stale(1.0, limit, 1.0, staleness) == math.inf


def test_covariance_further_apart_than_the_staleness_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to staleness \\+ 1 = 3, found 4"):
        quadratic_covariance(1.0, 0.1, 1.0, 2, 4)


def test_sigma_stale_is_first_order_in_the_root_of_the_staleness() -> None:
    assert quadratic_sigma_stale(1.0, 1e-4, 2.0, 9) == pytest.approx(1e-4 * 3 * 2.0, rel=2e-3)
