"""Tests for pairs of measurements, exact and without scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Difference", "paired_t", "sign_test", "t_probability", "t_quantile"]


class Difference(NamedTuple):
    """The mean of b - a over pairs, its 95 % confidence interval, and the p-value of the two-sided paired t-test.

    `p` is None, and the interval empty, where all pairs differ equally: without a spread there is no t-test.
    """

    mean: float
    low: float
    high: float
    p: float | None


def paired_t(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Student's t-test for pairs; it takes their differences to be about normal. ValueError with fewer than two."""
    differences = [y - x for x, y in zip(a, b, strict=True)]
    count = len(differences)
    if count < 2:
        raise ValueError(f"a paired test needs at least two pairs, found {count}")
    mean = math.fsum(differences) / count
    variance = math.fsum((value - mean) ** 2 for value in differences) / (count - 1)
    error = math.sqrt(variance / count)
    # Equal differences have no spread, whatever rounding makes of it.
    if error <= 1e-12 * max(map(abs, (*a, *b))):
        return Difference(mean, mean, mean, None)
    half = t_quantile(0.95, count - 1) * error
    return Difference(mean, mean - half, mean + half, 1 - t_probability(abs(mean) / error, count - 1))


def t_probability(t: float, freedom: int) -> float:
    """P(-t < T < t) of Student's distribution (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for i in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (i - 1) / i
        total += term
    value = math.sin(angle) * total
    return 2 / math.pi * (angle + value) if odd else value


def t_quantile(probability: float, freedom: int) -> float:
    """The t with P(-t < T < t) = probability, by bisection."""
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom) < probability else (low, middle)
    return high


def sign_test(wins: int, losses: int) -> float:
    """The two-sided p-value of so many wins among wins + losses pairs; 1 without pairs."""
    count = wins + losses
    tail = sum(math.comb(count, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / float(2**count))
