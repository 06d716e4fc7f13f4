"""The races that a schedule intends: reads and writes of a stage's parameters that nothing orders."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.ir import Action, Op, Program
from asyncpipe.schedule import Weights

__all__ = ["Race", "intended_races"]


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
