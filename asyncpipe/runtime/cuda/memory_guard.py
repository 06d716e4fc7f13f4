"""Memory of one training: planned before its first run, refused where it cannot fit, explained where it ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from asyncpipe.errors import OutOfMemoryError
from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.runtime.cuda.device_streams import DeviceStreams
from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.cuda.held import held_bytes
from asyncpipe.runtime.cuda.memory_plan import Graphs, MemoryPlan, plan_memory
from asyncpipe.runtime.cuda.memory_report import exhausted, require_room
from asyncpipe.runtime.cuda.stage_plan import traced_ahead
from asyncpipe.runtime.out_of_memory import is_out_of_memory, out_of_memory

__all__ = ["MemoryGuard"]


@dataclass
class MemoryGuard:
    """`plan`: of the last kind of run; runs of one kind have the same slots and periods."""

    cuda: Cuda
    plan: MemoryPlan | None = None
    _kind: object = field(init=False, default=None)
    _chosen: dict[object, Graphs] = field(init=False, default_factory=dict)

    def make_plan(
        self,
        executions: Sequence[DeviceExecution],
        homes: Sequence[int],
        streams: DeviceStreams,
        graphs: Graphs | None = None,
    ) -> None:
        """Before a run, if it is the first of its kind; `homes`: the real device of each stage."""
        program = executions[0].program
        kind = program.slots, program.warmup, program.body, graphs
        if kind == self._kind:
            return
        calls = traced_ahead(executions[0], lambda stage: self.cuda.on(streams.all[streams.first_on(homes[stage])]))
        for device in streams.used:
            self.let_all_wait(streams, device)
        memory = {device: self.cuda.memory(device) for device in set(homes)}
        self.plan, self._kind = plan_memory(executions, calls, homes, memory, graphs), kind

    def plan_what_fits(
        self,
        executions: Sequence[DeviceExecution],
        homes: Sequence[int],
        streams: DeviceStreams,
        candidates: Sequence[Graphs],
    ) -> Graphs:
        """The first of the candidates that fits, or else the last; for later runs of the program the same."""
        program = executions[0].program
        kind = program.slots, program.body
        for graphs in [self._chosen[kind]] if kind in self._chosen else candidates:
            self.make_plan(executions, homes, streams, graphs)
            assert self.plan is not None
            if self.plan.fits:
                break
        self._chosen[kind] = graphs
        return graphs

    def require_room(self) -> None:
        """OutOfMemoryError where the plan does not fit."""
        assert self.plan is not None
        try:
            require_room(self.plan)
        except OutOfMemoryError:
            self._kind = None  # there may be more room at the next try
            self._chosen.clear()
            raise

    def let_all_wait(self, streams: DeviceStreams, device: int) -> None:
        """For what the first stream of the device has been given so far: constants of traces, data."""
        first, traced = streams.first_on(device), self.cuda.event()
        self.cuda.record(traced, streams.all[first])
        for other in streams.on_device(device):
            if other != first:
                self.cuda.wait(streams.all[other], traced)

    @contextmanager
    def explaining(self, executions: Sequence[DeviceExecution], homes: Sequence[int]) -> Iterator[None]:
        """OutOfMemoryError with what was planned and what is held, where memory ends within."""
        try:
            yield
        except Exception as error:
            found = error if isinstance(error, OutOfMemoryError) else None
            if found is None and is_out_of_memory(error):
                found = out_of_memory("between two actions", error)
            if found is None:
                raise
            if self.plan is None:
                raise found from error
            device = _device_of(error, homes)
            held = held_bytes(executions, homes, device)
            raise exhausted(self.plan, device, held, self.cuda.memory(device), found) from error


def _device_of(error: BaseException, homes: Sequence[int]) -> int:
    """Torch names the GPU; without it, the first."""
    said = re.search(r"GPU (\d+) ", f"{error} {error.__cause__}")
    found = int(said[1]) if said else homes[0]
    return found if found in homes else homes[0]
