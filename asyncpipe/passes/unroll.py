"""The plan's order, unrolled: which actions run in which iteration, for an endless run or one of n microbatches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from asyncpipe.ir import Action
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.plan import Plan

__all__ = ["Unrolled", "unroll"]


@dataclass(frozen=True)
class Unrolled:
    """Warmup and one body iteration in host issue order, as (stream, action); body indices are relative."""

    warmup: tuple[tuple[int, Action], ...]
    body: tuple[tuple[int, Action], ...]
    start: int
    step: int
    every: int

    def iteration(self, k: int) -> Iterator[tuple[int, Action]]:
        """The actions of body iteration k with absolute indices."""
        for stream, action in self.body:
            yield stream, action.later(self.start + k * self.step, self.every)

    def run(self, n: int | None, iterations: int) -> Iterator[tuple[int, int, Action]]:
        """(iteration, stream, action) of warmup (-1) and `iterations` iterations, without what lies past n."""
        for stream, action in self.warmup:
            if self.exists(action, n):
                yield -1, stream, action
        for k in range(iterations):
            for stream, action in self.iteration(k):
                if self.exists(action, n):
                    yield k, stream, action

    def exists(self, action: Action, n: int | None) -> bool:
        return n is None or action.index < (-(-n // self.every) if action.op.by_update else n)

    def last_microbatch(self, k: int) -> int:
        """The highest microbatch that iteration k touches."""
        return self.start + k * self.step + self._reach[1]

    def first_microbatch(self, k: int) -> int:
        """The lowest microbatch that iteration k touches."""
        return self.start + k * self.step + self._reach[0]

    @cached_property
    def _reach(self) -> tuple[int, int]:
        """The lowest and the highest microbatch of the body, relative."""
        every = self.every
        low = min(a.index * every if a.op.by_update else a.index for _, a in self.body)
        return low, max(a.index * every + every - 1 if a.op.by_update else a.index for _, a in self.body)


def unroll(diagram: Diagram, plan: Plan) -> Unrolled:
    """Splits the plan's recorded orders at its cuts; body indices become relative to the plan's start."""
    base = plan.start
    parts: tuple[list[tuple[int, Action]], list[tuple[int, Action]]] = ([], [])
    for stream, (order, cut) in enumerate(zip(plan.orders, plan.cuts, strict=True)):
        parts[0].extend((stream, action) for action in order[:cut])
        parts[1].extend((stream, action) for action in order[cut:])
    for part in parts:
        part.sort(key=lambda item: plan.sequence[item[1]])
    body = tuple((stream, action.later(-base, diagram.every)) for stream, action in parts[1])
    return Unrolled(tuple(parts[0]), body, base, plan.microbatches, diagram.every)
