"""Slots: the storage of microbatches in flight. Microbatch m of stage s owns slot m % slots[s].

A slot's next owner may start its forward only after the backward of the slot's last owner: those write-after-read
edges are added to the diagram, so that a plan that was overtaken by reality cannot overwrite what is still needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram, EdgeFamily, Origin
from asyncpipe.passes.order import Plan

__all__ = ["assign_slots", "with_slot_edges"]


def assign_slots(diagram: Diagram, plan: Plan) -> tuple[int, ...]:
    """As many slots as `in_flight` allows; without it the fewest with which no forward waits in the planned timing."""
    limits = diagram.in_flight
    return tuple(limits[stage] or _slots(diagram, plan, stage) for stage in range(diagram.stages))


def _slots(diagram: Diagram, plan: Plan, stage: int) -> int:
    gradient, every = diagram.gradient_op(stage), diagram.every
    microbatches = range(plan.start + 2 * plan.microbatches)
    frees = [plan.ends(Action(stage, gradient, m), every) for m in microbatches]
    slots = 1
    while not all(free < plan.starts(Action(stage, Op.F, m + slots), every) for m, free in enumerate(frees)):
        slots += 1
    return slots


def with_slot_edges(diagram: Diagram, slots: tuple[int, ...]) -> Diagram:
    """The diagram with F[s, m] after the backward of microbatch m - slots[s]."""
    families = dict(diagram.families)
    for stage, count in enumerate(slots):
        edge = EdgeFamily(diagram.gradient_op(stage), stage, _back(count), Origin(f"slot m % {count} is reused"))
        families[Op.F, stage] = (*families[Op.F, stage], edge)
    return replace(diagram, families=families)


def _back(count: int) -> Callable[[int, int | None], int | None]:
    return lambda i, n: i - count
