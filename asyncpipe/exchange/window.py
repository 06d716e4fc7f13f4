"""One update of a compiled schedule as a table: the computations of each device, in the planned order."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.compiler import Compiled
from asyncpipe.errors import Diagnostic, Report, ScheduleError
from asyncpipe.ir import Action, Op
from asyncpipe.ir.replay import replay
from asyncpipe.tables.cells import Rows
from asyncpipe.tables.verify import verify_rows

__all__ = ["COMPUTATIONS", "Window", "exportable", "window"]

COMPUTATIONS = (Op.F, Op.B, Op.I, Op.W)


@dataclass(frozen=True)
class Window:
    """`order` holds (device, action, start in ticks) of all computations, in an order that obeys every edge."""

    microbatches: int
    devices: int
    order: tuple[tuple[int, Action, int], ...]

    @property
    def rows(self) -> tuple[tuple[Action, ...], ...]:
        """The actions of each device."""
        rows: list[list[Action]] = [[] for _ in range(self.devices)]
        for device, action, _ in self.order:
            rows[device].append(action)
        return tuple(map(tuple, rows))


def window(compiled: Compiled, microbatches: int) -> Window:
    """The computations of a run of so many microbatches; streams of one device are merged by their starts."""
    program = compiled.program(microbatches)
    started = (event for event in replay(program) if not event.ends and event.action.op in COMPUTATIONS)
    order = tuple((program.streams[event.stream].device, event.action, event.time) for event in started)
    devices = max((stream.device for stream in program.streams), default=0) + 1
    return Window(microbatches, devices, order)


def exportable(compiled: Compiled, found: Window) -> None:
    """ScheduleError with an AP141 where no table can hold the window, whatever is left out."""
    report = Report()
    sizes = {"devices": found.devices, "stages": compiled.stages, "microbatches": found.microbatches}
    verify_rows(Rows(found.rows), report, **sizes)
    if report.has_errors:
        schedule = compiled.schedule
        message = f"{schedule.name} has no form as a table for torch"
        notes = tuple((finding.message, None) for finding in report.diagnostics)
        hint = "a table has every stage on one device, and each microbatch's forward and backward there"
        raise ScheduleError([Diagnostic("AP141", message, schedule.where("streams"), hint, notes=notes)])
