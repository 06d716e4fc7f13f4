"""Times as distributions, and as short lists from which a simulation draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil
from statistics import fmean, median

__all__ = ["Distribution", "describe", "sketch", "sketch_censored"]

_PARTS = 32


@dataclass(frozen=True)
class Distribution:
    """Of `count` times, in seconds."""

    median: float
    p10: float
    p90: float
    mean: float
    count: int


def describe(values: Iterable[float]) -> Distribution | None:
    """None of nothing; p10 and p90 are values that were measured."""
    found = sorted(values)
    if not found:
        return None
    return Distribution(median(found), _quantile(found, 0.1), _quantile(found, 0.9), fmean(found), len(found))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def sketch(values: Iterable[float]) -> list[float]:
    """The means of equal parts of the ordered values, at most 32: the mean of all is theirs, and nearly the spread."""
    ordered = sorted(values)
    sums = [0.0, *accumulate(ordered)]
    parts, size = min(_PARTS, len(ordered)), len(ordered)

    def up_to(place: float) -> float:
        """The sum of so many values, the last one in part."""
        whole = int(place)
        return sums[whole] + (place - whole) * ordered[whole] if whole < size else sums[size]

    bounds = [up_to(size * part / parts) for part in range(parts + 1)] if parts else []
    return [(after - before) * parts / size for before, after in pairwise(bounds)]


def sketch_censored(seen: Iterable[float], lost: Iterable[float]) -> list[float]:
    """At most 32 values, all equally likely, for times of which the `lost` are only known to be longer than they say.

    Quantiles of the Kaplan-Meier estimate; what is left beyond the last one seen takes as long as the longest known.
    """
    events = sorted([(time, 0) for time in seen] + [(time, 1) for time in lost])
    if not events:
        return []
    parts = min(_PARTS, len(events))
    steps: list[tuple[float, float]] = []
    surviving, at_risk = 1.0, len(events)
    for time, is_lost in events:
        if not is_lost:
            surviving *= 1 - 1 / at_risk
            steps.append((1 - surviving, time))
        at_risk -= 1
    longest = events[-1][0]
    return [next((t for share, t in steps if share >= (part + 0.5) / parts), longest) for part in range(parts)]
