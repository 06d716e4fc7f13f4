"""AP5xx: forwards that run away, actions that starve, and what the author expects."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

from asyncpipe.analysis.staleness import Staleness
from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram, Stream
from asyncpipe.passes.order import MAX_AHEAD, Replay, Stuck
from asyncpipe.passes.plan import Plan
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.source import Report
from asyncpipe.verify.order import explain_deadlock, explain_endless, shortest_cycle

__all__ = ["check_expectations", "check_forward_is_bounded", "explain_no_steady_state"]

_FAR = 10**6
"""After so many periods every edge exists."""


def explain_no_steady_state(schedule: Schedule, stuck: Stuck, report: Report) -> None:
    """AP201, AP501 or AP503 for a schedule of which something stays behind; AP502 for one that never repeats."""
    replay = stuck.replay
    if shortest_cycle(schedule, replay) is not None:
        explain_deadlock(schedule, replay, report)
        return
    late = _late(replay)
    ready = [key for key in late if _is_ready(replay, *key)]
    if left := [stage for op, stage in ready if op is Op.F and stage - 1 in replay.diagram.local]:
        _left_behind(schedule, left[0], report)
    elif starved := [key for key in ready if key[0] is not Op.B]:
        _starved(schedule, replay.diagram, *starved[0], late, report)
    elif ready:
        _ahead(schedule, ready[0][1], report)
    elif never := [Action(stage, op, 0) for op, stage in late if replay.frontier[op, stage] == 0]:
        explain_endless(schedule, replay, never[0], report)
    elif stuck.reason == "ahead":
        _ahead(schedule, stuck.stage, report)
    else:
        message = "the order of the streams does not repeat soon enough under these costs"
        hint = f"round the costs, or {'choose a smaller' if schedule.in_flight else 'add'} `in_flight`"
        report.error("AP502", message, schedule.where("costs", "streams"), hint)


def _late(replay: Replay) -> list[tuple[Op, int]]:
    """The ops that lag far behind the others, which nothing explains but a stream that prefers others."""
    every = replay.diagram.every
    progress = {(op, s): f * (every if op.by_update else 1) for (op, s), f in replay.frontier.items()}
    return [key for key, done in progress.items() if max(progress.values()) - done > MAX_AHEAD // 2]


def _is_ready(replay: Replay, op: Op, stage: int) -> bool:
    """Whether the next such action could run at once, but for what else its stream runs."""
    action = Action(stage, op, replay.frontier[op, stage])
    return all(replay.is_done(source) for source, _ in replay.diagram.predecessors(action))


def _starved(
    schedule: Schedule, diagram: Diagram, op: Op, stage: int, late: list[tuple[Op, int]], report: Report
) -> None:
    number = diagram.assign[op, stage](0)
    stream = diagram.streams[number]
    if all(key in late for key, assign in diagram.assign.items() if assign(0) == number):
        _overloaded(schedule, stream, op, report)
        return
    group = schedule.streams[stream.group]
    if group.count > 1 and group.assign != "dynamic" and not group.body:
        message = f"the streams of group {group.name} drift apart: microbatch m goes to stream m % {group.count}, but"
        message += " they take different times for it, and nothing makes the fast ones wait"
        report.error(
            "AP503",
            message,
            group.where("count", "runs"),
            "add an `in_flight` that is no multiple of the count, or `assign: dynamic`",
        )
        return
    message = f"{op} of stage {stage} starves: stream {stream.name} always has something more urgent to run"
    hint = f"put {op} earlier in the `order` of group {group.name}, or add a rule that waits for it"
    report.error("AP503", message, group.where("order", "runs"), hint)


def _overloaded(schedule: Schedule, stream: Stream, op: Op, report: Report) -> None:
    """All that the stream runs falls behind, so no order of its own can help."""
    message = f"stream {stream.name} cannot keep up: it takes longer for the {op} of a microbatch than the other"
    message += " streams for theirs, and nothing makes them wait"
    wait = f"a rule such as F[s, m] after {op}[s, g-4]" if op in (Op.U, Op.SYNC) else "`in_flight: n`"
    where = schedule.streams[stream.group].where("runs") if stream.group >= 0 else schedule.where("costs")
    report.error("AP503", message, where, f"add {wait}, or let it cost less")


def _left_behind(schedule: Schedule, stage: int, report: Report) -> None:
    message = f"the forward of stage {stage - 1} runs ahead of that of stage {stage} without bound: its gradient is"
    message += f" {schedule.aux.gradient}, so that nothing makes it wait for the stage above"
    report.error("AP501", message, schedule.where("aux"), "add `in_flight: n`")


def _ahead(schedule: Schedule, stage: int, report: Report) -> None:
    if schedule.in_flight is not None:
        message = f"the forward of stage {stage} is more than {MAX_AHEAD:,} microbatches ahead of its backward"
        report.error("AP501", message, schedule.where("in_flight"), "choose a smaller `in_flight`")
        return
    message = f"the forward of stage {stage} runs ahead of its backward without bound: nothing makes it wait"
    together = any({Op.F, Op.B} <= set(group.runs) for group in schedule.streams)
    other = "take B before F in its `order`" if together else "run F and B in one stream"
    hint = f"add `in_flight: n`, a rule such as F[0, m] after U[*, g-1], or {other}"
    report.error("AP501", message, schedule.where("streams"), hint)


def check_forward_is_bounded(schedule: Schedule, diagram: Diagram, plan: Plan, report: Report) -> None:
    """AP501 unless each F depends, through rules, in_flight or stream order, on an earlier backward of its stage.

    Actions a whole period apart are one here: what each depends on is the same in every period.
    """
    dependents = _dependents(diagram, plan)
    for stage in range(diagram.stages):
        gradient = diagram.gradient_op(stage)
        found = {action for action in dependents if action[:2] == (stage, gradient)}
        queue = deque(found)
        while queue:
            new = dependents[queue.popleft()] - found
            found |= new
            queue.extend(new)
        if any(action[:2] == (stage, Op.F) and action not in found for action in dependents):
            _ahead(schedule, stage, report)
            return


def _dependents(diagram: Diagram, plan: Plan) -> dict[Action, set[Action]]:
    """Per steady action, modulo the period, the actions that wait for it by an edge or follow it in its stream."""
    every, far = diagram.every, plan.start + _FAR * plan.microbatches

    def folded(action: Action) -> Action:
        step = plan.microbatches // every if action.op.by_update else plan.microbatches
        return action._replace(index=action.index % step)

    steady = [[folded(a) for a in order[cut:]] for order, cut in zip(plan.orders, plan.cuts, strict=True)]
    dependents: dict[Action, set[Action]] = {action: set() for order in steady for action in order}
    for order in steady:
        for before, action in zip(order[-1:] + order[:-1], order, strict=True):
            dependents[before].add(action)
            for source, _ in diagram.predecessors(action.later(far, every)):
                dependents[folded(source)].add(action)
    return dependents


def check_expectations(
    schedule: Schedule, measured: Staleness, period: Fraction, versions: tuple[int, ...], report: Report
) -> None:
    """AP504 where the instance of `expect` is not what the author states; `versions` may be empty if nothing is."""
    expect = schedule.expect
    if expect is None:
        return
    if expect.staleness is not None and expect.staleness != measured.apply:
        _differs("staleness", expect.staleness, measured.apply, schedule, report)
    if expect.period is not None and expect.period != period:
        _differs("period", (expect.period,), (period,), schedule, report)
    if expect.versions is not None and expect.versions != versions:
        stated, found = (tuple(map(Fraction, values)) for values in (expect.versions, versions))
        _differs("versions", stated, found, schedule, report)
    if expect.max_staleness is not None and max(measured.max) > expect.max_staleness:
        stage = measured.max.index(max(measured.max))
        message = f"expect.max_staleness states {expect.max_staleness}, but stage {stage} of {expect.stages} reaches"
        rule = f"F[s, m] after U[s, g-{expect.max_staleness + 1}]"
        hint = f"lower `in_flight` or the number of streams, add the rule {rule}, or allow more"
        report.error("AP504", f"{message} {max(measured.max)}", expect.places.get("max_staleness"), hint)


def _differs(
    key: str, stated: tuple[Fraction, ...], found: tuple[Fraction, ...], schedule: Schedule, report: Report
) -> None:
    expect = schedule.expect
    assert expect is not None
    texts = [", ".join(map(str, values)) for values in (stated, found)]
    brackets = [text if key == "period" else f"[{text}]" for text in texts]
    message = f"expect.{key} states {brackets[0]}, but {expect.stages} stages give {brackets[1]}"
    report.error("AP504", message, expect.places.get(key), "correct the schedule, or change or remove what it expects")
