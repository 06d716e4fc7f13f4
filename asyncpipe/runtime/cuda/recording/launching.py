"""One launch of a captured graph as the rest of the program sees it: who touches what, after whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from asyncpipe.runtime.cuda.recording.graph import Node, RecordedGraph
from asyncpipe.runtime.cuda.recording.handles import RecordedEvent
from asyncpipe.runtime.cuda.recording.memory import Memory
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation
from asyncpipe.runtime.cuda.timeline import Timeline

__all__ = ["Launching"]


@dataclass
class Launching:
    """Enters the nodes of launches into the history `memory`, each after those that it waits for.

    A stream of a graph is another stream there than outside graphs, one for each stream that launches.
    """

    memory: Memory
    _streams: dict[tuple[int, int], int] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1000))

    def enter(self, graph: RecordedGraph, at: Timeline) -> None:
        """A call of the stream of `at`, whose next call comes after all nodes."""
        begin = at.snapshot()
        clocks: list[dict[int, int]] = []
        # Not for each node, but for those that others wait for.
        wanted = {number for numbers in graph.predecessors for number in numbers}
        lanes = {stream: self._lane(at.number, stream) for stream in graph.members}
        for lane in lanes.values():
            lane.join(begin)
        for number, node in enumerate(graph.nodes_run):
            lane = lanes[node.stream]
            for predecessor in graph.predecessors[number]:
                lane.join(clocks[predecessor])
            self._enter_node(graph, node, lane)
            clocks.append(lane.snapshot() if number in wanted else {})
        for lane in lanes.values():
            at.join(lane.clock)

    def _lane(self, launching: int, stream: int) -> Timeline:
        key = launching, stream
        if key not in self._streams:
            self._streams[key] = next(self._numbers)
        return self.memory.timeline(self._streams[key])

    def _enter_node(self, graph: RecordedGraph, node: Node, lane: Timeline) -> None:
        lane.advance()
        if node.waits is not None:
            lane.join(_newest(graph, node.waits))
        if node.records is not None:
            node.records.stand_for(lane.snapshot())
        self.memory.label = node.label
        self.memory.read(lane, [key for key in node.reads if key in graph.within_reach], node.what)
        self.memory.write(lane, [key for key in node.writes if key in graph.within_reach], node.what)
        self.memory.label = None


def _newest(graph: RecordedGraph, event: RecordedEvent) -> dict[int, int]:
    """What a node waits for. CUDA takes the last record that was issued before the launch, whichever that is."""
    clock = event.recorded("the graph")
    if graph.seen.get(event.number) == event.records:
        raise Violation(
            Kind.OLD_RECORD,
            f"event {event.number} was not recorded since the graph last waited for it, or was captured: its producer"
            " must be launched first",
        )
    graph.seen[event.number] = event.records
    return clock
