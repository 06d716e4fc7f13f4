"""From stream groups to streams: how many, on which device, serving which stages, and who runs what."""

from __future__ import annotations

from collections.abc import Callable

from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Stream
from asyncpipe.schedule import Schedule, StreamGroup
from asyncpipe.schedule.expression import Expression, names
from asyncpipe.schedule.rule import BodyEntry
from asyncpipe.schedule.source import Report

__all__ = ["Assign", "place_stages", "place_streams"]

Assign = dict[tuple[Op, int], Callable[[int], int]]


def evaluate(expression: Expression, env: dict[str, int], report: Report, schedule: Schedule, key: str) -> int:
    """The value of an expression of the file; a division by zero is an AP110 at its key."""
    try:
        return expression.evaluate(env)
    except ZeroDivisionError:
        report.error("AP110", f"{key}: {expression} divides by zero for S = {env['S']}", schedule.where(key))
        return 0


def place_stages(schedule: Schedule, stages: int, report: Report) -> tuple[int, tuple[int, ...]]:
    """(number of devices, device of each stage); AP121 where a stage is placed outside."""
    env = {"S": stages, "last": stages - 1}
    devices = evaluate(schedule.devices, env, report, schedule, "devices")
    if devices < 1 or devices > 4096:
        report.error(
            "AP121",
            f"devices: {schedule.devices} is {devices} for S = {stages}",
            schedule.where("devices"),
            "from 1 to 4096",
        )
        devices = 1
    places = tuple(
        evaluate(schedule.place, {**env, "D": devices, "s": s}, report, schedule, "place") for s in range(stages)
    )
    for stage, device in enumerate(places):
        if not 0 <= device < devices:
            message = f"place: {schedule.place} puts stage {stage} on device {device} of {devices}"
            report.error("AP121", message, schedule.where("place"), f"devices count from 0 to {devices - 1}")
            return devices, tuple(0 for _ in places)
    return devices, places


def place_streams(
    schedule: Schedule, stages: int, devices: int, place: tuple[int, ...], report: Report
) -> tuple[tuple[Stream, ...], Assign]:
    """The streams of all groups, and for each (op, stage) the stream of each index."""
    streams: list[Stream] = []
    owner: dict[tuple[Op, int], StreamGroup] = {}
    assign: Assign = {}
    env = {"S": stages, "D": devices, "last": stages - 1}
    for number, group in enumerate(schedule.streams):
        served = _served(group, env, report)
        made = _streams(schedule, group, number, served, env, place, report)
        first = len(streams)
        streams += made
        for op in group.runs:
            for stage in served:
                if (op, stage) in owner:
                    message = f"{op} of stage {stage} is run by two groups, {owner[op, stage].name} and {group.name}"
                    report.error("AP116", message, group.where("runs"), "every action needs exactly one group")
                owner[op, stage] = group
                assign[op, stage] = _assign(group, op, first, made, stage, schedule.update.every)
    _check_served(schedule, stages, assign, report)
    return tuple(streams), assign


def _served(group: StreamGroup, env: dict[str, int], report: Report) -> tuple[int, ...]:
    try:
        low, high = (bound.evaluate(env) for bound in group.stages)
    except ZeroDivisionError:
        report.error("AP110", "stages: divides by zero", group.where("stages"))
        return ()
    if low < 0 or high > env["last"]:
        message = f"stages {low}..{high} of group {group.name}: there are stages 0 to {env['last']}"
        report.error("AP114", message, group.where("stages"), "use `last` for the last stage")
        return ()
    return tuple(range(low, high + 1))


def _streams(
    schedule: Schedule,
    group: StreamGroup,
    number: int,
    served: tuple[int, ...],
    env: dict[str, int],
    place: tuple[int, ...],
    report: Report,
) -> list[Stream]:
    if group.per and group.count != 1:
        report.error("AP105", f"group {group.name} has both `count` and `per`", group.where("count"), "keep one")
    parts: list[tuple[int, ...]]
    if group.per == "stage":
        parts = [(s,) for s in served]
    elif group.per == "device":
        parts = [tuple(s for s in served if place[s] == d) for d in sorted({place[s] for s in served})]
    else:
        parts = [served] * group.count
    made = []
    for index, part in enumerate(parts):
        device = _device(schedule, group, part, env, place, report)
        body = _body(group, part, {**env, "d": device}, report)
        name = f"{group.name}[{index}]" if len(parts) > 1 else group.name
        nth = (1, 0) if group.per else (group.count, index)
        made.append(Stream(name, number, index, device, part, group.order, body, nth))
    return made


def _device(
    schedule: Schedule,
    group: StreamGroup,
    part: tuple[int, ...],
    env: dict[str, int],
    place: tuple[int, ...],
    report: Report,
) -> int:
    if group.device is None:
        found = {place[s] for s in part} or {0}
    else:
        found = {evaluate(group.device, {**env, "s": s}, report, schedule, "devices") for s in part} or {0}
    if len(found) > 1:
        message = f"a stream of group {group.name} would live on the devices {sorted(found)}"
        report.error("AP121", message, group.where(), "use `per: device`, `per: stage`, or `device:`")
    device = min(found)
    if not 0 <= device < env["D"]:
        report.error("AP121", f"group {group.name} is put on device {device} of {env['D']}", group.where("device"))
        return 0
    return device


def _body(
    group: StreamGroup, part: tuple[int, ...], env: dict[str, int], report: Report
) -> tuple[tuple[Op, int, int], ...]:
    """The body of one stream, expanded over its stages: (op, stage, microbatch offset) in order."""
    lines: list[tuple[Op, int, int]] = []
    for entry in group.body:
        for stage in _entry_stages(group, entry, part, env, report):
            scope = {**env, "s": stage, "m": 0}
            zero, one, far = (entry.index.evaluate({**scope, "m": m}) for m in (0, 1, 1000))
            if one != zero + 1 or far != zero + 1000:
                report.error("AP118", f"{entry}: the microbatch must be m plus a constant", group.where("body"))
            lines.append((entry.op, stage, zero))
    _check_body(group, part, lines, report)
    return tuple(lines)


def _entry_stages(
    group: StreamGroup, entry: BodyEntry, part: tuple[int, ...], env: dict[str, int], report: Report
) -> tuple[int, ...]:
    if entry.stage is None:
        return part if entry.op is Op.F else tuple(reversed(part))
    bound = {name.name for name in [*names(entry.stage), *names(entry.index)]}
    if "s" in bound and len(part) != 1:
        message = f"{entry}: `s` is not known, since a stream of group {group.name} serves {len(part)} stages"
        report.error(
            "AP117",
            message,
            group.where("body"),
            "use `per: stage`, or `*` for the stream's stages in data order",
        )
        return ()
    stage = entry.stage.evaluate({**env, "s": part[0]})
    if stage not in part:
        report.error("AP114", f"{entry}: stage {stage} is not served by group {group.name}", group.where("body"))
        return ()
    return (stage,)


def _check_body(group: StreamGroup, part: tuple[int, ...], lines: list[tuple[Op, int, int]], report: Report) -> None:
    if not group.body or report.has_errors:
        return
    found = [(op, stage) for op, stage, _ in lines]
    for wanted in [(op, stage) for op in group.runs for stage in part]:
        if found.count(wanted) != 1:
            times = "never" if wanted not in found else f"{found.count(wanted)} times"
            message = f"the body of group {group.name} runs {wanted[0]} of stage {wanted[1]} {times}"
            report.error("AP117", message, group.where("body"), "every action of `runs` once an iteration")
    for op, stage in dict.fromkeys(found):
        if op not in group.runs:
            report.error(
                "AP117",
                f"the body of group {group.name} has {op} of stage {stage}, which is not in `runs`",
                group.where("body"),
            )


def _assign(group: StreamGroup, op: Op, first: int, made: list[Stream], stage: int, every: int) -> Callable[[int], int]:
    """Microbatch m on stream m % n, an update where its last microbatch is, update-only groups g % n."""
    if group.per:
        number = first + next((i for i, stream in enumerate(made) if stage in stream.stages), 0)
        return lambda index: number
    count = group.count
    if op is Op.U and group.runs != (Op.U,):
        return lambda index: first + (index * every + every - 1) % count
    return lambda index: first + index % count


def _check_served(schedule: Schedule, stages: int, assign: Assign, report: Report) -> None:
    where = schedule.where("streams")
    for stage in range(stages):
        ops = {op for op, s in assign if s == stage}
        halves = ops & {Op.I, Op.W}
        if Op.B in ops and halves:
            report.error(
                "AP116",
                f"stage {stage} runs both B and {'/'.join(sorted(halves))}",
                where,
                "either B, or I and W",
            )
        missing = [op for op in (Op.F, Op.U) if op not in ops]
        missing += (
            []
            if Op.B in ops or halves == {Op.I, Op.W}
            else [op for op in (Op.I, Op.W) if op not in ops]
            if halves
            else [Op.B]
        )
        for op in missing:
            report.error(
                "AP116",
                f"no stream group runs {op} ({op.words}) of stage {stage}",
                where,
                f"add {op} to the `runs` of a group",
            )
        if missing:
            return
