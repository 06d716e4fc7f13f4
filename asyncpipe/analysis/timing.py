"""The timing model: what each op costs at each stage, who is late, and who is slow.

A delay is added once for each microbatch, to the first action of that microbatch on the stream: the stream stands
still, then the action starts and reads. Of `device[d]`, `replica[r]` and `*` all streams count as one. A straggler's
actions take so many times as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm

from asyncpipe.analysis.distribution import Distribution, Value, center
from asyncpipe.analysis.launch_graph import LaunchGraph
from asyncpipe.analysis.selector import Chosen, Selector
from asyncpipe.ir import Op, Program

__all__ = ["Delay", "Hold", "Straggler", "Ticks", "Timing", "holds", "replica_classes", "stream_factors", "ticks"]


@dataclass(frozen=True)
class Delay:
    """`value` of waiting time for each microbatch of the streams that `selector` means."""

    selector: Selector
    value: Value


@dataclass(frozen=True)
class Straggler:
    """The actions of the streams that `selector` means take `factor` times as long."""

    selector: Selector
    factor: Fraction


@dataclass(frozen=True)
class Timing:
    """What happens to a program's own costs: noise, delays, stragglers.

    `noise` holds, per op and stage, the distribution of which the cost in the program is the center.
    """

    noise: Mapping[Op, tuple[Distribution | None, ...]] = field(default_factory=dict)
    delays: tuple[Delay, ...] = ()
    stragglers: tuple[Straggler, ...] = ()

    @property
    def is_random(self) -> bool:
        noise = any(each is not None for stages in self.noise.values() for each in stages)
        return noise or any(isinstance(delay.value, Distribution) for delay in self.delays)

    @property
    def is_disturbed(self) -> bool:
        """Whether anything is late or slow, so that streams need not keep to the plan."""
        return bool(self.delays or self.stragglers)

    def centered(self) -> Timing:
        """The same with every distribution replaced by its center."""
        delays = tuple(replace(delay, value=center(delay.value)) for delay in self.delays)
        return Timing({}, delays, self.stragglers)


@dataclass(frozen=True)
class Hold:
    """A delay at one launch, in one replica or in all."""

    launch: int
    value: Value
    replica: int | None


def holds(graph: LaunchGraph, timing: Timing) -> Iterator[Hold]:
    """Each launch before which a stream stands still."""
    for delay in timing.delays:
        chosen = delay.selector.choose(graph.program)
        for launch in _first_launches(graph, chosen):
            yield Hold(launch, delay.value, chosen.replica)


def _first_launches(graph: LaunchGraph, chosen: Chosen) -> Iterator[int]:
    """The first launch of each microbatch, for each of the streams, or for all of them together."""
    seen: set[tuple[int, int]] = set()
    for number, stream in enumerate(graph.stream):
        if stream in chosen.streams:
            unit = (-1 if chosen.together else stream, graph.microbatch(number))
            if unit not in seen:
                seen.add(unit)
                yield number


def replica_classes(program: Program, timing: Timing) -> tuple[tuple[int, ...], ...]:
    """Replicas that nothing tells apart, each class with its members: first those that no delay or straggler names."""
    selectors = [*(d.selector for d in timing.delays), *(s.selector for s in timing.stragglers)]
    replicas = [selector.choose(program).replica for selector in selectors]
    named = sorted({replica for replica in replicas if replica is not None})
    rest = tuple(sorted(set(range(program.replicas)) - set(named)))
    return tuple(members for members in (rest, *((replica,) for replica in named)) if members)


@dataclass(frozen=True)
class Ticks:
    """Exact times in whole ticks of `unit`: per class of replicas the cost of each launch, and the holds by launch."""

    unit: Fraction
    costs: tuple[list[int], ...] = field(repr=False)
    holds: tuple[dict[int, int], ...] = field(repr=False)


def ticks(graph: LaunchGraph, timing: Timing, classes: tuple[tuple[int, ...], ...]) -> Ticks:
    """The durations of all launches where no distribution is involved."""
    program = graph.program
    exact = [program.costs[op][stage] * program.unit for op, stage in graph.keys]
    factors = [stream_factors(program, timing, members[0]) for members in classes]
    late = list(holds(graph, timing))
    scale = _scale(exact, factors, [_exact(hold.value) for hold in late])
    costs = []
    for factor in factors:
        whole = {f: [int(cost * f * scale) for cost in exact] for f in set(factor)}
        table = [whole[f] for f in factor]
        costs.append([table[stream][key] for stream, key in zip(graph.stream, graph.key, strict=True)])
    return Ticks(Fraction(1, scale), tuple(costs), tuple(_held(late, members[0], scale) for members in classes))


def _exact(value: Value) -> Fraction:
    assert isinstance(value, Fraction)
    return value


def stream_factors(program: Program, timing: Timing, replica: int) -> list[Fraction]:
    """Per stream how many times as long everything takes in this replica."""
    factors = [Fraction(1)] * len(program.streams)
    for straggler in timing.stragglers:
        chosen = straggler.selector.choose(program)
        if chosen.replica in (None, replica):
            for stream in chosen.streams:
                factors[stream] *= straggler.factor
    return factors


def _scale(costs: list[Fraction], factors: list[list[Fraction]], late: list[Fraction]) -> int:
    times = {cost * f for each in {tuple(f) for f in factors} for f in set(each) for cost in set(costs)}
    return lcm(*(time.denominator for time in times | set(late)))


def _held(late: list[Hold], replica: int, scale: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for hold in late:
        if hold.replica in (None, replica):
            found[hold.launch] = found.get(hold.launch, 0) + int(_exact(hold.value) * scale)
    return found
