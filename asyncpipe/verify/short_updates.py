"""AP201 for runs whose last update is short: only a rule with `hi`, and then an earlier microbatch, can deadlock them.

`hi` of a short last update is the last microbatch there is. All other edges are those of the endless diagram, which has
no cycle; so a cycle lies near the end, and the actions there are all that is looked at.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from asyncpipe.errors import Report
from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.plan import Plan
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.expression import names

__all__ = ["check_short_updates"]

_SIZES, _RUNS = 9, 64
"""Short updates of all sizes below the first are tried, in as many runs as the second says."""


def check_short_updates(schedule: Schedule, diagram: Diagram, plan: Plan, report: Report) -> bool:
    """Whether runs of any length end; otherwise AP201 at the first rule with `hi`."""
    every = diagram.every
    rules = [rule for rule in schedule.rules if any(name.name == "hi" for name in names(rule.source_index))]
    if every == 1 or not rules:
        return True
    updates = range(plan.start, plan.start + plan.microbatches, every)
    sizes = sorted({*range(1, min(every, _SIZES)), every - 1})
    for n in islice((m + size for m in updates for size in sizes), _RUNS):
        if not _ends(diagram, n):
            message = (
                f"deadlock: the last update of {n} microbatches is short, and then a rule with `hi` closes a cycle"
            )
            report.error("AP201", message, rules[0].where, "run a multiple of `update.every` microbatches")
            return False
    return True


def _ends(diagram: Diagram, n: int) -> bool:
    """Whether nothing near the end of n microbatches waits for itself."""
    every = diagram.every
    first = max(0, (n - 1) // every - 1 - 2 * (diagram.ahead // every + 1)) * every
    waiting = {}
    waiters: dict[Action, list[Action]] = {}
    for op, stage in diagram.ops:
        for action in _existing(diagram, op, stage, first, n):
            sources = [s for s, _ in diagram.predecessors(action, n) if diagram.microbatch(s) >= first]
            waiting[action] = len(sources)
            for source in sources:
                waiters.setdefault(source, []).append(action)
    ready = deque(action for action, count in waiting.items() if count == 0)
    while ready:
        action = ready.popleft()
        del waiting[action]
        for waiter in waiters.get(action, ()):
            waiting[waiter] -= 1
            if waiting[waiter] == 0:
                ready.append(waiter)
    return not waiting


def _existing(diagram: Diagram, op: Op, stage: int, first: int, n: int) -> list[Action]:
    every = diagram.every
    span = range(first // every, -(-n // every)) if op.by_update else range(first, n)
    return [action for index in span if diagram.is_action(action := Action(stage, op, index))]
