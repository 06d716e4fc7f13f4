"""What asynchronous updates settle into in a double well, beside the laws that the theory of arXiv 2410.05985 gives.

p* ~ exp(h), h = the integral of drift / diffusion, minus log diffusion (`staleness_theory.stationary_density`), with

    A  drift -U', noise sigma_sgd                         no staleness (its equation 7)
    B  drift -U', noise sqrt(sigma_sgd^2 + sigma_stale^2) staleness as independent noise (its equation 12)
    C  drift -U' (1 - lr * staleness * U''), noise sigma_sgd    staleness as the weaker pull that it is to first order

sigma_stale is measured: Var[U'(theta as read) - U'(theta now) | theta now], the form in which B is best off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from double_well import BINS, SPAN, WELL, Observed, curvature, gradient, observe
from stable_rates import CONSTANT, schedule_of

from asyncpipe.analysis.staleness_theory import quadratic_covariance, quadratic_sigma_stale, stationary_density
from asyncpipe.compiler import compile_schedule
from asyncpipe.schedule import Schedule, load

__all__ = ["CENTRES", "LR", "SIGMA", "Row", "measure", "rows"]

LR = 0.05
SIGMA = 1.9
"""With LR it makes the temperature lr * sigma^2 / 2 a third of the barrier."""
FINE = 10
"""Points of a law in one bin."""
CENTRES = [(i + 0.5) * 2 * SPAN / BINS - SPAN for i in range(BINS)]
HOGWILD = "streams: {worker: {runs: [F, B, U], count: 8}}\nrules: ['U[s, g] after B[0, hi]']\nupdate: {write: racy}"


@dataclass(frozen=True)
class Row:
    name: str
    schedule: Schedule


def rows(smoke: bool) -> Iterator[Row]:
    for staleness in (0, 4) if smoke else (0, 1, 2, 4, 8, 12, 16, 20, 24):
        yield Row(f"staleness {staleness}", schedule_of(CONSTANT.format(staleness)))
    if not smoke:
        yield Row("async-lu", load("async-lu"))
        yield Row("hogwild, 8 workers", schedule_of(HOGWILD))


def measure(row: Row, updates: int, copies: int, seed: int) -> dict[str, Any]:
    staleness = compile_schedule(row.schedule, 1).staleness
    lag = float(staleness.apply[0])
    seen = observe(row.schedule, LR, SIGMA, updates, copies, seed)
    laws = {name: _binned(*law) for name, law in _laws(lag, seen).items()}
    density = seen.density
    constant = staleness.max[0] if staleness.max[0] == lag else None
    return {
        "case": row.name,
        "staleness": lag,
        "sigma_stale": seen.sigma_stale,
        "sigma_stale_over_sgd": seen.sigma_stale / SIGMA,
        "sigma_stale_linear": None if constant is None else quadratic_sigma_stale(curvature(WELL), LR, SIGMA, constant),
        "well_variance": seen.well_variance,
        "well_variance_linear": None
        if constant is None
        else quadratic_covariance(curvature(WELL), LR, SIGMA, constant),
        "distance": {name: _distance(density, law) for name, law in laws.items()},
        "law_well_variance": {name: _well_variance(law) for name, law in laws.items()},
        "density": [round(value, 5) for value in density],
        "laws": {name: [round(value, 5) for value in law] for name, law in laws.items()},
        "bias": [round(value, 5) for value in seen.bias],
    }


Function = Callable[[float], float]


def _laws(lag: float, seen: Observed) -> dict[str, tuple[Function, Function]]:
    """Gradient and noise of each law."""
    variance = seen.stale_variance

    def noisier(theta: float) -> float:
        return math.sqrt(SIGMA**2 + variance[min(BINS - 1, int((theta + SPAN) * BINS / (2 * SPAN)))])

    def weaker(theta: float) -> float:
        return gradient(theta) * (1 - LR * lag * curvature(theta))

    return {"A": (gradient, lambda _: SIGMA), "B": (gradient, noisier), "C": (weaker, lambda _: SIGMA)}


def _binned(pull: Function, noise: Function) -> list[float]:
    """The density of a law over the bins of the histogram."""
    points = [(i + 0.5) * 2 * SPAN / (BINS * FINE) - SPAN for i in range(BINS * FINE)]
    fine = stationary_density(points, pull, noise, LR)
    return [sum(fine[i : i + FINE]) / FINE for i in range(0, len(fine), FINE)]


def _distance(density: list[float], law: list[float]) -> float:
    """Total variation: half the area between two densities, 0 to 1."""
    return sum(abs(p - q) for p, q in zip(density, law, strict=True)) * SPAN / BINS


def _well_variance(density: list[float]) -> float:
    return sum(p * (abs(x) - WELL) ** 2 for p, x in zip(density, CENTRES, strict=True)) * 2 * SPAN / BINS
