"""How much faster one setting is than another, from rounds of windows, with a bootstrap interval.

A round is one process for each setting, run in turns, so that slow drifts of the machine hit all alike. Windows of one
process share its luck (where its memory lies, say), so that rounds are drawn first and windows within them (the
hierarchical bootstrap, Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "Rounds", "ratio_of", "speed_of"]

Rounds = Mapping[int, Sequence[float]]
"""Speeds by round, one for each window."""
Chosen = npt.NDArray[np.int64]
Drawn = npt.NDArray[np.float64]
_DRAWS = 1000
_SHARE = 0.95


@dataclass(frozen=True)
class Interval:
    """A median with the 95 % interval around it; without one where a single round tells nothing of the spread."""

    value: float
    low: float | None = None
    high: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the interval holds a value; without an interval nothing is excluded."""
        return self.low is None or self.high is None or self.low <= value <= self.high


def speed_of(rounds: Rounds) -> Interval:
    """The median over rounds of the median of their windows."""
    known = [windows for windows in rounds.values() if windows]
    value = median(map(median, known))
    if len(known) < 2:
        return Interval(value)
    random = np.random.default_rng(0)
    return Interval(value, *_bounds(_medians(known, _rounds(known, random), random)))


def ratio_of(a: Rounds, b: Rounds) -> Interval | None:
    """How many times as fast `a` is as `b`, from the rounds that both have; None without such a round."""
    common = [number for number in a if a[number] and b.get(number)]
    if not common:
        return None
    ours, theirs = [a[number] for number in common], [b[number] for number in common]
    value = median(median(x) / median(y) for x, y in zip(ours, theirs, strict=True))
    if len(common) < 2:
        return Interval(value)
    random = np.random.default_rng(0)
    chosen = _rounds(ours, random)
    return Interval(value, *_bounds(_medians(ours, chosen, random) / _medians(theirs, chosen, random)))


def _rounds(known: Sequence[Sequence[float]], random: np.random.Generator) -> Chosen:
    """For each draw as many rounds as there are: (draws, rounds)."""
    return random.integers(0, len(known), (_DRAWS, len(known)))


def _medians(known: Sequence[Sequence[float]], chosen: Chosen, random: np.random.Generator) -> Drawn:
    """The medians of windows drawn again within each of the chosen rounds: (draws, rounds).

    As many windows as the fullest round has: some may have been dropped.
    """
    most, counts = max(map(len, known)), np.array([len(windows) for windows in known])
    filled = np.array([[*windows, *[0.0] * (most - len(windows))] for windows in known])
    windows = (random.random((*chosen.shape, most)) * counts[chosen][..., None]).astype(np.int64)
    drawn: Drawn = np.median(filled[chosen[..., None], windows], axis=-1)
    return drawn


def _bounds(drawn: Drawn) -> tuple[float, float]:
    """The percentile interval of the medians over rounds."""
    low, high = np.quantile(np.median(drawn, axis=-1), [(1 - _SHARE) / 2, (1 + _SHARE) / 2], method="nearest")
    return float(low), float(high)
