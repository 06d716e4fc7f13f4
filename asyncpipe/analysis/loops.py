"""Cycles of actions that wait for each other, with the reason of each wait; indices are relative to the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from asyncpipe.errors import Position
from asyncpipe.ir import Action, Op, relative_text
from asyncpipe.passes.diagram import Diagram, Origin

__all__ = ["Loop", "Step", "is_storage", "make_loop", "origin_of"]

_SLOPES = ((1, 0), (-1, 0), (0, 1))


@dataclass(frozen=True)
class Step:
    """An action, and why it waits for the step before."""

    action: Action
    reason: str
    where: Position | None = None


@dataclass(frozen=True)
class Loop:
    """Steps in the order of time; the first one waits for the last, `microbatches` later, and that takes `time`.

    `replicas` names those that it leads through, where replicas differ.
    """

    steps: tuple[Step, ...]
    microbatches: int
    time: Fraction
    every: int = 1
    replicas: tuple[int, ...] = ()

    @property
    def period(self) -> Fraction:
        """Time per microbatch."""
        return self.time / self.microbatches

    def lines(self) -> Iterator[str]:
        """`0F[m] .. 7F[m] (data flow)`: what goes up or down the stages for one reason is one line."""
        first = self.steps[0]
        closing = replace(first, action=first.action.later(self.microbatches, self.every))
        yield relative_text(first.action)
        for run in _runs([*self.steps[1:], closing]):
            ends = dict.fromkeys([run[0].action, run[-1].action])
            yield f"{' .. '.join(map(relative_text, ends))} after it: {run[0].reason}"


def _runs(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Neighbours with one op and reason, of which the stage or the index goes up or down by one."""
    run = [steps[0]]
    for before, step in pairwise(steps):
        same = step.action.op is before.action.op and step.reason == before.reason
        slope = _slope(before, step)
        if not (same and slope in _SLOPES and (len(run) == 1 or slope == _slope(run[0], run[1]))):
            yield run
            run = []
        run.append(step)
    yield run


def _slope(before: Step, step: Step) -> tuple[int, int]:
    return step.action.stage - before.action.stage, step.action.index - before.action.index


def make_loop(steps: Sequence[Step], every: int, microbatches: int, time: Fraction) -> Loop:
    """One round of the cycle, from its lowest forward on; `steps` have absolute indices, without a jump back."""
    order = [(step.action.op is not Op.F, step.action.stage, step.action.index) for step in steps]
    first = order.index(min(order))
    base = steps[first].action
    microbatch = base.index * every if base.op.by_update else base.index
    again = [replace(step, action=step.action.later(microbatches, every)) for step in steps[:first]]
    turned = [replace(step, action=_relative(step.action, microbatch, every)) for step in (*steps[first:], *again)]
    rounds = _rounds(turned, every, microbatches)
    return Loop(tuple(turned[: len(turned) // rounds]), microbatches // rounds, time / rounds, every)


def _relative(action: Action, microbatch: int, every: int) -> Action:
    return action.shifted(-(microbatch // every if action.op.by_update else microbatch))


def _rounds(steps: Sequence[Step], every: int, microbatches: int) -> int:
    """How often the steps go round, each time equally many microbatches later."""
    for rounds in range(len(steps), 1, -1):
        size, later = len(steps) // rounds, microbatches // rounds
        if len(steps) % rounds == 0 and microbatches % rounds == 0 and later % every == 0:
            pairs = zip(steps, steps[size:], strict=False)
            if all(replace(a, action=a.action.later(later, every)) == b for a, b in pairs):
                return rounds
    return 1


def is_storage(origin: Origin) -> bool:
    """Whether an edge comes from the storage that the compiler chose, not from the schedule."""
    return origin.text.startswith(("slot ", "version "))


def origin_of(diagram: Diagram, target: Action, source: Action) -> Origin | None:
    """Why the diagram lets `target` wait for `source`: the schedule's own reason first; None if it does not."""
    if (target.op, target.stage) not in diagram.families:
        return None
    found = [origin for action, origin in diagram.predecessors(target) if action == source]
    return min(found, key=lambda origin: (is_storage(origin), origin.where is None), default=None)
