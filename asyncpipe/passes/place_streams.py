"""From stream groups to streams: how many, on which device, serving which stages, and who runs what."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from asyncpipe.errors import Position
from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Stream
from asyncpipe.schedule import Schedule, StreamGroup
from asyncpipe.schedule.expression import Expression, names
from asyncpipe.schedule.rule import BodyEntry
from asyncpipe.schedule.source import Report

__all__ = ["Assign", "evaluate", "place_stages", "place_streams", "stages_text"]

MAX_DEVICES = 4096
MAX_OFFSET = 4096
Assign = dict[tuple[Op, int], Callable[[int], int]]
Owner = dict[tuple[Op, int], StreamGroup]


def evaluate(
    expression: Expression, env: dict[str, int], what: str, where: Position | None, report: Report
) -> int | None:
    """The value of an expression of the file; None after an AP110, since it divides by zero."""
    try:
        return expression.evaluate(env)
    except ZeroDivisionError:
        report.error("AP110", f"{what}: {expression} divides by zero for S = {env['S']}", where)
        return None


def stages_text(stages: Iterable[int]) -> str:
    """`stage 0`, `stages 0 to 3`, `stages 0, 2`."""
    found = sorted(stages)
    if len(found) == 1:
        return f"stage {found[0]}"
    whole = found == list(range(found[0], found[-1] + 1))
    return f"stages {found[0]} to {found[-1]}" if whole else f"stages {', '.join(map(str, found))}"


def place_stages(schedule: Schedule, stages: int, report: Report) -> tuple[int, tuple[int, ...]]:
    """(number of devices, device of each stage); AP121 where a stage is placed outside."""
    env = {"S": stages, "last": stages - 1}
    devices = evaluate(schedule.devices, env, "devices", schedule.where("devices"), report)
    if devices is None:
        return 1, (0,) * stages
    if not 1 <= devices <= MAX_DEVICES:
        message = f"expected 1 to {MAX_DEVICES} devices, found devices: {schedule.devices}{_equals(devices, env)}"
        report.error("AP121", message, schedule.where("devices"))
        return 1, (0,) * stages
    places = []
    for stage in range(stages):
        scope = {**env, "D": devices, "s": stage}
        device = evaluate(schedule.place, scope, "place", schedule.where("place"), report)
        if device is not None and not 0 <= device < devices:
            message = f"place: {schedule.place} puts stage {stage} on device {device}; there are {_devices(devices)}"
            report.error("AP121", message, schedule.where("place"))
            device = None
        if device is None:
            return devices, (0,) * stages
        places.append(device)
    return devices, tuple(places)


def _equals(value: int, env: dict[str, int]) -> str:
    return f" = {value} for S = {env['S']}"


def _devices(count: int) -> str:
    return f"devices 0 to {count - 1}" if count > 1 else "device 0 only"


def place_streams(
    schedule: Schedule, stages: int, devices: int, place: tuple[int, ...], report: Report
) -> tuple[tuple[Stream, ...], Assign]:
    """The streams of all groups, and for each (op, stage) the stream of each index."""
    streams: list[Stream] = []
    owner: Owner = {}
    assign: Assign = {}
    env = {"S": stages, "D": devices, "last": stages - 1}
    for number, group in enumerate(schedule.streams):
        served = _served(group, env, report)
        made = _streams(group, number, served, env, place, report)
        first = len(streams)
        streams += made
        for op in group.runs:
            twice = [stage for stage in served if (op, stage) in owner]
            if twice:
                _run_twice(op, twice, owner[op, twice[0]], group, report)
            for stage in served:
                owner[op, stage] = group
                assign[op, stage] = _assign(group, op, first, made, stage, schedule.update.every)
    _check_served(schedule, stages, owner, report)
    return tuple(streams), assign


def _run_twice(op: Op, stages: list[int], first: StreamGroup, second: StreamGroup, report: Report) -> None:
    message = f"{op} of {stages_text(stages)} is run by two groups, {first.name} and {second.name}"
    where = second.where("stages", "runs")
    report.error("AP116", message, where, f"remove {op} from one of them, or let them serve different `stages`")


def _served(group: StreamGroup, env: dict[str, int], report: Report) -> tuple[int, ...]:
    """The group's stages; those that exist, after an AP114, where it names others."""
    where = group.where("stages")
    bounds = [evaluate(bound, env, f"stages of group {group.name}", where, report) for bound in group.stages]
    if None in bounds:
        return tuple(range(env["S"]))
    low, high = (bound for bound in bounds if bound is not None)
    if low < 0 or high > env["last"]:
        message = f"group {group.name} serves the stages {low}..{high}; there are {stages_text(range(env['S']))}"
        report.error("AP114", message, where, "use `last` for the last stage")
    return tuple(range(max(low, 0), min(high, env["last"]) + 1))


def _streams(
    group: StreamGroup,
    number: int,
    served: tuple[int, ...],
    env: dict[str, int],
    place: tuple[int, ...],
    report: Report,
) -> list[Stream]:
    for first, second in (("count", "per"), ("order", "body")):
        if first in group.places and second in group.places:
            message = f"group {group.name} has both `{first}` and `{second}`"
            report.error("AP105", message, group.where(first), "keep one of the two")
    parts: list[tuple[int, ...]]
    if group.per == "stage":
        parts = [(s,) for s in served]
    elif group.per == "device":
        parts = [tuple(s for s in served if place[s] == d) for d in sorted({place[s] for s in served})]
    else:
        parts = [served] * group.count
    made = []
    before = len(report.diagnostics)
    for index, part in enumerate(parts):
        device = _device(group, part, env, place, report)
        # The bodies of a group are alike: once one is wrong, the others would only repeat it.
        body = _body(group, part, {**env, "d": device}, report) if len(report.diagnostics) == before else ()
        name = f"{group.name}[{index}]" if len(parts) > 1 else group.name
        nth = (1, 0) if group.per else (group.count, index)
        made.append(Stream(name, number, index, device, part, group.order, body, nth))
    if group.body and len(report.diagnostics) == before:
        _check_bodies(group, made, report)
    return made


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
        message = f"group {group.name} is put on device {device}; there are {_devices(env['D'])}"
        report.error("AP121", message, group.where("device"))
        return 0
    return device


def _body(
    group: StreamGroup, part: tuple[int, ...], env: dict[str, int], report: Report
) -> tuple[tuple[Op, int, int], ...]:
    """The body of one stream, expanded over its stages: (op, stage, microbatch offset) in order."""
    lines: list[tuple[Op, int, int]] = []
    for entry in group.body:
        for stage in _entry_stages(group, entry, part, env, report):
            scope = {**env, "s": stage}
            values = [evaluate(entry.index, {**scope, "m": m}, "body", entry.where, report) for m in (0, 1, 1000)]
            if None in values:
                continue
            zero, one, far = (value for value in values if value is not None)
            if one != zero + 1 or far != zero + 1000 or abs(zero) > MAX_OFFSET:
                message = f"expected m plus or minus at most {MAX_OFFSET} as the microbatch of {entry}"
                report.error("AP118", message, entry.where, "as in B[s, m-2*(last-s)]")
            lines.append((entry.op, stage, zero))
    return tuple(lines)


def _entry_stages(
    group: StreamGroup, entry: BodyEntry, part: tuple[int, ...], env: dict[str, int], report: Report
) -> tuple[int, ...]:
    if entry.stage is None:
        return part if entry.op is Op.F else tuple(reversed(part))
    bound = {name.name for name in [*names(entry.stage), *names(entry.index)]}
    if not part:
        return ()
    if "s" in bound and len(part) != 1:
        message = f"{entry}: s is not known, since one stream of group {group.name} serves {stages_text(part)}"
        hint = "use `per: stage`, or `*` for the stream's stages in data order"
        report.error("AP117", message, entry.where, hint)
        return ()
    stage = evaluate(entry.stage, {**env, "s": part[0]}, "body", entry.where, report)
    if stage is not None and stage not in part:
        message = f"{entry} is of stage {stage}, but this stream of group {group.name} serves {stages_text(part)}"
        report.error("AP114", message, entry.where, "its own stage is s, or `*` for all that it serves")
        return ()
    return () if stage is None else (stage,)


def _check_bodies(group: StreamGroup, streams: list[Stream], report: Report) -> None:
    """AP117 unless each body runs each op of `runs` once for each of its stages, and nothing else."""
    wrong: dict[tuple[Op, str], set[int]] = {}
    for stream in streams:
        found = [(op, stage) for op, stage, _ in stream.body]
        for op in group.runs:
            for stage in stream.stages:
                if (count := found.count((op, stage))) != 1:
                    wrong.setdefault((op, "more than once" if count else "never"), set()).add(stage)
    for (op, times), stages in wrong.items():
        message = f"the body of group {group.name} runs {op} of {stages_text(stages)} {times}"
        report.error("AP117", message, group.where("body"), "a body runs each op of `runs` once for each stage")
    for op in dict.fromkeys(entry.op for entry in group.body if entry.op not in group.runs):
        message = f"the body of group {group.name} has {op}, which is not in its `runs`"
        report.error("AP117", message, group.where("body"), f"add {op} to `runs`, or remove it from the body")


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
