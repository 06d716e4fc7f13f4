"""From stream groups to streams: how many, on which device, serving which stages, and who runs what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

from asyncpipe.errors import Report
from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Stream
from asyncpipe.passes.names import evaluate, instance_names, span_of, stages_text
from asyncpipe.passes.stream_bodies import Line, body_lines, check_bodies, table_rows, window_lines
from asyncpipe.schedule import Schedule, StreamGroup
from asyncpipe.tables.wording import counted

__all__ = ["Assign", "Owner", "place_stages", "place_streams", "with_ratio"]

MAX_DEVICES = 4096
Assign = dict[tuple[Op, int], Callable[[int], int]]
Owner = dict[tuple[Op, int], StreamGroup]
Cost = Callable[[Op, int], Fraction | int]


def with_ratio(schedule: Schedule, stages: int, cost: Cost) -> tuple[StreamGroup, ...]:
    """The groups; under `ratio: auto` each with as many streams as keep up with the fastest group."""
    if schedule.ratio != "auto":
        return schedule.streams
    every = schedule.update.every
    env = instance_names(schedule, stages)
    served = [span_of(group.stages, env, "", None, Report()) for group in schedule.streams]
    work = [
        sum(Fraction(cost(op, s)) / (every if op.by_update else 1) for op in group.runs for s in span)
        for group, span in zip(schedule.streams, served, strict=True)
    ]
    least = min((w for w in work if w > 0), default=Fraction(1))
    return tuple(replace(g, count=max(1, ceil(w / least))) for g, w in zip(schedule.streams, work, strict=True))


def place_stages(schedule: Schedule, stages: int, report: Report) -> tuple[int, tuple[int, ...]]:
    """(number of devices, device of each stage); AP121 where a stage is placed outside."""
    env = {"S": stages, "last": stages - 1}
    devices = evaluate(schedule.devices, env, "devices", schedule.where("devices"), report)
    if devices is None:
        return 1, (0,) * stages
    if not 1 <= devices <= MAX_DEVICES:
        message = f"expected 1 to {MAX_DEVICES} devices, found devices: {schedule.devices}{_equals(devices, env)}"
        hint = "use more stages" if devices < 1 else ""
        report.error("AP121", message, schedule.where("devices"), hint)
        return 1, (0,) * stages
    listed = schedule.place if isinstance(schedule.place, tuple) else None
    if listed is not None and len(listed) != stages:
        there = f"there {'is' if stages == 1 else 'are'} {stages}"
        message = f"`place` lists the devices of {counted(len(listed), 'stage')}, but {there}"
        report.error("AP121", message, schedule.where("place"), "one device for each stage, or an expression in s")
        return devices, (0,) * stages
    places = []
    for stage in range(stages):
        device = _device_of(schedule, stage, {**env, "D": devices, "s": stage}, report)
        if device is None:
            return devices, (0,) * stages
        places.append(device)
    return devices, tuple(places)


def _device_of(schedule: Schedule, stage: int, env: dict[str, int], report: Report) -> int | None:
    where, place = schedule.where("place"), schedule.place
    device = place[stage] if isinstance(place, tuple) else evaluate(place, env, "place", where, report)
    if device is not None and not 0 <= device < env["D"]:
        shown = "place" if isinstance(place, tuple) else f"place: {place}"
        message = f"{shown} puts stage {stage} on device {device}; {_devices(env['D'])}"
        report.error("AP121", message, where)
        return None
    return device


def _equals(value: int, env: dict[str, int]) -> str:
    return f" = {value} for S = {env['S']}"


def _devices(count: int) -> str:
    return f"there are devices 0 to {count - 1}" if count > 1 else "there is only device 0"


def place_streams(
    schedule: Schedule, stages: int, devices: int, place: tuple[int, ...], recomputed: range, report: Report
) -> tuple[tuple[Stream, ...], Assign, Owner]:
    """The streams of all groups, for each (op, stage) the stream of each index, and the group that runs it."""
    streams: list[Stream] = []
    owner: Owner = {}
    assign: Assign = {}
    env = {"S": stages, "D": devices, "last": stages - 1}
    for number, group in enumerate(schedule.streams):
        served = tuple(span_of(group.stages, env, f"group {group.name}", group.where("stages"), report))
        made = _streams(schedule, group, number, served, env, place, recomputed, report)
        first = len(streams)
        streams += made
        for op in group.runs:
            own = [stage for stage in served if op is not Op.R or stage in recomputed]
            twice = [stage for stage in own if (op, stage) in owner]
            if twice:
                _run_twice(op, twice, owner[op, twice[0]], group, report)
            for stage in own:
                owner[op, stage] = group
                assign[op, stage] = _assign(group, op, first, made, stage, schedule.update.every)
    _check_served(schedule, stages, owner, report)
    return tuple(streams), assign, owner


def _run_twice(op: Op, stages: list[int], first: StreamGroup, second: StreamGroup, report: Report) -> None:
    message = f"{op} of {stages_text(stages)} is run by two groups, {first.name} and {second.name}"
    where = second.where("stages", "runs")
    report.error("AP116", message, where, f"remove {op} from one of them, or let them serve different `stages`")


_RESERVED = ("sync", "copy")
"""Groups of the compiler's own."""
_EXCLUSIVE = (
    ("count", "per"),
    ("order", "body"),
    ("order", "table"),
    ("body", "table"),
    ("assign", "per"),
    ("assign", "body"),
)


def _check_keys(group: StreamGroup, report: Report) -> None:
    for first, second in _EXCLUSIVE:
        if first in group.places and second in group.places:
            message = f"group {group.name} has both `{first}` and `{second}`"
            report.error("AP105", message, group.where(first), "keep one of the two")
    if group.name in _RESERVED:
        message = f"no group may be called {group.name}: the compiler's own streams have that name"
        report.error("AP105", message, group.where(), "choose another name")
    if group.table and group.per != "device":
        message = f"group {group.name} has a table, which orders each device"
        report.error("AP105", message, group.where("table"), "write `per: device` beside it")


def _streams(
    schedule: Schedule,
    group: StreamGroup,
    number: int,
    served: tuple[int, ...],
    env: dict[str, int],
    place: tuple[int, ...],
    recomputed: range,
    report: Report,
) -> list[Stream]:
    before = len(report.diagnostics)
    _check_keys(group, report)
    parts = _parts(group, served, place)
    table = table_rows(schedule, group, env["S"], env["D"], report) if group.table and group.per == "device" else ()
    made = []
    for index, part in enumerate(parts):
        device = _device(group, part, {**env, "i": index}, place, report)
        # The bodies of a group are alike: once one is wrong, the others would only repeat it.
        right = len(report.diagnostics) == before
        lines = body_lines(group, part, {**env, "d": device}, report) if right else ()
        every = schedule.update.every
        if table and right:
            lines = window_lines(group, table[device], part, device, every, recomputed, report)
        name = f"{group.name}[{index}]" if len(parts) > 1 else group.name
        nth = (every, 0) if table else (1, 0) if group.per else (group.count, index)
        dynamic = group.assign == "dynamic"
        settings = (group.order, lines, nth, bool(table), group.runs, group.priority, group.sms, dynamic)
        made.append(Stream(name, number, index, device, part, *settings))
    if group.body and len(report.diagnostics) == before:
        check_bodies(group, made, report)
    for device in sorted({d for d, row in enumerate(table) if row} - {stream.device for stream in made}):
        message = f"row {device} of the table of group {group.name} is for a device that holds none of its stages"
        report.error("AP121", message, group.where("table"), "let `place` put stages there, or leave the row empty")
    return [replace(stream, body=_recomputed_only(stream.body, recomputed)) for stream in made]


def _recomputed_only(lines: tuple[Line, ...], recomputed: range) -> tuple[Line, ...]:
    """Without the R of stages that recompute nothing: a body is one for all stages of its group."""
    return tuple(line for line in lines if line[0] is not Op.R or line[1] in recomputed)


def _parts(group: StreamGroup, served: tuple[int, ...], place: Sequence[int]) -> list[tuple[int, ...]]:
    """The stages that each stream of the group serves."""
    if group.per == "stage":
        return [(s,) for s in served]
    if group.per == "device":
        return [tuple(s for s in served if place[s] == d) for d in sorted({place[s] for s in served})]
    return [served] * group.count


def _device(
    group: StreamGroup,
    part: tuple[int, ...],
    env: dict[str, int],
    place: tuple[int, ...],
    report: Report,
) -> int:
    found = {place[s] for s in part}
    if group.device is not None:
        what, where = f"device of group {group.name}", group.where("device")
        values = {evaluate(group.device, {**env, "s": s}, what, where, report) for s in part}
        found = {value for value in values if value is not None}
    if len(found) > 1:
        devices = ", ".join(map(str, sorted(found)))
        message = f"a stream lives on one device; one of group {group.name} would serve stages on the devices {devices}"
        hint = "use `per: device` or `per: stage`, or put the stream on one `device`"
        report.error("AP121", message, group.where("device"), hint)
    device = min(found, default=0)
    if not 0 <= device < env["D"]:
        message = f"group {group.name} is put on device {device}; {_devices(env['D'])}"
        report.error("AP121", message, group.where("device"))
        return 0
    return device


def _assign(group: StreamGroup, op: Op, first: int, made: list[Stream], stage: int, every: int) -> Callable[[int], int]:
    """Microbatch m on stream m % n, an update where its last microbatch is, update-only groups g % n.

    A body goes round by iterations: there m is the iteration that names the action.
    """
    if group.per:
        number = first + next((i for i, stream in enumerate(made) if stage in stream.stages), 0)
        return lambda index: number
    count = group.count
    offset = next((offset for *line, offset in made[0].body if line == [op, stage]), 0)
    if op is Op.U and (group.body or group.runs != (Op.U,)):
        return lambda index: first + (index * every + every - 1 - offset) % count
    return lambda index: first + (index - offset) % count


def _check_served(schedule: Schedule, stages: int, owner: Owner, report: Report) -> None:
    """AP116 unless each stage has its forward, its update, and its backward either whole or in both halves."""
    missing: dict[Op, list[int]] = {}
    mixed: list[int] = []
    for stage in range(stages):
        ops = {op for op in Op if (op, stage) in owner}
        halves = ops & {Op.I, Op.W}
        if Op.B in ops and halves:
            mixed.append(stage)
        for op in {Op.F, Op.U, *((Op.I, Op.W) if halves and Op.B not in ops else (Op.B,))} - ops:
            missing.setdefault(op, []).append(stage)
    if mixed:
        half = next(op for op in (Op.I, Op.W) if (op, mixed[0]) in owner)
        message = (
            f"B and {half} are both run of {stages_text(mixed)}: a backward is either whole (B) or split (I and W)"
        )
        report.error("AP116", message, owner[half, mixed[0]].where("runs"), "keep B, or I and W")
    for op in (op for op in Op if op in missing):
        message = f"no stream group runs {op} ({op.words}) of {stages_text(missing[op])}"
        report.error("AP116", message, schedule.where("streams"), f"add {op} to the `runs` of a group")
    if Op.R in schedule.ops and schedule.recompute.mode != "full":
        group = next(group for group in schedule.streams if Op.R in group.runs)
        message = f"group {group.name} runs R, but nothing is to be recomputed"
        report.error("AP116", message, group.where("runs"), "add `recompute: full`, or remove R")
