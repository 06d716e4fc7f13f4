"""Events between streams: which launch waits for which, without the waits that are already implied.

A vector clock per stream tells how far it knows every other stream to be; a wait is issued only for what the clock
does not cover. Waiting for an action also brings what that action knew. In the steady body the clocks, relative to
the iteration, reach a fixed point: from there on the waits of all iterations are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from asyncpipe.errors import Diagnostic, InternalError, ScheduleError
from asyncpipe.ir import Action
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.unroll import Unrolled

__all__ = ["Lowered", "Settled", "Waiting", "lower_to_streams", "settle_waits"]

_MAX_ITERATIONS = 4096
_MOST_TRANSITIVE = 64


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


@dataclass(frozen=True)
class Settled:
    """The iteration from which on all have the same waits, with absolute indices, and all launches before it."""

    iteration: int
    warmup: tuple[Waiting, ...]
    body: tuple[Waiting, ...]


class _Place(NamedTuple):
    """Where an action was launched: in which order over all streams, on which stream and where in it, knowing what."""

    issued: int
    stream: int
    position: int
    clock: tuple[int, ...]
    awaited: tuple[tuple[int, int], ...]
    """(stream, launches of it known to have ended) for each of its own waits."""


class _Clocks:
    """What each stream knows: known[x][y] launches of stream y have ended before the next launch of stream x.

    Among very many streams a stream knows what it waited for, and what that waited for, but not what that knew: more
    waits are issued than needed, but the cost stays linear.
    """

    def __init__(self, diagram: Diagram, n: int | None) -> None:
        self.diagram = diagram
        self.n = n
        count = len(diagram.streams)
        self.transitive = count <= _MOST_TRANSITIVE
        self.known = [[0] * count for _ in range(count)]
        self.launched = [0] * count
        self.at: dict[Action, _Place] = {}

    def sources(self, action: Action) -> set[Action]:
        return {source for source, _ in self.diagram.predecessors(action, self.n)}

    def launch(self, stream: int, action: Action) -> Waiting:
        """Issues one action: the waits that it needs, latest first, so that one wait may cover the others."""
        waits = []
        known = self.known[stream]
        for source in sorted(self.sources(action), key=lambda source: -self.at[source].issued):
            _, other, position, clock, awaited = self.at[source]
            if other == stream or known[other] > position:
                continue
            waits.append(source)
            if self.transitive:
                known[:] = map(max, known, clock)
            else:
                for y, ended in awaited:
                    known[y] = max(known[y], ended)
            known[other] = max(known[other], position + 1)
        clock = tuple(known) if self.transitive else ()
        own = tuple((self.at[w].stream, self.at[w].position + 1) for w in waits)
        self.at[action] = _Place(len(self.at), stream, self.launched[stream], clock, own)
        self.launched[stream] += 1
        return Waiting(stream, action, tuple(waits))

    def since(self, begin: list[int], oldest: list[int], action: Action) -> tuple[int | None, ...]:
        """What an action knew, relative to the launches `begin`; None for knowledge older than `oldest`."""
        clock = self.at[action].clock
        if not self.transitive:
            return ()
        return tuple(v - b if v >= old else None for v, b, old in zip(clock, begin, oldest, strict=True))


def lower_to_streams(diagram: Diagram, unrolled: Unrolled, settled: Settled, n: int | None) -> Lowered:
    """The launches and waits of n microbatches (None: endless); cost does not grow with n."""
    stable, warmup = settled.iteration, settled.warmup
    start = unrolled.start + stable * unrolled.step
    body = tuple(_shift(w, -start, diagram.every) for w in settled.body)
    if n is None:
        return Lowered(warmup, body, (), start, None)
    beyond = unrolled.last_microbatch(stable)
    if n <= beyond:
        return Lowered(tuple(_flat(diagram, unrolled, n)), (), (), start, 0)
    iterations = (n - 1 - beyond) // unrolled.step + 1
    skipped = (iterations - 1) * unrolled.step
    tail = _flat(diagram, unrolled, n - skipped)[len(warmup) + len(body) :]
    cooldown = tuple(_shift(w, skipped, diagram.every) for w in tail)
    return Lowered(warmup, body, cooldown, start, iterations)


def _flat(diagram: Diagram, unrolled: Unrolled, n: int) -> list[Waiting]:
    """All launches of a short run, one by one."""
    iterations = 0
    while unrolled.first_microbatch(iterations) < n:
        iterations += 1
    clocks = _Clocks(diagram, n)
    todo = deque((stream, action) for _, stream, action in unrolled.run(n, iterations))
    launched = []
    while todo:
        following = _first_ready(todo, clocks)
        todo.remove(following)
        launched.append(clocks.launch(*following))
    return launched


def _first_ready(todo: Iterable[tuple[int, Action]], clocks: _Clocks) -> tuple[int, Action]:
    """What to issue next: the plan's order, except where a short last update waits for what the plan runs later.

    Then the other streams go on first, and only if none can, something overtakes in its own stream.
    """
    waiting: set[int] = set()
    overtaking = None
    for stream, action in todo:
        if clocks.at.keys() >= clocks.sources(action):
            if stream not in waiting:
                return stream, action
            overtaking = overtaking or (stream, action)
        waiting.add(stream)
    if overtaking is None:
        message = (
            f"deadlock: the last update of {clocks.n} microbatches is short, and then a rule with `hi` closes a cycle"
        )
        raise ScheduleError([Diagnostic("AP201", message, None, "run a multiple of `update.every` microbatches")])
    return overtaking


def settle_waits(diagram: Diagram, unrolled: Unrolled) -> Settled:
    """Finds the first iteration that all later ones equal.

    What an iteration knows follows from the iterations that its sources lie in: once more than these are equal, all
    that follow are. Edges that vanish before the first microbatch cannot feign that: so far back they reach. Streams
    that do not pass on what they know need the two iterations before alone, once no edge vanishes any more.
    """
    reach = _reach(diagram, unrolled)
    lookback = [0] * len(diagram.streams)
    for stream, _ in unrolled.body:
        lookback[stream] += reach + 1
    clocks = _Clocks(diagram, None)
    launches = [clocks.launch(stream, action) for stream, action in unrolled.warmup]
    equal, before = 0, None
    whole = 0 if clocks.transitive else max(0, reach - unrolled.start // unrolled.step)
    enough = reach if clocks.transitive else 2
    for k in range(2 * reach + _MAX_ITERATIONS):
        begin = list(clocks.launched)
        oldest = [max(1, count - back) for count, back in zip(begin, lookback, strict=True)]
        launched = [clocks.launch(stream, action) for stream, action in unrolled.iteration(k)]
        launches += launched
        base = unrolled.start + k * unrolled.step
        state = [(clocks.since(begin, oldest, w.action), _shift(w, -base, diagram.every)) for w in launched]
        equal = equal + 1 if state == before and k > whole else 0
        before = state
        if equal > enough:
            first, size = len(unrolled.warmup) + (k - equal) * len(launched), len(launched)
            return Settled(k - equal, tuple(launches[:first]), tuple(launches[first : first + size]))
    raise InternalError("the waits of the iterations did not settle")


def _reach(diagram: Diagram, unrolled: Unrolled) -> int:
    """How many iterations back the oldest source of a steady action can lie."""
    far = unrolled.start + 10**9 * unrolled.step
    distance = 0
    for _, action in unrolled.body:
        target = action.later(far, diagram.every)
        sources = (diagram.microbatch(source) for source, _ in diagram.predecessors(target))
        distance = max([distance, *(abs(diagram.microbatch(target) - source) for source in sources)])
    span = unrolled.last_microbatch(0) - unrolled.first_microbatch(0)
    return (distance + span) // unrolled.step + 1


def _shift(waiting: Waiting, microbatches: int, every: int) -> Waiting:
    waits = tuple(action.later(microbatches, every) for action in waiting.waits)
    return Waiting(waiting.stream, waiting.action.later(microbatches, every), waits)
