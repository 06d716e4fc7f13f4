"""A captured graph: nodes that are run at each launch, in a random order that its edges allow."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from asyncpipe.runtime.cuda.recording.memory import Memory
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation
from asyncpipe.runtime.cuda.timeline import Timeline

__all__ = ["Node", "Pool", "RecordedGraph"]


@dataclass(frozen=True)
class Node:
    """A call of a stream, which comes after all of `clock`. label: of calls that need no order among themselves.

    records, waits: the external event of a node that does nothing else.
    """

    stream: int
    position: int
    clock: dict[int, int]
    run: Callable[[], None]
    what: str
    reads: Sequence[int] = ()
    writes: Sequence[int] = ()
    label: str | None = None
    records: Any = None
    waits: Any = None
    kept: Sequence[Tensor] = ()
    """What `run` reaches by address only."""


@dataclass
class Pool:
    """The memory of graphs that are launched one after another, in the order of their captures, round and round.

    Graphs that are captured after launches are a new round, and those before them have had their last one.
    """

    memory: Memory
    graphs: list[RecordedGraph] = field(default_factory=list)
    first: int = 0
    """Of the round."""
    last: tuple[int, int, int] | None = None
    """The last launch: (number of the graph, stream, call of the stream)."""

    def add(self, graph: RecordedGraph) -> None:
        if self.last is not None and self.last[0] < len(self.graphs) and self.first <= self.last[0]:
            self.first = len(self.graphs)
        self.graphs.append(graph)

    def launched(self, graph: RecordedGraph, at: Timeline) -> None:
        """Violation unless the launch, which `at` is about to make, is the next one and comes after the last one."""
        number = self.graphs.index(graph)
        last = self.first - 1 if self.last is None else max(self.last[0], self.first - 1)
        expected = last + 1 if last + 1 < len(self.graphs) else self.first
        if number != expected:
            raise Violation(Kind.POOL_ORDER, f"graph {expected} of a pool was to be next, found {number}")
        if len(self.graphs) > 1 and self.last is not None and not at.covers(*self.last[1:]):
            raise Violation(Kind.POOL_ORDER, f"stream {at.number} does not wait for the launch before")
        self.last = number, at.number, at.position + 1


@dataclass
class RecordedGraph:
    """`origin`: the stream that the capture began on. start: by stream, its position when the capture began."""

    origin: int
    pool: Pool
    start: dict[int, int] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)
    nodes_run: list[Node] = field(default_factory=list)
    needs: set[int] = field(default_factory=set)
    """Storages from outside that some tensor must go on referring to."""
    within_reach: set[int] = field(default_factory=set)
    """Storages that others may touch between launches."""
    seen: dict[int, int] = field(default_factory=dict)
    """By external event, how often it had been recorded when a launch last waited for it."""
    ended: bool = False

    @property
    def memory(self) -> Memory:
        return self.pool.memory

    @property
    def nodes(self) -> int | None:
        return len(self.nodes_run)

    def join(self, stream: int) -> None:
        """The stream takes part; before, nothing that it did counts."""
        self.members.add(stream)

    def timeline(self, stream: int) -> Timeline:
        return self.memory.timeline(stream)

    def holds(self, stream: int) -> bool:
        """Whether the stream takes part."""
        return not self.ended and stream in self.members

    def end(self) -> None:
        """Violation unless the origin has waited for all that was captured."""
        self.ended = True
        origin = self.timeline(self.origin)
        for stream in self.members:
            timeline = self.timeline(stream)
            if not origin.covers(stream, timeline.position):
                raise Violation(
                    Kind.UNJOINED,
                    f"the capture on stream {self.origin} ends, and does not wait for call {timeline.position} of"
                    f" stream {stream}",
                )

    def run(self, seed: int | None) -> None:
        """All nodes, once: as they were issued, or in an order that `seed` draws among those which the edges allow."""
        if seed is None:
            for node in self.nodes_run:
                node.run()
            return
        pick = random.Random(seed)
        queues = {stream: [n for n in self.nodes_run if n.stream == stream] for stream in self.members}
        done = self.start | {s: queue[0].position - 1 for s, queue in queues.items() if queue}
        next_of = dict.fromkeys(queues, 0)
        while ready := [s for s in queues if self._is_ready(queues[s], next_of[s], done)]:
            stream = pick.choice(ready)
            queue = queues[stream]
            queue[next_of[stream]].run()
            next_of[stream] += 1
            later = next_of[stream] < len(queue)
            done[stream] = queue[next_of[stream]].position - 1 if later else self._last[stream]
        if any(next_of[stream] < len(queue) for stream, queue in queues.items()):
            raise Violation(Kind.UNJOINED, "the edges of the graph have a cycle")

    @cached_property
    def _last(self) -> dict[int, int]:
        return {node.stream: node.position for node in self.nodes_run}

    @staticmethod
    def _is_ready(queue: Sequence[Node], number: int, done: dict[int, int]) -> bool:
        if number == len(queue):
            return False
        node = queue[number]
        return all(done.get(s, 0) >= position for s, position in node.clock.items() if s != node.stream)

    @cached_property
    def predecessors(self) -> list[list[int]]:
        """By node, the numbers of those of other streams that it, and no node before it on its stream, waits for."""
        numbers: dict[int, list[int]] = {}
        known: dict[int, dict[int, int]] = {}
        found = []
        for number, node in enumerate(self.nodes_run):
            before = known.setdefault(node.stream, self.start)
            news = [(s, at) for s, at in node.clock.items() if s != node.stream and at > before.get(s, 0)]
            last = (self._latest(numbers.get(stream, []), at) for stream, at in news)
            found.append([other for other in last if other is not None])
            known[node.stream] = node.clock
            numbers.setdefault(node.stream, []).append(number)
        return found

    def _latest(self, numbers: Sequence[int], position: int) -> int | None:
        """The last of these nodes of one stream up to a position."""
        return next((number for number in reversed(numbers) if self.nodes_run[number].position <= position), None)
