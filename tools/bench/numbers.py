"""Medians, spreads, and intervals of ratios by resampling rounds."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Interval", "ratio_of_medians", "ratio_of_ratios", "spread"]

_DRAWS = 1000


class Interval(NamedTuple):
    """A ratio, with the bounds that hold 95 % of the resampled ones."""

    ratio: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return self._asdict()


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, and what a tenth of the values lie below and above."""
    tenths = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9
    return {"median": statistics.median(values), "p10": tenths[0], "p90": tenths[-1]}


def ratio_of_medians(over: Sequence[float], under: Sequence[float]) -> Interval:
    """median(over) / median(under); of values of the same rounds, which are drawn together (Efron 1979)."""
    drawn = [_ratio(*_resampled(over, under, rng)) for rng in _generators()]
    return _interval(_ratio(over, under), drawn)


def ratio_of_ratios(
    new: tuple[Sequence[float], Sequence[float]], old: tuple[Sequence[float], Sequence[float]]
) -> Interval:
    """The ratio of medians of one measurement over that of another one, whose rounds are drawn on their own."""
    drawn = [_ratio(*_resampled(*new, rng)) / _ratio(*_resampled(*old, rng)) for rng in _generators()]
    return _interval(_ratio(*new) / _ratio(*old), drawn)


def _generators() -> list[random.Random]:
    """The same for every call: equal measurements give equal intervals."""
    rng = random.Random(0)
    return [rng] * _DRAWS


def _resampled(a: Sequence[float], b: Sequence[float], rng: random.Random) -> tuple[list[float], list[float]]:
    chosen = rng.choices(range(len(a)), k=len(a))
    return [a[i] for i in chosen], [b[i] for i in chosen]


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    return statistics.median(over) / statistics.median(under)


def _interval(ratio: float, drawn: list[float]) -> Interval:
    """The percentile interval; it always holds the ratio itself."""
    drawn.sort()
    cut = len(drawn) // 40
    return Interval(ratio, min(ratio, drawn[cut]), max(ratio, drawn[-1 - cut]))
