"""A measured run, and which part of it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncpipe.errors import UsageError
from asyncpipe.ir import Program, TimedRun

__all__ = ["MeasuredRun", "Steps", "Window", "default_steps", "parse_steps", "window_of"]

_MICROBATCHES = 32
"""How many of each replica are shown by default, at least; more where an iteration of the schedule has more."""


@dataclass(frozen=True)
class MeasuredRun:
    """losses: of each microbatch, dealt out among replicas in turn; None where they are not known."""

    run: TimedRun = field(repr=False)
    job: str
    backend: str
    losses: Sequence[float] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Steps:
    """The updates from `first` on, up to but without `after`."""

    first: int
    after: int

    def __str__(self) -> str:
        return f"{self.first}:{self.after}"


@dataclass(frozen=True)
class Window:
    """The part of a run that is shown, in seconds since it began."""

    steps: Steps
    begin: float
    end: float


def parse_steps(text: str) -> Steps:
    """`10:20`; UsageError for anything else."""
    first, colon, after = text.partition(":")
    if colon and first.isdecimal() and after.isdecimal() and int(first) < int(after):
        return Steps(int(first), int(after))
    raise UsageError(f"--steps {text!r}: expected A:B, updates A up to but without B", "as in --steps 10:20")


def default_steps(program: Program, updates: int | None = None) -> Steps:
    """Some iterations of the steady state: as soon as it is there, or in the middle of a run of so many updates."""
    shown = -(-max(_MICROBATCHES, program.step) // program.every)
    begin = -(-(program.start + program.step) // program.every)
    if updates is None:
        return Steps(begin, begin + shown)
    if updates <= shown:
        return Steps(0, updates)
    first = (updates - shown) // 2
    return Steps(first, first + shown)


def window_of(run: TimedRun, steps: Steps) -> Window:
    """From the first action of the first microbatch until that of the first one behind, on any replica."""
    program = run.program
    updates = program.updates or 0
    if steps.after > updates:
        raise UsageError(f"--steps {steps}: the run has {updates} updates", f"as in --steps 0:{updates}")
    begins = _begins(run, {step * program.every for step in (steps.first, steps.after)})
    if steps.first * program.every not in begins:
        raise UsageError(f"--steps {steps}: the timeline has no actions of update {steps.first}", "it is not whole")
    end = begins.get(steps.after * program.every, max(timed.end for timed in run.actions))
    return Window(steps, begins[steps.first * program.every], end)


def _begins(run: TimedRun, microbatches: set[int]) -> dict[int, float]:
    """When the first action of each of these microbatches began."""
    found: dict[int, float] = {}
    for timed in run.actions:
        if timed.action.index in microbatches and not timed.action.op.by_update:
            found[timed.action.index] = min(timed.begin, found.get(timed.action.index, timed.begin))
    return found
