"""Slots: the storage of microbatches in flight. Microbatch m of stage s owns slot m % slots[s].

A slot's next owner may start its forward only after the backward of the slot's last owner: those write-after-read
edges are added to the diagram, so that a plan that was overtaken by reality cannot overwrite what is still needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram, EdgeFamily, Origin
from asyncpipe.passes.plan import Plan

__all__ = ["assign_slots", "with_slot_edges"]


def assign_slots(diagram: Diagram, plan: Plan) -> tuple[int, ...]:
    """As many slots as `in_flight` allows; without it the fewest with which no forward waits in the planned timing.

    Where the stage above may still read a slot that `in_flight` would reuse, more are taken.
    """
    found = []
    for stage, limit in enumerate(diagram.in_flight):
        more = limit is None or len(list(_last(diagram, stage, 0))) > 1
        found.append(max(limit or 0, _slots(diagram, plan, stage)) if more else limit or 0)
    return tuple(found)


def _slots(diagram: Diagram, plan: Plan, stage: int) -> int:
    every = diagram.every
    frees = [max(plan.ends(last, every) for last in _last(diagram, stage, m)) for m in _recorded(plan)]
    slots = 1
    while not all(free < plan.starts(Action(stage, Op.F, m + slots), every) for m, free in enumerate(frees)):
        slots += 1
    return slots


def _recorded(plan: Plan) -> range:
    return range(plan.start + 2 * plan.microbatches)


def _last(diagram: Diagram, stage: int, microbatch: int) -> Iterator[Action]:
    """What ends the use of a slot: the backward, and where that does not wait for it, what the stage above does.

    The output of a stage is the saved input of the stage above, until that has its weight gradients.
    """
    yield diagram.resolved(Action(stage, diagram.gradient_op(stage), microbatch))
    if stage + 1 == diagram.stages:
        return
    above = diagram.gradient_op(stage + 1)
    if stage in diagram.local:
        yield Action(stage + 1, Op.F, microbatch)
    if stage in diagram.local or above is Op.W:
        yield diagram.resolved(Action(stage + 1, above, microbatch))


def with_slot_edges(diagram: Diagram, slots: tuple[int, ...]) -> Diagram:
    """The diagram with F[s, m] after the backward of microbatch m - slots[s]."""
    families = dict(diagram.families)
    for stage, count in enumerate(slots):
        origin = Origin(f"slot m % {count} is reused")
        sources = [(diagram.gradient_op(stage), stage), *((a.op, a.stage) for a in list(_last(diagram, stage, 0))[1:])]
        for source in sources:
            families[Op.F, stage] = (*families[Op.F, stage], EdgeFamily(*source, _back(count), origin))
    return replace(diagram, families=families)


def _back(count: int) -> Callable[[int, int | None], int | None]:
    return lambda i, n: i - count
