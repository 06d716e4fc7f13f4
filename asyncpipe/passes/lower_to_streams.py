"""Events between streams: which launch waits for which, without the waits that are already implied.

A vector clock per stream tells how far it knows every other stream to be; a wait is issued only for what the clock
does not cover. Waiting for an action also brings what that action knew. In the steady body the clocks, relative to
the iteration, reach a fixed point: from there on the waits of all iterations are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.unroll import Unrolled

__all__ = ["Lowered", "Waiting", "lower_to_streams"]

_MAX_ITERATIONS = 64


@dataclass(frozen=True)
class Waiting:
    """One launch with the events that it waits for."""

    stream: int
    action: Action
    waits: tuple[Action, ...]


@dataclass(frozen=True)
class Lowered:
    """Launches with their waits: warmup, a body with relative indices, and the cooldown of a finite run."""

    warmup: tuple[Waiting, ...]
    body: tuple[Waiting, ...]
    cooldown: tuple[Waiting, ...]
    start: int
    iterations: int | None


class _Place(NamedTuple):
    """Where an action was launched: in which order over all streams, on which stream and where in it, knowing what."""

    issued: int
    stream: int
    position: int
    clock: tuple[int, ...]


class _Clocks:
    """What each stream knows: known[x][y] launches of stream y have ended before the next launch of stream x."""

    def __init__(self, diagram: Diagram, n: int | None) -> None:
        self.diagram = diagram
        self.n = n
        count = len(diagram.streams)
        self.known = [[0] * count for _ in range(count)]
        self.launched = [0] * count
        self.at: dict[Action, _Place] = {}

    def launch(self, stream: int, action: Action) -> Waiting:
        """Issues one action: the waits that it needs, latest first, so that one wait may cover the others."""
        sources = {source for source, _ in self.diagram.predecessors(action, self.n)}
        waits = []
        known = self.known[stream]
        for source in sorted(sources, key=lambda source: -self.at[source].issued):
            _, other, position, clock = self.at[source]
            if other == stream or known[other] > position:
                continue
            waits.append(source)
            for y, value in enumerate(clock):
                known[y] = max(known[y], value)
            known[other] = max(known[other], position + 1)
        self.at[action] = _Place(len(self.at), stream, self.launched[stream], tuple(known))
        self.launched[stream] += 1
        return Waiting(stream, action, tuple(waits))

    def relative(self, lookback: list[int]) -> tuple[tuple[int, ...], ...]:
        """The clocks relative to the launches so far; knowledge too old to matter is forgotten."""
        for row in self.known:
            for y, value in enumerate(row):
                if value < self.launched[y] - lookback[y]:
                    row[y] = 0
        return tuple(
            tuple(value - self.launched[y] if value else -(10**9) for y, value in enumerate(row)) for row in self.known
        )


def lower_to_streams(diagram: Diagram, unrolled: Unrolled, n: int | None) -> Lowered:
    """The launches and waits of n microbatches (None: endless); cost does not grow with n."""
    stable, rounds = _stable_iteration(diagram, unrolled)
    warmup = [waiting for k in range(-1, stable) for waiting in rounds[k]]
    start = unrolled.start + stable * unrolled.step
    body = tuple(_shift(w, -start, diagram.every) for w in rounds[stable])
    if n is None:
        return Lowered(tuple(warmup), body, (), start, None)
    beyond = unrolled.last_microbatch(stable)
    if n <= beyond:
        return Lowered(tuple(_flat(diagram, unrolled, n)), (), (), start, 0)
    iterations = (n - 1 - beyond) // unrolled.step + 1
    skipped = (iterations - 1) * unrolled.step
    tail = _flat(diagram, unrolled, n - skipped)[len(warmup) + len(body) :]
    cooldown = tuple(_shift(w, skipped, diagram.every) for w in tail)
    return Lowered(tuple(warmup), body, cooldown, start, iterations)


def _flat(diagram: Diagram, unrolled: Unrolled, n: int) -> list[Waiting]:
    """All launches of a short run, one by one."""
    iterations = 0
    while unrolled.first_microbatch(iterations) < n:
        iterations += 1
    clocks = _Clocks(diagram, n)
    return [clocks.launch(stream, action) for _, stream, action in unrolled.run(n, iterations)]


def _stable_iteration(diagram: Diagram, unrolled: Unrolled) -> tuple[int, dict[int, list[Waiting]]]:
    """The first iteration whose clocks equal those of the next one, and the launches of all up to it."""
    lookback = _lookback(diagram, unrolled)
    clocks = _Clocks(diagram, None)
    rounds: dict[int, list[Waiting]] = {-1: []}
    before = None
    for k in range(-1, _MAX_ITERATIONS):
        state = clocks.relative(lookback) if k >= 0 else None
        if state is not None and state == before:
            return k - 1, rounds
        before = state
        actions: Iterable[tuple[int, Action]] = unrolled.warmup if k < 0 else unrolled.iteration(k)
        rounds[k] = [clocks.launch(stream, action) for stream, action in actions]
    return _MAX_ITERATIONS - 1, rounds


def _lookback(diagram: Diagram, unrolled: Unrolled) -> list[int]:
    """Per stream, how many launches ago the oldest source of a steady action can lie."""
    reach = 0
    base = unrolled.start + 4 * unrolled.step
    for _, action in unrolled.body:
        offset = base // diagram.every if action.op is Op.U else base
        here = diagram.microbatch(action.shifted(offset))
        sources = (diagram.microbatch(source) for source, _ in diagram.predecessors(action.shifted(offset)))
        reach = max([reach, *(abs(here - source) for source in sources)])
    span = unrolled.last_microbatch(0) - unrolled.first_microbatch(0)
    iterations = (reach + span) // unrolled.step + 2
    counts = [0] * len(diagram.streams)
    for stream, _ in unrolled.body:
        counts[stream] += iterations
    return counts


def _shift(waiting: Waiting, microbatches: int, every: int) -> Waiting:
    def shifted(action: Action) -> Action:
        return action.shifted(microbatches // every if action.op is Op.U else microbatches)

    return Waiting(waiting.stream, shifted(waiting.action), tuple(shifted(w) for w in waiting.waits))
