"""The phases of a training: which compiled schedule trains the next updates, and when another one takes over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil

from asyncpipe.compiler import Compiled, compile_phases
from asyncpipe.errors import InternalError, Report, ScheduleError
from asyncpipe.ir import Program
from asyncpipe.runtime.replicas import Synchroniser, make_synchroniser
from asyncpipe.runtime.stage_weights import StageWeights
from asyncpipe.verify.trainable import slow_pushes

__all__ = ["Phases", "compiled_phases", "widest"]


def compiled_phases(compiled: Compiled) -> list[Compiled]:
    """Those of the schedule in their order, itself last; ScheduleError where one is invalid or cannot be trained."""
    report = Report()
    found = compile_phases(compiled, report)
    wrong = report.diagnostics if report.has_errors else [d for phase in found for d in slow_pushes(phase)]
    if wrong:
        raise ScheduleError(wrong)
    return found


def widest(phases: Sequence[Compiled]) -> Program:
    """What stages are built for: the slots and versions that the neediest phase has, the actions of all."""
    programs = [phase.program() for phase in phases]
    last = programs[-1]
    if any([s.name for s in program.streams] != [s.name for s in last.streams] for program in programs):
        raise InternalError("the phases of a schedule have different streams")
    return replace(
        last,
        slots=tuple(map(max, *(program.slots for program in programs), last.slots)),
        versions=tuple(map(max, *(program.versions for program in programs), last.versions)),
        body=tuple(line for program in programs for line in program.body),
    )


@dataclass
class Phases:
    """The compiled schedules of one training in their order, and how its replicas stay together in each.

    updates: how many the training is to have; None: as many as its first `fit`.
    """

    compiled: Sequence[Compiled]
    updates: int | None
    stages: Sequence[StageWeights]
    """Of replica 0."""
    seed: int
    _now: int = 0
    _synchronisers: dict[int, Synchroniser | None] = field(default_factory=dict, repr=False)

    def parts(self, done: int, microbatches: int) -> Iterator[tuple[int, int]]:
        """Cuts `microbatches` of each replica, after `done` updates, at the ends of phases: (phase, how many)."""
        every = self.compiled[-1].diagram.every
        if self.updates is None:
            self.updates = done + -(-microbatches // every)
        for phase, end in enumerate(self._ends(self.updates)):
            if (count := min(microbatches, (end - done) * every)) > 0:
                yield phase, count
                done, microbatches = end, microbatches - count
        if microbatches:
            yield len(self.compiled) - 1, microbatches

    def _ends(self, updates: int) -> list[int]:
        """After how many updates each phase but the last has ended."""
        given = [phase.until for phase in self.compiled[-1].schedule.phases]
        return [ceil(until * updates) if isinstance(until, Fraction) else until for until in given]

    def enter(self, phase: int) -> tuple[Compiled, Synchroniser | None]:
        """What runs in it. A synchroniser that begins takes the weights as they are, which all replicas share."""
        if phase not in self._synchronisers:
            program = self.compiled[phase].program()
            self._synchronisers[phase] = make_synchroniser(program, self.stages, self.seed + phase)
        synchroniser = self._synchronisers[phase]
        if synchroniser is not None and phase != self._now:
            synchroniser.adopt(self.stages)
        self._now = phase
        return self.compiled[phase], synchroniser

    @property
    def synchroniser(self) -> Synchroniser | None:
        """That of the phase that was entered last."""
        return self.enter(self._now)[1]
