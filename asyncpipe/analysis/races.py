"""The races that a schedule intends: reads and writes of a stage's parameters that nothing orders."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.ir import Action, Op, Program
from asyncpipe.schedule import Weights

__all__ = ["Race", "guaranteed_staleness", "intended_races"]


@dataclass(frozen=True)
class Race:
    """An op that touches the parameters of some stages while an update writes them."""

    op: Op
    stages: tuple[int, ...]
    because: str

    def __str__(self) -> str:
        verb = "writes" if self.op is Op.U else "reads"
        stages = ", ".join(map(str, self.stages))
        return f"{self.op} {verb} parameters of stage {stages} while an update writes them ({self.because})"


def intended_races(program: Program, weights: Weights) -> list[Race]:
    """One entry per op: F and B under `latest`, U under `write: racy`; a stashed backward reads a copy.

    The program must be long enough to show the steady state.
    """
    order = HappensBefore(program)
    readers = {Op.F: f"weights.forward: {weights.forward}", Op.U: f"update.write: {program.write}"}
    if weights.backward == "latest":
        readers |= dict.fromkeys((Op.B, Op.I), f"weights.backward: {weights.backward}")
    updates = {s: [a for a in order.actions if a.op is Op.U and a.stage == s] for s in range(program.stages)}
    races = []
    for op, because in readers.items():
        stages = tuple(s for s in range(program.stages) if _races(order, op, s, updates[s]))
        if stages:
            races.append(Race(op, stages, because))
    return sorted(races, key=lambda race: list(Op).index(race.op))


def _races(order: HappensBefore, op: Op, stage: int, updates: list[Action]) -> bool:
    readers = [a for a in order.actions if a.op is op and a.stage == stage]
    return any(a != u and not order.ordered(a, u) for a in readers for u in updates)


def guaranteed_staleness(program: Program) -> tuple[int | None, ...]:
    """Per stage the most updates that can come between a forward's read and its own update, whatever the timing.

    Those are the updates that events and streams order neither before the forward nor after its update. None: later
    updates may overtake without bound, as where racy workers do not wait for each other.
    """
    order = HappensBefore(program)
    period = range(program.start + 2 * program.step, program.start + 3 * program.step)
    return tuple(_most([_between(order, program, s, m) for m in period]) for s in range(program.stages))


def _most(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return max(known) if len(known) == len(counts) else None


def _between(order: HappensBefore, program: Program, stage: int, microbatch: int) -> int | None:
    forward = Action(stage, Op.F, microbatch)
    own = Action(stage, Op.U, microbatch // program.every)
    updates = [a for a in order.actions if a.op is Op.U and a.stage == stage and a != own]
    free = [u for u in updates if not order.before(u, forward) and not order.before(own, u)]
    return None if any(u.index > own.index for u in free) else len(free)
