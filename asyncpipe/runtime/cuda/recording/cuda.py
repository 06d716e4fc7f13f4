"""`RecordingCuda`: the calls of the CUDA runtime on CPU tensors. Eager calls run when they are issued, captured ones at
each launch in a random order that the edges allow; every access is checked against the order that events give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from asyncpipe.kernels.fused.issuing import LAUNCHES
from asyncpipe.runtime.cuda.api import MOST_STREAMS, DeviceMemory
from asyncpipe.runtime.cuda.recording.graph import Node, RecordedGraph
from asyncpipe.runtime.cuda.recording.memory import Identities, Memory
from asyncpipe.runtime.cuda.recording.operations import Operation, Watch, rerun_into
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation
from asyncpipe.runtime.cuda.timeline import Timeline

__all__ = ["RecordedEvent", "RecordedStream", "RecordingCuda"]

HOST = -1
"""The host's number among the streams."""


@dataclass(frozen=True)
class RecordedStream:
    number: int
    device: int
    priority: int = 0
    sms: int = 0


@dataclass
class RecordedEvent:
    """`clock`: of its last record; None before the first."""

    number: int
    external: bool
    clock: dict[int, int] | None = None
    graph: RecordedGraph | None = None


@dataclass
class RecordingCuda:
    """`seed` draws the order of captured nodes; None: as issued. `calls`: what was issued, one line each."""

    devices: int = 1
    seed: int | None = 0
    bytes_total: int = 80 << 30
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.identities = Identities()
        self._eager = Memory(self.identities)
        self._host = Timeline(HOST)
        self._streams: list[RecordedStream] = []
        self._events = 0
        self._current: RecordedStream | None = None
        self._capture: RecordedGraph | None = None
        self._launched: set[str] = set()
        self._launches = 0

    def stream(self, device: int, priority: int = 0, sms: int = 0) -> RecordedStream:
        alike = sum(s.device == device and s.priority == priority and s.sms == sms for s in self._streams)
        if alike == MOST_STREAMS:
            raise Violation(
                Kind.STREAM_POOL, f"stream {MOST_STREAMS + 1} of priority {priority} is the first one again"
            )
        made = RecordedStream(len(self._streams), device, priority, sms)
        self._streams.append(made)
        return made

    def event(self, external: bool = False, timing: bool = False) -> RecordedEvent:
        self._events += 1
        return RecordedEvent(self._events, external)

    @contextmanager
    def on(self, stream: RecordedStream) -> Iterator[None]:
        before, self._current = self._current, stream
        token = LAUNCHES.set(self)
        try:
            with Watch(self._operation):
                yield
        finally:
            LAUNCHES.reset(token)
            self._current = before
        self._raise_problems()

    @contextmanager
    def unordered(self, label: str) -> Iterator[None]:
        memories = [self._eager, *([self._capture.memory] if self._capture else [])]
        for memory in memories:
            memory.label = label
        try:
            yield
        finally:
            for memory in memories:
                memory.label = None

    def record(self, event: RecordedEvent, stream: RecordedStream) -> None:
        self.calls.append(f"record {event.number} on {stream.number}")
        graph = self._graph_of(stream)
        event.graph = graph
        if graph is not None and event.external:
            graph.external_records.append(event)
            self._marker(stream, f"record {event.number}")
            return
        event.clock = self._timeline(stream).snapshot()

    def wait(self, stream: RecordedStream, event: RecordedEvent) -> None:
        self._raise_problems()
        self.calls.append(f"wait {event.number} on {stream.number}")
        graph = self._graph_of(stream)
        if graph is not None and event.external:
            graph.external_waits.append(event)
            self._marker(stream, f"wait {event.number}")
            return
        clock = self._recorded(event, f"stream {stream.number}")
        self._refuse_isolated(stream, graph, event)
        timeline = self._timeline(stream) if event.graph is None else event.graph.timeline(stream.number)
        timeline.join(clock)

    @staticmethod
    def _recorded(event: RecordedEvent, who: str) -> dict[int, int]:
        if event.clock is None:
            raise Violation(Kind.NEVER_RECORDED, f"{who} waits for event {event.number}, and goes on")
        return event.clock

    def _refuse_isolated(self, stream: RecordedStream, graph: RecordedGraph | None, event: RecordedEvent) -> None:
        if event.graph is None and graph is not None:
            raise Violation(
                Kind.ISOLATION, f"stream {stream.number} captures, and waits for event {event.number} from before"
            )
        if event.graph is not None and event.graph.ended and not event.external:
            raise Violation(Kind.CAPTURED_EVENT, f"stream {stream.number} waits for event {event.number} of a capture")

    @contextmanager
    def capture(self, stream: RecordedStream) -> Iterator[RecordedGraph]:
        if self._capture is not None:
            raise Violation(Kind.NESTED, f"stream {stream.number} begins a capture within another one")
        graph = RecordedGraph(stream.number, Memory(self.identities))
        graph.timeline(stream.number)
        self._capture = graph
        try:
            yield graph
        finally:
            self._capture = None
            graph.ended = True
        graph.memory.problems, problems = [], graph.memory.problems
        for problem in problems:
            raise problem
        graph.end()
        graph.needs = {key for key in graph.external_memory()[0] if self._eager.allocated(key)}

    def launch(self, graph: RecordedGraph, stream: RecordedStream) -> None:
        self.calls.append(f"launch on {stream.number}")
        if self._capture is not None:
            raise Violation(Kind.NESTED, "a graph is launched within a capture")
        if any(not self._eager.allocated(key) for key in graph.needs):
            raise Violation(Kind.FREED, "its last tensor outside the graph was dropped")
        at = self._timeline(stream)
        for event in graph.external_waits:
            at.join(self._recorded(event, "the graph"))
        at.advance()
        for event in graph.external_records:
            event.clock = at.snapshot()
        reads, writes = graph.external_memory()
        self._eager.read(at, reads, "the graph")
        self._eager.write(at, writes, "the graph")
        self._launches += 1
        with torch.no_grad():
            graph.run(None if self.seed is None else self.seed + self._launches)

    def kernel(self, name: str, run: Callable[[], None], reads: Sequence[Tensor], writes: Sequence[Tensor]) -> None:
        stream = self._stream()
        graph = self._graph_of(stream)
        if graph is not None and name not in self._launched:
            raise Violation(Kind.FIRST_LAUNCH, f"{name} is launched for the first time, which loads it")
        self._launched.add(name)
        self._access(stream, reads, writes, name)
        with _disable_current_modes():
            if graph is None:
                run()
            else:  # addresses alone do not keep memory
                self._append(stream, run, name, [tensor.detach() for tensor in (*reads, *writes)])

    def synchronize(self, event: RecordedEvent) -> None:
        if self._capture is not None:
            raise Violation(Kind.SYNCHRONIZED, f"for event {event.number}")
        self._raise_problems()
        if event.graph is not None:
            raise Violation(Kind.CAPTURED_EVENT, f"the host waits for event {event.number} of a capture")
        self._host.join(self._recorded(event, "the host"))

    def host(self, tensor: Tensor) -> Tensor:
        return tensor

    def current(self) -> int:
        return self._stream().number

    def pinned(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype)

    def on_host(self, pinned: Tensor) -> list[float]:
        for stream, position in self._eager.last_writes(self.identities.of(pinned)):
            if not self._host.covers(stream, position):
                raise Violation(Kind.STALE_HOST, f"call {position} of stream {stream} may not have run")
        return [float(value) for value in pinned.tolist()]

    def memory(self, device: int) -> DeviceMemory:
        return DeviceMemory(self.bytes_total, self.bytes_total)

    def share(self, tensors: Sequence[Tensor], name: str) -> None:
        """Readers of these need not wait for their writers: the races that a schedule intends."""
        for tensor in tensors:
            key = self.identities.of(tensor)
            self.identities.shared.add(key)
            self.identities.names[key] = name

    def _stream(self) -> RecordedStream:
        if self._current is None:
            raise Violation(Kind.DEFAULT_STREAM, "a launch outside `on`")
        if self._capture is not None and not self._capture.holds(self._current.number):
            raise Violation(
                Kind.ISOLATION, f"stream {self._current.number} works while stream {self._capture.origin} captures"
            )
        return self._current

    def _graph_of(self, stream: RecordedStream) -> RecordedGraph | None:
        graph = self._capture
        return graph if graph is not None and graph.holds(stream.number) else None

    def _memory(self, stream: RecordedStream) -> Memory:
        graph = self._graph_of(stream)
        return self._eager if graph is None else graph.memory

    def _timeline(self, stream: RecordedStream) -> Timeline:
        return self._memory(stream).timeline(stream.number)

    def _raise_problems(self) -> None:
        """Those found while tensors were dropped."""
        for memory in (self._eager, *([self._capture.memory] if self._capture else [])):
            if memory.problems:
                raise memory.problems.pop(0)

    def _operation(self, operation: Operation) -> Any:
        stream = self._stream()
        memory = self._memory(stream)
        if operation.reads_on_host:
            return self._host_read(stream, operation)
        if self._graph_of(stream) is None:
            return self._made(memory, stream, operation, operation(), poison=False)
        return self._made(memory, stream, operation, operation.shapes(), poison=True)

    def _made(self, memory: Memory, stream: RecordedStream, operation: Operation, result: Any, poison: bool) -> Any:
        """Accesses and allocations of an operation; a captured one becomes a node, and its outputs hold nothing yet."""
        fresh = list(operation.fresh(result))
        if fresh or operation.mutated:
            self._access(stream, operation.inputs, operation.mutated, operation.name)
            for tensor in fresh:
                key = self.identities.of(tensor)
                memory.allocate(memory.timeline(stream.number), key)
                memory.write(memory.timeline(stream.number), [key], operation.name)
            if poison:
                self._capture_node(stream, operation, fresh)
        for tensor in _tensors(result):
            memory.follow(self.identities.of(tensor), tensor)
        return result

    def _capture_node(self, stream: RecordedStream, operation: Operation, fresh: list[Tensor]) -> None:
        own = operation.without_identity()
        outputs = [tensor.detach() for tensor in fresh]
        self._append(stream, lambda: rerun_into(own, outputs), operation.name)

    def _host_read(self, stream: RecordedStream, operation: Operation) -> Any:
        if self._graph_of(stream) is not None:
            raise Violation(Kind.SYNCHRONIZED, f"for the result of {operation.name}")
        self.calls.append(f"host reads by {operation.name} on {stream.number}")
        self._access(stream, operation.inputs, (), operation.name)
        return operation()

    def _access(self, stream: RecordedStream, reads: Sequence[Tensor], writes: Sequence[Tensor], what: str) -> None:
        memory, at = self._memory(stream), self._timeline(stream)
        at.advance()
        memory.read(at, {self.identities.of(tensor) for tensor in reads}, what)
        memory.write(at, {self.identities.of(tensor) for tensor in writes}, what)

    def _marker(self, stream: RecordedStream, what: str) -> None:
        """A node that does nothing by itself."""
        self._timeline(stream).advance()
        self._append(stream, lambda: None, what)

    def _append(self, stream: RecordedStream, run: Callable[[], None], what: str, kept: Sequence[Tensor] = ()) -> None:
        graph, at = self._capture, self._timeline(stream)
        assert graph is not None
        graph.nodes_run.append(Node(stream.number, at.position, at.snapshot(), run, what, kept))


def _tensors(result: Any) -> Iterator[Tensor]:
    for leaf in torch.utils._pytree.tree_leaves(result):
        if isinstance(leaf, Tensor):
            yield leaf
