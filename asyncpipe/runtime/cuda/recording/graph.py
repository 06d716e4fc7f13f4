"""A captured graph: nodes that are run at each launch, in a random order that its edges allow."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from asyncpipe.runtime.cuda.recording.memory import Memory
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation
from asyncpipe.runtime.cuda.timeline import Timeline

__all__ = ["Node", "RecordedGraph"]


@dataclass(frozen=True)
class Node:
    """A call of a stream, which comes after all of `clock`."""

    stream: int
    position: int
    clock: dict[int, int]
    run: Callable[[], None]
    what: str
    kept: Sequence[Tensor] = ()
    """What `run` reaches by address only."""


@dataclass
class RecordedGraph:
    """`origin`: the stream that the capture began on."""

    origin: int
    memory: Memory
    nodes_run: list[Node] = field(default_factory=list)
    external_records: list[Any] = field(default_factory=list)
    external_waits: list[Any] = field(default_factory=list)
    """External events that nodes record or wait for."""
    needs: set[int] = field(default_factory=set)
    """Storages from outside that some tensor must go on referring to."""
    ended: bool = False

    @property
    def nodes(self) -> int | None:
        return len(self.nodes_run)

    def timeline(self, stream: int) -> Timeline:
        return self.memory.timeline(stream)

    def holds(self, stream: int) -> bool:
        """Whether the stream takes part."""
        return not self.ended and stream in self.memory.timelines

    def end(self) -> None:
        """Violation unless the origin has waited for all that was captured."""
        self.ended = True
        origin = self.timeline(self.origin)
        for stream, timeline in self.memory.timelines.items():
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
        queues = {stream: [n for n in self.nodes_run if n.stream == stream] for stream in self.memory.timelines}
        done = dict.fromkeys(queues, 0)
        next_of = dict.fromkeys(queues, 0)
        while ready := [s for s in queues if self._is_ready(queues[s], next_of[s], done)]:
            stream = pick.choice(ready)
            node = queues[stream][next_of[stream]]
            node.run()
            next_of[stream] += 1
            later = queues[stream][next_of[stream] :]
            done[stream] = later[0].position - 1 if later else self.timeline(stream).position
        if any(next_of[stream] < len(queue) for stream, queue in queues.items()):
            raise Violation(Kind.UNJOINED, "the edges of the graph have a cycle")

    @staticmethod
    def _is_ready(queue: Sequence[Node], number: int, done: dict[int, int]) -> bool:
        if number == len(queue):
            return False
        node = queue[number]
        return all(done.get(s, 0) >= position for s, position in node.clock.items() if s != node.stream)

    def external_memory(self) -> tuple[set[int], set[int]]:
        """(storages that are read, those that are written) of what was not allocated in the capture."""
        touched = [(key, written) for key, written in self.memory.touched() if not self.memory.allocated(key)]
        return {key for key, _ in touched}, {key for key, written in touched if written}
