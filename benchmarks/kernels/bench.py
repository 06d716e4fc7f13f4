"""What every experiment gets, and the table that all of them make: seconds, bandwidth, shares of the copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arena import Machine
from clock import Clock, Sample, Work, interleave, ratios, spread
from copies import COPY_WAYS, Copies

__all__ = ["Bench", "Contender", "Result", "measure"]

Result = dict[str, Any]
LARGE, EQUAL = "copy", "copy of as many bytes"


@dataclass(frozen=True)
class Bench:
    machine: Machine
    clock: Clock
    rounds: int
    copies: Copies
    shapes: Mapping[str, Sequence[tuple[int, ...]]]

    def size(self, name: str) -> Sequence[tuple[int, ...]]:
        """The shapes of that name; of the only size there is in a smoke run."""
        return self.shapes.get(name) or next(iter(self.shapes.values()))


@dataclass(frozen=True)
class Contender:
    """`moved`: the fewest bytes that one step can move."""

    sample: Sample
    moved: int


def measure(bench: Bench, contenders: Mapping[str, Contender], sets: int, bases: Sequence[str]) -> Result:
    """All in turns with copies. `times_of`: seconds over those of each base, within the rounds."""
    moved = contenders[bases[0]].moved
    samples = {name: one.sample for name, one in contenders.items()}
    samples |= _copy_samples(bench, LARGE, bench.copies.large(), 1)
    samples |= _copy_samples(bench, EQUAL, bench.copies.equal(moved, sets), sets)
    seconds = interleave(bench.clock, samples, bench.rounds)
    large = [bench.copies.bytes / taken for taken in _fastest(seconds, LARGE)]
    equal = [moved / taken for taken in _fastest(seconds, EQUAL)]
    rows = {
        name: _row(seconds[name], one.moved, large, equal, {base: seconds[base] for base in bases})
        for name, one in contenders.items()
    }
    copies = {LARGE: spread([rate / 1e9 for rate in large]), EQUAL: spread([rate / 1e9 for rate in equal])}
    return {"sets": sets, "copy_gb_per_s": copies, "contenders": rows}


def _copy_samples(bench: Bench, name: str, works: Mapping[str, Work], sets: int) -> dict[str, Sample]:
    return {f"{name}: {way}": bench.clock.prepare(work, sets) for way, work in works.items()}


def _fastest(seconds: Mapping[str, list[float]], name: str) -> list[float]:
    return [min(ways) for ways in zip(*(seconds[f"{name}: {way}"] for way in COPY_WAYS), strict=True)]


def _row(
    seconds: list[float], moved: int, large: list[float], equal: list[float], bases: Mapping[str, list[float]]
) -> dict[str, Any]:
    rates = [moved / taken for taken in seconds]
    return {
        "bytes": moved,
        "microseconds": spread([1e6 * taken for taken in seconds]),
        "gb_per_s": spread([rate / 1e9 for rate in rates]),
        "of_copy": ratios(rates, large),
        "of_equal_copy": ratios(rates, equal),
        "times_of": {name: ratios(seconds, base) for name, base in bases.items()},
    }
