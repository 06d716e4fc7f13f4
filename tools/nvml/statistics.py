"""What the snapshots of a window say together: means, quantiles, energy and throttling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil
from statistics import fmean
from typing import Any, TypeVar

from asyncpipe.tools.nvml.readings import GpuSnapshot, Reading, Unavailable, document
from asyncpipe.tools.nvml.throttling import is_power_cap, is_slowdown

__all__ = ["GpuWindow", "Quantiles", "summarize"]

T = TypeVar("T")

_DISTRIBUTED = tuple(
    field.name
    for field in fields(GpuSnapshot)
    if field.name not in ("time", "energy_joules", "throttle_reasons", "memory_total_bytes")
)
_NO_SNAPSHOT = Unavailable("no snapshot in this window")


@dataclass(frozen=True)
class Quantiles:
    """Mean and two quantiles (nearest rank) of `count` snapshots."""

    mean: float
    p10: float
    p90: float
    count: int


@dataclass(frozen=True)
class GpuWindow:
    """The snapshots between two moments.

    `readings` has the distribution of each numeric field of `GpuSnapshot`. `energy_joules` is the counter's growth
    from the first to the last snapshot, scaled to `seconds`, or the mean power times `seconds` where there is no
    counter (`energy_source`: counter, power). `throttled` is the share of snapshots in which heat or the power supply
    slowed the clocks: discard such windows. `power_capped` is the share at the power limit, which is ordinary under
    full load. `throttle_reasons` counts the snapshots that had each reason.
    """

    seconds: float
    count: int
    readings: Mapping[str, Reading[Quantiles]]
    energy_joules: Reading[float]
    energy_source: Reading[str]
    throttled: Reading[float]
    power_capped: Reading[float]
    throttle_reasons: Reading[Mapping[str, int]]

    def energy_per_sample(self, samples: int) -> Reading[float]:
        """Joules for each training sample, where `samples` were trained in this window."""
        if isinstance(self.energy_joules, Unavailable):
            return self.energy_joules
        return self.energy_joules / samples if samples else Unavailable("no samples in this window")

    def document(self, samples: int | None = None) -> dict[str, Any]:
        """JSON values: null where there is none, and why under `unavailable`."""
        plain: dict[str, Reading[Any]] = {each.name: getattr(self, each.name) for each in fields(self)}
        plain.pop("readings")
        plain |= self.readings
        if samples is not None:
            plain["energy_per_sample_joules"] = self.energy_per_sample(samples)
        found = document(plain)
        return {name: asdict(value) if isinstance(value, Quantiles) else value for name, value in found.items()}


def summarize(snapshots: Sequence[GpuSnapshot], begin: float, end: float) -> GpuWindow:
    """The window from `begin` to `end`, both in the time of `time.perf_counter`."""
    inside = [snapshot for snapshot in snapshots if begin <= snapshot.time <= end]
    seconds = end - begin
    readings = {name: _distribution([getattr(snapshot, name) for snapshot in inside]) for name in _DISTRIBUTED}
    energy, source = _energy(inside, seconds, readings["power_watts"])
    told = [snapshot.throttle_reasons for snapshot in inside]
    return GpuWindow(
        seconds=seconds,
        count=len(inside),
        readings=readings,
        energy_joules=energy,
        energy_source=source,
        throttled=_share(told, is_slowdown),
        power_capped=_share(told, is_power_cap),
        throttle_reasons=_counts(told),
    )


def _known(readings: Sequence[Reading[T]]) -> Sequence[T] | Unavailable:
    """The values that there are, or why there is none: the newest reason."""
    values = [reading for reading in readings if not isinstance(reading, Unavailable)]
    reasons = [reading for reading in readings if isinstance(reading, Unavailable)]
    return values or (reasons[-1] if reasons else _NO_SNAPSHOT)


def _distribution(readings: Sequence[Reading[float]]) -> Reading[Quantiles]:
    known = _known(readings)
    if isinstance(known, Unavailable):
        return known
    ordered = sorted(known)
    return Quantiles(fmean(ordered), _rank(ordered, 0.1), _rank(ordered, 0.9), len(ordered))


def _rank(ordered: Sequence[float], share: float) -> float:
    """The nearest rank: the least value with at least this share of all at or below it."""
    return ordered[max(ceil(share * len(ordered)) - 1, 0)]


def _energy(
    snapshots: Sequence[GpuSnapshot], seconds: float, power: Reading[Quantiles]
) -> tuple[Reading[float], Reading[str]]:
    counted = [(s.time, s.energy_joules) for s in snapshots if not isinstance(s.energy_joules, Unavailable)]
    if len(counted) > 1 and counted[-1][0] > counted[0][0]:
        (first, start), (last, stop) = counted[0], counted[-1]
        return (stop - start) / (last - first) * seconds, "counter"
    if isinstance(power, Unavailable):
        return power, power
    return power.mean * seconds, "power"


def _share(told: Sequence[Reading[tuple[str, ...]]], counts: Callable[[str], bool]) -> Reading[float]:
    known = _known(told)
    if isinstance(known, Unavailable):
        return known
    return sum(any(map(counts, reasons)) for reasons in known) / len(known)


def _counts(told: Sequence[Reading[tuple[str, ...]]]) -> Reading[Mapping[str, int]]:
    known = _known(told)
    if isinstance(known, Unavailable):
        return known
    return dict(sorted(Counter(reason for reasons in known for reason in reasons).items()))
