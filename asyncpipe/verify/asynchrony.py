"""AP5xx: forwards that run away, actions that starve, and what the author expects."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

from asyncpipe.analysis.staleness import Staleness
from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.order import Plan, Stuck
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.source import Report

__all__ = ["check_expectations", "check_forward_is_bounded", "explain_no_steady_state"]


def explain_no_steady_state(schedule: Schedule, stuck: Stuck, report: Report) -> None:
    """AP501 or AP503 for a schedule whose forwards outrun something; AP502 for one that never repeats."""
    where = schedule.where("streams")
    if stuck.reason == "endless":
        message = "the order of the streams never repeats under these costs"
        report.error("AP502", message, schedule.where("costs"), "round the costs, or add `in_flight`")
        return
    diagram, frontier = stuck.replay.diagram, stuck.replay.frontier
    op, stage = min(frontier, key=lambda key: frontier[key] * (diagram.every if key[0] is Op.U else 1))
    if op is diagram.gradient_op(stage) or frontier[op, stage]:
        _ahead(schedule, stuck.stage, report)
    else:
        message = f"{op} of stage {stage} never runs: its stream always has something more urgent to do"
        report.error("AP503", message, where, f"put {op} earlier in the `order` of its group")


def _ahead(schedule: Schedule, stage: int, report: Report) -> None:
    message = f"the forward of stage {stage} runs ahead of its backward without bound: nothing makes it wait"
    hint = "add `in_flight: n`, a rule such as F[0, m] after U[*, g-1], or run F and B in one stream"
    report.error("AP501", message, schedule.where("streams"), hint)


def check_forward_is_bounded(schedule: Schedule, diagram: Diagram, plan: Plan, report: Report) -> None:
    """AP501 unless each F depends, through rules, in_flight or stream order, on an earlier backward of its stage."""
    before = _stream_predecessors(plan)
    far = plan.start + plan.microbatches - 1
    for stage in range(diagram.stages):
        if not _reaches_backward(diagram, plan, before, Action(stage, Op.F, far)):
            _ahead(schedule, stage, report)
            return


def _stream_predecessors(plan: Plan) -> dict[Action, Action]:
    before: dict[Action, Action] = {}
    for order in plan.orders:
        before |= dict(zip(order[1:], order[:-1], strict=True))
    return before


def _reaches_backward(diagram: Diagram, plan: Plan, before: dict[Action, Action], forward: Action) -> bool:
    """Searches what `forward` depends on, within the recorded plan, for a backward of its stage.

    The recorded part may be too short to show the dependency of its last forward: then one further ahead decides.
    """
    target = (diagram.gradient_op(forward.stage), forward.stage)
    for rounds in range(4):
        start = forward.shifted(rounds * plan.microbatches)
        seen, queue = {start}, deque([start])
        while queue:
            action = queue.popleft()
            if (action.op, action.stage) == target and action.index < start.index:
                return True
            back = rounds * plan.microbatches
            near = before.get(_shift(action, -back, diagram.every))
            sources = [source for source, _ in diagram.predecessors(action)]
            sources += [_shift(near, back, diagram.every)] if near else []
            for source in sources:
                if source not in seen and len(seen) < 100_000:
                    seen.add(source)
                    queue.append(source)
    return False


def _shift(action: Action, microbatches: int, every: int) -> Action:
    return action.shifted(microbatches // every if action.op is Op.U else microbatches)


def check_expectations(schedule: Schedule, measured: Staleness, period: Fraction, report: Report) -> None:
    """AP504 where the instance of `expect` is not what the author states."""
    expect = schedule.expect
    if expect is None:
        return
    if expect.staleness is not None and expect.staleness != measured.apply:
        _differs("staleness", expect.staleness, measured.apply, schedule, report)
    if expect.period is not None and expect.period != period:
        _differs("period", (expect.period,), (period,), schedule, report)


def _differs(
    key: str, stated: tuple[Fraction, ...], found: tuple[Fraction, ...], schedule: Schedule, report: Report
) -> None:
    expect = schedule.expect
    assert expect is not None
    texts = [", ".join(map(str, values)) for values in (stated, found)]
    brackets = [f"[{text}]" if key == "staleness" else text for text in texts]
    message = f"expect.{key} states {brackets[0]}, but {expect.stages} stages give {brackets[1]}"
    report.error("AP504", message, expect.places.get(key), "correct the schedule, or what it expects")
