"""The outcome of ordering: what every stream runs, when, and how that repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram

__all__ = ["Moment", "Plan", "with_assignment"]

Moment = tuple[int, int, int]
"""When an effect happens: the tick, then whether it is an end (0) or what runs after the ends (1), then the order."""


@dataclass(frozen=True)
class Plan:
    """The order of every stream with its times: before `start` as recorded, from then on repeating.

    `orders` holds, per stream, what ran up to the second of the two equal states; `cuts` where in each the first lies.
    Times are in ticks; one period of `period` ticks takes `microbatches` microbatches.
    """

    orders: tuple[tuple[Action, ...], ...]
    cuts: tuple[int, ...]
    start: int
    microbatches: int
    period: int
    times: dict[Action, tuple[int, int]]
    sequence: dict[Action, int]
    """Position of each action in the order of starts, over all streams: a topological order of the diagram."""
    chosen: dict[Action, int] = field(default_factory=dict)
    """The stream of each recorded action, where groups assign dynamically."""

    def time(self, action: Action, every: int) -> tuple[int, int]:
        """(start, end) in ticks of any action, also of one far beyond the recorded part."""
        recorded, rounds = self._recorded(action, every)
        begin, end = self.times[recorded]
        return begin + rounds * self.period, end + rounds * self.period

    def starts(self, action: Action, every: int) -> Moment:
        """The moment of the action's reads."""
        recorded, rounds = self._recorded(action, every)
        return self.times[recorded][0] + rounds * self.period, 1, self.sequence[recorded] + rounds * self._actions

    def ends(self, action: Action, every: int) -> Moment:
        """The moment of the action's writes: simultaneous ends in ascending order, before anything starts."""
        begin, end = self.time(action, every)
        return (end, 0, action.index) if end > begin else self.starts(action, every)

    def earlier(self, moment: Moment, rounds: int, every: int) -> Moment:
        """The same moment whole periods before."""
        tick, kind, order = moment
        return (
            tick - rounds * self.period,
            kind,
            order - rounds * (self._actions if kind else self.microbatches // every),
        )

    def recorded(self, action: Action, every: int) -> Action:
        """The action whole periods before, within the recorded part, that stands for this one."""
        return self._recorded(action, every)[0]

    def _recorded(self, action: Action, every: int) -> tuple[Action, int]:
        """The latest recorded action that is whole periods before this one, and how many."""
        step = self.microbatches // every if action.op.by_update else self.microbatches
        rounds = max(0, (action.index - self._highest[action.op]) // step)
        while action.shifted(-rounds * step) not in self.times:
            rounds += 1
            if rounds * step > action.index:
                raise KeyError(action)
        return action.shifted(-rounds * step), rounds

    @cached_property
    def updates(self) -> dict[int, list[Action]]:
        """The recorded updates of each stage."""
        found: dict[int, list[Action]] = {}
        for action in self.times:
            if action.op is Op.U:
                found.setdefault(action.stage, []).append(action)
        return found

    @cached_property
    def _highest(self) -> dict[Op, int]:
        highest = dict.fromkeys(Op, 0)
        for _, op, index in self.times:
            if index > highest[op]:
                highest[op] = index
        return highest

    @cached_property
    def _actions(self) -> int:
        """How many actions one period has."""
        return sum(map(len, self.orders)) - sum(self.cuts)


def with_assignment(diagram: Diagram, plan: Plan) -> Diagram:
    """The diagram with the streams that the plan chose where a group assigns dynamically."""
    if not any(stream.is_dynamic for stream in diagram.streams):
        return diagram

    def choose(op: Op, stage: int) -> Callable[[int], int]:
        return lambda index: plan.chosen[plan.recorded(Action(stage, op, index), diagram.every)]

    dynamic = [key for key, number in diagram.assign.items() if diagram.streams[number(0)].is_dynamic]
    return replace(diagram, assign={**diagram.assign, **{key: choose(*key) for key in dynamic}})
