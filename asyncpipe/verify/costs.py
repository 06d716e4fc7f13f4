"""AP105 for costs that do not fit the stages, AP505 for work that takes no time and never ends."""

from __future__ import annotations

from collections.abc import Callable

from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Diagram, EdgeFamily
from asyncpipe.schedule import Costs, Schedule
from asyncpipe.schedule.source import Report

__all__ = ["check_costs", "check_time_passes"]

Key = tuple[Op, int]


def check_costs(schedule: Schedule, stages: int, costs: Costs, report: Report) -> bool:
    """Whether every list of costs has one number per stage."""
    wrong = [(op, len(times)) for op, times in costs.values if len(times) not in (1, stages)]
    for op, count in wrong:
        message = f"expected one cost of {op}, or one for each of {stages} stages, found {count}"
        report.error("AP105", message, schedule.where("costs"))
    return not wrong


def check_time_passes(schedule: Schedule, diagram: Diagram, cost: Callable[[Op, int], int], report: Report) -> bool:
    """Whether no action that costs nothing can run for ever more microbatches while no time passes.

    Such ops are the largest set of free ones of which none waits, directly or by its body, for one outside.
    """
    free = {key for key in diagram.ops if cost(*key) == 0}
    while waiting := {key for key in free if not free.issuperset(_waits_for(diagram, key))}:
        free -= waiting
    if not free:
        return True
    op, stage = min(free, key=lambda key: (list(Op).index(key[0]), key[1]))
    message = f"{op} of stage {stage} takes no time, and waits for nothing that does: it would run for ever at once"
    report.error("AP505", message, schedule.where("costs", "streams"), "give it a cost, or add `in_flight`")
    return False


def _waits_for(diagram: Diagram, key: Key) -> set[Key]:
    """The ops that this one waits for in the steady state."""
    sources = {(f.source, f.stage) for f in diagram.families[key] if _persists(diagram, key[0], f)}
    bodies = (stream.body for stream in diagram.streams if any(key == line[:2] for line in stream.body))
    return sources.union(*({line[:2] for line in body} for body in bodies))


def _persists(diagram: Diagram, op: Op, family: EdgeFamily) -> bool:
    """Whether the edge still exists for late microbatches."""
    unit = diagram.every if op.by_update else 1
    settle, modulus = (-(-number // unit) for number in diagram.repeats)
    return any(family.index(i, None) is not None for i in range(settle, settle + modulus))
