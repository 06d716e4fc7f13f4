"""Runs with random times: every launch holds its time in all samples and replicas at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from asyncpipe.analysis.asap import meets
from asyncpipe.analysis.distribution import Distribution, Value
from asyncpipe.analysis.launch_graph import LaunchGraph
from asyncpipe.analysis.timing import Timing, holds, stream_factors
from asyncpipe.errors import UsageError
from asyncpipe.ir import Op, Program

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["SampledTimes", "check_size", "sampled_times"]

_MOST_CELLS = 1 << 24
"""Launches x samples x replicas at once: each takes two numbers of 8 bytes."""
_CHUNK = 64
"""So many launches of one op and stage are drawn together."""


@dataclass(frozen=True)
class SampledTimes:
    """Starts (after holds) and ends in the schedule's unit, each (launches, samples, replicas)."""

    graph: LaunchGraph
    starts: Array = field(repr=False)
    ends: Array = field(repr=False)


def sampled_times(graph: LaunchGraph, timing: Timing, samples: int, seed: int) -> Iterator[SampledTimes]:
    """All samples, in blocks that fit into memory. The same seed gives the same times on every machine."""
    check_size(len(graph), graph.program)
    block = max(1, _MOST_CELLS // (len(graph) * graph.program.replicas))
    for number, first in enumerate(range(0, samples, block)):
        yield _Block(graph, timing, min(block, samples - first), (seed, number)).run()


def check_size(launches: int, program: Program) -> None:
    """UsageError where one sample alone needs too much memory."""
    if launches * program.replicas > _MOST_CELLS:
        replicas = f" of {program.replicas:,} replicas" if program.replicas > 1 else ""
        message = f"{launches:,} launches{replicas} are too many for random times"
        raise UsageError(message, "ask for fewer --microbatches or stages")


class _Block:
    def __init__(self, graph: LaunchGraph, timing: Timing, samples: int, seed: tuple[int, int]) -> None:
        import numpy as np

        self.numpy = np
        self.graph = graph
        self.timing = timing
        self.seed = seed
        self.shape = (samples, graph.program.replicas)
        self.factors = self._factors()
        self.costs = [self._cost(op, stage) for op, stage in graph.keys]

    def _factors(self) -> list[Array | float]:
        """Per stream how many times as long everything takes, in each replica."""
        replicas = range(self.graph.program.replicas)
        if not self.timing.stragglers:
            return [1.0] * len(self.graph.program.streams)
        rows = [stream_factors(self.graph.program, self.timing, replica) for replica in replicas]
        return list(self.numpy.array(rows, dtype=float).T)

    def _cost(self, op: Op, stage: int) -> Callable[[], Array | float]:
        """What gives the next launch its time; a distribution is moved to where the program has its center."""
        program = self.graph.program
        planned = program.costs[op][stage] * program.unit
        noise = self.timing.noise.get(op)
        distribution = noise[stage] if noise else None
        if distribution is None:
            return lambda: float(planned)
        seed = (*self.seed, list(Op).index(op), stage)
        draws = self._draws(distribution, float(planned - distribution.center), seed)
        return lambda: next(draws)

    def _draws(self, distribution: Distribution, more: float, seed: tuple[int, ...]) -> Iterator[Array]:
        generator = self.numpy.random.default_rng(seed)
        while True:
            yield from distribution.draw(generator, (_CHUNK, *self.shape)) + more

    def _held(self) -> dict[int, Array]:
        """By launch the time for which its stream stands still before it."""
        generator = self.numpy.random.default_rng((*self.seed, len(Op)))
        found: dict[int, Array] = {}
        for hold in holds(self.graph, self.timing):
            late = found.setdefault(hold.launch, self.numpy.zeros(self.shape))
            everywhere = hold.replica is None
            width = self.shape[1] if everywhere else 1
            late[:, slice(None) if everywhere else [hold.replica or 0]] += self._value(hold.value, generator, width)
        return found

    def _value(self, value: Value, generator: np.random.Generator, width: int) -> Array | float:
        return float(value) if isinstance(value, Fraction) else value.draw(generator, (self.shape[0], width))

    def run(self) -> SampledTimes:
        np, graph = self.numpy, self.graph
        starts, ends = np.empty((len(graph), *self.shape)), np.empty((len(graph), *self.shape))
        free = [np.zeros(self.shape) for _ in graph.program.streams]
        held, joint = self._held(), meets(graph.program)
        for number, (stream, key, waits) in enumerate(zip(graph.stream, graph.key, graph.waits, strict=True)):
            ready = starts[number]
            ready[:] = free[stream]
            for launch in waits:
                np.maximum(ready, ends[launch], out=ready)
            if joint and graph.keys[key][0] is Op.SYNC:
                ready[:] = ready.max(axis=1, keepdims=True)
            if number in held:
                ready += held[number]
            np.add(ready, self.costs[key]() * self.factors[stream], out=ends[number])
            free[stream] = ends[number]
        return SampledTimes(graph, starts, ends)
