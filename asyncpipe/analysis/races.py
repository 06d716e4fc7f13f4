"""The races that a schedule intends: reads and writes of a stage's parameters that nothing orders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.analysis.measured_staleness import lag_of
from asyncpipe.ir import Action, Op, Program
from asyncpipe.passes.names import stages_text
from asyncpipe.schedule import Weights

__all__ = ["Race", "guaranteed_staleness", "intended_races"]


@dataclass(frozen=True)
class Race:
    """An op that touches the parameters of some stages while an update writes them."""

    op: Op
    stages: tuple[int, ...]
    because: str

    def __str__(self) -> str:
        verb = "writes" if self.op in (Op.U, Op.SYNC) else "reads"
        where = stages_text(self.stages)
        return f"{self.op} {verb} parameters of {where} while an update writes them ({self.because})"


def intended_races(program: Program, weights: Weights, order: HappensBefore | None = None) -> list[Race]:
    """One entry per op: F and B under `latest`, U under `write: racy`, SYNC where nobody waits for it, SEND_U.

    A stashed backward reads a copy.

    The program must be long enough to show the steady state; `order` is its own, where that is known already.
    """
    order = order or HappensBefore(program)
    readers = {Op.F: f"weights.forward: {weights.forward}", Op.U: f"update.write: {program.write}"}
    if weights.backward == "latest":
        readers |= dict.fromkeys((Op.B, Op.I), f"weights.backward: {weights.backward}")
    readers |= {Op.SYNC: f"replicas.sync: {program.sync[0] if program.sync else ''}", Op.SEND_U: "sent without a lock"}
    races = []
    for op, because in readers.items():
        stages = tuple(s for s in range(program.stages) if _races(order, op, s))
        if stages:
            races.append(Race(op, stages, because))
    return sorted(races, key=lambda race: list(Op).index(race.op))


def _races(order: HappensBefore, op: Op, stage: int) -> bool:
    return any(u != a for a in order.launches(op, stage) for u in order.between(Op.U, stage, a, a))


def guaranteed_staleness(program: Program, order: HappensBefore | None = None) -> tuple[int | None, ...]:
    """Per stage the most updates that can come between a forward's read and its own update, whatever the timing.

    Those are the updates that events and streams order neither before the forward nor after its update; `lag(n)` reads
    n versions back in any case. None: later updates may overtake without bound, as where racy workers do not wait for
    each other.
    """
    order = order or HappensBefore(program)
    period = range(program.start + 2 * program.step, program.start + 3 * program.step)
    return tuple(_most_between(order, program, s, period) for s in range(program.stages))


def _most_between(order: HappensBefore, program: Program, stage: int, period: range) -> int | None:
    """The largest number over the period, of the microbatches that update the stage."""
    known = set(order.launches(Op.U, stage))
    lag, most = lag_of(program.forward_weights), 0
    for microbatch in period:
        own = Action(stage, Op.U, microbatch // program.every)
        if own in known:
            free = [u for u in _unordered(order, Action(stage, Op.F, microbatch), own) if u != own]
            if any(update.index > own.index for update in free):
                return None
            most = max(most, len(free) if lag is None else lag)
    return most


def _unordered(order: HappensBefore, forward: Action, own: Action) -> Iterable[Action]:
    """Updates that the forward may not see yet, because they, or their transfer to its device, may come later."""
    sent = set(order.launches(Op.SEND_U, forward.stage))
    if not sent:
        return order.between(Op.U, forward.stage, forward, own)
    updates = [update for update in order.launches(Op.U, forward.stage) if not order.before(own, update)]
    arrivals = [(update, update._replace(op=Op.SEND_U)) for update in updates]
    return [u for u, arrival in arrivals if not order.before(arrival if arrival in sent else u, forward)]
