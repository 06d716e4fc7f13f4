"""`RecordingCuda`: the calls of the CUDA runtime on CPU tensors. Eager calls run when they are issued, captured ones at
each launch in a random order that the edges allow; every access is checked against the order that events give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from asyncpipe.kernels.fused.issuing import LAUNCHES
from asyncpipe.runtime.cuda.api import MOST_STREAMS, DeviceMemory
from asyncpipe.runtime.cuda.recording.graph import Node, Pool, RecordedGraph
from asyncpipe.runtime.cuda.recording.handles import RecordedEvent, RecordedStream
from asyncpipe.runtime.cuda.recording.launching import Launching
from asyncpipe.runtime.cuda.recording.memory import HOST, Identities, Memory
from asyncpipe.runtime.cuda.recording.operations import Operation, Watch, address_of, rerun_into
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation
from asyncpipe.runtime.cuda.references import tensors_in
from asyncpipe.runtime.cuda.shares import Granularity, Share, require_shares, smallest_groups
from asyncpipe.runtime.cuda.timeline import Timeline

__all__ = ["RecordedEvent", "RecordedStream", "RecordingCuda"]


@dataclass
class RecordingCuda:
    """`seed` draws the order of captured nodes; None: as issued. `calls`: what was issued, one line each.

    All tensors are those of the CPU; `devices` tells them apart by the streams that make and touch them.
    """

    devices: int = 1
    seed: int | None = 0
    bytes_total: int = 80 << 30
    sms: int = 132
    """Of each device, given out by eights, as on Hopper."""
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.identities = Identities()
        self._eager = self.identities.usage.eager = Memory(self.identities)
        self._launching = Launching(self._eager)
        self._host = self._eager.host
        self._streams: list[RecordedStream] = []
        self._events = 0
        self._current: RecordedStream | None = None
        self._capture: RecordedGraph | None = None
        self._launched: set[str] = set()
        self._launches = 0
        self._generators: set[int] = set()

    def shared_out(self, device: int, shares: Sequence[Share]) -> list[RecordedStream]:
        of = Granularity(self.sms)
        require_shares(device, shares, of)
        groups = smallest_groups(shares, of)
        return [
            self._new_stream(device, share.priority, of.step * len(own))
            for share, own in zip(shares, groups, strict=True)
        ]

    def stream(self, device: int, priority: int = 0) -> RecordedStream:
        return self._new_stream(device, priority, 0)

    def _new_stream(self, device: int, priority: int, sms: int) -> RecordedStream:
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
            with Watch(self._operation) if before is None else nullcontext():
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
        event.settle(stream.device)
        graph = self._graph_of(stream)
        if graph is not None and event.external:
            self._marker(stream, f"record {event.number}", records=event)
            return
        event.graph = graph
        event.stand_for(self._timeline(stream).snapshot())

    def wait(self, stream: RecordedStream, event: RecordedEvent) -> None:
        self._raise_problems()
        self.calls.append(f"wait {event.number} on {stream.number}")
        graph = self._graph_of(stream)
        if graph is not None and event.external:
            event.require_created()
            graph.seen[event.number] = event.records
            self._marker(stream, f"wait {event.number}", waits=event)
            return
        clock = event.recorded(f"stream {stream.number}")
        self._refuse_isolated(stream, graph, event)
        if event.graph is not None:
            event.graph.join(stream.number)
        self._timeline(stream).join(clock)

    def _refuse_isolated(self, stream: RecordedStream, graph: RecordedGraph | None, event: RecordedEvent) -> None:
        if event.graph is None and graph is not None:
            raise Violation(
                Kind.ISOLATION, f"stream {stream.number} captures, and waits for event {event.number} from before"
            )
        if event.graph is not None and event.graph.ended:
            raise Violation(Kind.CAPTURED_EVENT, f"stream {stream.number} waits for event {event.number} of a capture")

    @contextmanager
    def capture(self, stream: RecordedStream, after: RecordedGraph | None = None) -> Iterator[RecordedGraph]:
        if self._capture is not None:
            raise Violation(Kind.NESTED, f"stream {stream.number} begins a capture within another one")
        graph = self._capture = self._begun(stream, Pool(Memory(self.identities)) if after is None else after.pool)
        try:
            yield graph
        finally:
            self._capture = None
            graph.ended = True
        graph.memory.problems, problems = [], graph.memory.problems
        for problem in problems:
            raise problem
        graph.end()
        self._settle(graph)

    @staticmethod
    def _begun(stream: RecordedStream, pool: Pool) -> RecordedGraph:
        """All that the graphs before it do comes first."""
        # What was dropped between two captures serves the later graph, which comes after all that the earlier one does.
        pool.memory.problems.clear()
        start = {number: timeline.position for number, timeline in pool.memory.timelines.items()}
        graph = RecordedGraph(stream.number, pool, start)
        graph.join(stream.number)
        graph.timeline(stream.number).join(start)
        return graph

    def _settle(self, graph: RecordedGraph) -> None:
        """What is known of a graph at the end of its capture."""
        touched = {key for node in graph.nodes_run for key in (*node.reads, *node.writes)}
        reached = {key for key in touched if graph.memory.is_within_reach(key)}
        graph.within_reach = reached - self.identities.shared
        outside = {key for key in reached if not graph.memory.allocated(key)}
        graph.needs = {key for key in outside if self._eager.allocated(key)}
        graph.pool.add(graph)

    def launch(self, graph: RecordedGraph, stream: RecordedStream) -> None:
        self.calls.append(f"launch on {stream.number}")
        if self._capture is not None:
            raise Violation(Kind.NESTED, "a graph is launched within a capture")
        if any(not self._eager.allocated(key) for key in graph.needs):
            raise Violation(Kind.FREED, "its last tensor outside the graph was dropped")
        at = self._timeline(stream)
        graph.pool.launched(graph, at)
        at.advance()
        self._launching.enter(graph, at)
        self._launches += 1
        with torch.no_grad():
            graph.run(None if self.seed is None else self.seed + self._launches)

    def transfer(self, target: Tensor, source: Tensor, stream: RecordedStream, landing: RecordedStream) -> None:
        self.calls.append(f"transfer on {stream.number} to {landing.number}")
        if self._capture is not None:
            raise Violation(Kind.ISOLATION, "a copy between devices makes streams wait for each other in a capture")
        at, there = self._timeline(stream), self._timeline(landing)
        at.join(there.clock)
        self._access(stream, [source], [], "a transfer")
        self.identities.require_on(landing.device, self.identities.of(target), "a transfer")
        self._eager.write(at, [self.identities.of(target)], "a transfer")
        there.join(at.clock)
        with _disable_current_modes():
            target.copy_(source)

    def torch_device(self, device: int) -> torch.device:
        return torch.device("cpu")

    def here(self) -> int:
        return self._stream().device

    def device_of(self, tensor: Tensor) -> int:
        return self.identities.devices[self.identities.of(tensor)]

    def require_on(self, device: int, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            self.identities.require_on(device, self.identities.of(tensor), "the program")

    def register_generator(self, generator: torch.Generator) -> None:
        self._generators.add(address_of(generator))

    def _refuse_unknown(self, generator: int | None, what: str) -> None:
        if generator is not None and generator not in self._generators:
            raise Violation(
                Kind.GENERATOR, f"{what} in a capture: every replay would repeat its numbers, or CUDA fails"
            )

    def kernel(
        self,
        name: str,
        run: Callable[..., None],
        reads: Sequence[Tensor],
        writes: Sequence[Tensor],
        arguments: Sequence[Any] = (),
    ) -> None:
        stream = self._stream()
        graph = self._graph_of(stream)
        if graph is not None and name not in self._launched:
            raise Violation(Kind.FIRST_LAUNCH, f"{name} is launched for the first time, which loads it")
        self._launched.add(name)
        self._access(stream, reads, writes, name)
        with _disable_current_modes():
            if graph is None:
                run(*arguments)
            else:
                # Aliases keep the memory for us, but none of the program's tensors: a graph has addresses only.
                kept = [tensor.detach() for tensor in (*reads, *writes)]
                own = tree_map_only(Tensor, Tensor.detach, tuple(arguments))
                self._append(stream, partial(run, *own), name, reads, writes, kept)

    def settle(self, devices: Sequence[int]) -> None:
        for stream in self._streams:
            if stream.device in devices:
                self._host.join(self._eager.timeline(stream.number).clock)

    def synchronize(self, event: RecordedEvent) -> None:
        if self._capture is not None:
            raise Violation(Kind.SYNCHRONIZED, f"for event {event.number}")
        self._raise_problems()
        if event.graph is not None:
            raise Violation(Kind.CAPTURED_EVENT, f"the host waits for event {event.number} of a capture")
        self._host.join(event.recorded("the host"))

    def host(self, tensor: Tensor) -> Tensor:
        self.identities.devices[self.identities.of(tensor)] = HOST
        return tensor

    def current(self) -> int:
        return self._stream().number

    def pinned(self, like: Tensor) -> Tensor:
        with _disable_current_modes():
            return self.host(torch.empty(like.shape, dtype=like.dtype))

    def on_host(self, pinned: Tensor) -> list[float]:
        for stream, position in self._eager.last_writes(self.identities.of(pinned)):
            if not self._host.covers(stream, position):
                raise Violation(Kind.STALE_HOST, f"call {position} of stream {stream} may not have run")
        return list(pinned.tolist())

    def memory(self, device: int) -> DeviceMemory:
        return DeviceMemory(self.bytes_total - self.identities.usage.of(device), self.bytes_total)

    def share(self, tensors: Sequence[Tensor], name: str) -> None:
        """Readers of these need not wait for their writers: the races that a schedule intends."""
        for tensor in tensors:
            key = self.identities.of(tensor)
            if key not in self.identities.shared:
                device, size = self.identities.devices.get(key, 0), tensor.untyped_storage().nbytes()
                self.identities.usage.take(self._eager, device, key, size, self.bytes_total)
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
        self._refuse_unknown(operation.generator, operation.name)
        return self._made(memory, stream, operation, operation.shapes(), poison=True)

    def _made(self, memory: Memory, stream: RecordedStream, operation: Operation, result: Any, poison: bool) -> Any:
        """Accesses and allocations of an operation; a captured one becomes a node, and its outputs hold nothing yet."""
        fresh = list(operation.fresh(result))
        if fresh or operation.mutated:
            self._access(stream, operation.read, operation.mutated, operation.name)
            for tensor in fresh:
                key = self.identities.of(tensor)
                self.identities.devices[key] = stream.device
                size = 0 if isinstance(tensor, FakeTensor) else tensor.untyped_storage().nbytes()
                self.identities.usage.take(memory, stream.device, key, size, self.bytes_total)
                memory.allocate(memory.timeline(stream.number), key)
                memory.write(memory.timeline(stream.number), [key], operation.name)
            if poison:
                self._capture_node(stream, operation, fresh)
        for tensor in tensors_in(result):
            memory.follow(self.identities.of(tensor), tensor)
        return result

    def _capture_node(self, stream: RecordedStream, operation: Operation, fresh: list[Tensor]) -> None:
        own = operation.without_identity()
        outputs = [tensor.detach() for tensor in fresh]
        written = [*operation.mutated, *fresh]
        self._append(stream, lambda: rerun_into(own, outputs), operation.name, operation.read, written)

    def _host_read(self, stream: RecordedStream, operation: Operation) -> Any:
        if self._graph_of(stream) is not None:
            raise Violation(Kind.SYNCHRONIZED, f"for the result of {operation.name}")
        self.calls.append(f"host reads by {operation.name} on {stream.number}")
        self._access(stream, operation.inputs, (), operation.name)
        return operation()

    def _access(self, stream: RecordedStream, reads: Sequence[Tensor], writes: Sequence[Tensor], what: str) -> None:
        memory, at = self._memory(stream), self._timeline(stream)
        at.advance()
        read, written = self._keys(reads), self._keys(writes)
        for key in (*read, *written):
            self.identities.require_on(stream.device, key, f"{what} on stream {stream.number}")
        memory.read(at, read, what)
        memory.write(at, written, what)

    def _keys(self, tensors: Sequence[Tensor]) -> list[int]:
        return list(dict.fromkeys(self.identities.of(tensor) for tensor in tensors))

    def _marker(
        self,
        stream: RecordedStream,
        what: str,
        records: RecordedEvent | None = None,
        waits: RecordedEvent | None = None,
    ) -> None:
        """A node that only records an event, or waits for one."""
        self._timeline(stream).advance()
        self._append(stream, lambda: None, what, records=records, waits=waits)

    def _append(
        self,
        stream: RecordedStream,
        run: Callable[[], None],
        what: str,
        reads: Sequence[Tensor] = (),
        writes: Sequence[Tensor] = (),
        kept: Sequence[Tensor] = (),
        records: RecordedEvent | None = None,
        waits: RecordedEvent | None = None,
    ) -> None:
        graph, at = self._capture, self._timeline(stream)
        assert graph is not None
        touched = self._keys(reads), self._keys(writes)
        label = graph.memory.label
        node = Node(stream.number, at.position, at.snapshot(), run, what, *touched, label, records, waits, kept)
        graph.nodes_run.append(node)
