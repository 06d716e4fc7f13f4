"""A schedule as canonical YAML: the keys of the format in their order, every default written out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction

from asyncpipe.schedule.spec import Costs, Expect, Phase, Recompute, Schedule, Span, StreamGroup, Sync

__all__ = ["canonical_text"]


def canonical_text(schedule: Schedule) -> str:
    """YAML that reads back to an equal schedule; the job section stays in its own file."""
    lines = ["asyncpipe: 1"]
    lines += [f"{key}: {_quoted(value)}" for key in ("name", "description") if (value := getattr(schedule, key))]
    if schedule.paper:
        identifier = f", id: {_quoted(schedule.paper.id)}" if schedule.paper.id else ""
        lines.append(f"paper: {{title: {_quoted(schedule.paper.title)}{identifier}}}")
    lines += _stages(schedule)
    place = f"[{_list(schedule.place)}]" if isinstance(schedule.place, tuple) else schedule.place
    lines += [f"devices: {schedule.devices}", f"place: {place}", "streams:"]
    if schedule.ratio:
        lines.append(f"  ratio: {schedule.ratio}")
    lines += [f"  {group.name}: {_group(group, schedule.ratio)}" for group in schedule.streams]
    if schedule.in_flight is not None:
        lines.append(f"in_flight: {schedule.in_flight}")
    lines += ["rules:", *(f'  - "{rule}"' for rule in schedule.rules)] if schedule.rules else ["rules: []"]
    lines += _meaning(schedule)
    if schedule.costs.values:
        lines.append(f"costs: {_costs(schedule.costs)}")
    if schedule.expect:
        lines.append(f"expect: {_expect(schedule.expect)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """In double quotes, with YAML's escapes for what a file may not hold as it is."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def _stages(schedule: Schedule) -> list[str]:
    if not isinstance(schedule.stages, tuple):
        return [f"stages: {schedule.stages}"]
    return [
        "stages:",
        *(f"  - {{name: {_quoted(s.name)}, layers: {s.first}-{s.last}}}" for s in schedule.stages),
    ]


def _meaning(schedule: Schedule) -> list[str]:
    update, (forward, backward) = schedule.update, schedule.weights.texts
    values = (f"{key}: {getattr(update, key)}" for key in ("every", "write", "owner", "reduce", "scope", "commit"))
    lines = [f"update: {{{', '.join(values)}}}", f"weights: {{forward: {forward}, backward: {backward}}}"]
    lines.append(f"gradient: [{_list(schedule.gradient)}]")
    if schedule.aux.gradient != "chain":
        lines.append(f"aux: {{gradient: {schedule.aux.gradient}, stages: {_span(schedule.aux.stages)}}}")
    if schedule.recompute != Recompute():
        lines.append(f"recompute: {{mode: {schedule.recompute.mode}, stages: {_span(schedule.recompute.stages)}}}")
    if schedule.replicas.sync is not None:
        lines.append(f"replicas: {{count: {schedule.replicas.count}, sync: {_sync(schedule.replicas.sync)}}}")
    lines += ["phases:", *map(_phase, schedule.phases)] if schedule.phases else []
    return lines


def _phase(phase: Phase) -> str:
    update = f", update: {{scope: {phase.scope}}}" if phase.scope else ""
    replicas = f", replicas: {{sync: {_sync(phase.sync)}}}" if phase.sync else ""
    return f"  - {{until: {phase.until}{update}{replicas}}}"


def _sync(sync: Sync) -> str:
    def word(value: bool) -> str:
        return str(value).lower()

    return {
        "allreduce": "{allreduce: grad}",
        "average": f"{{average: {{every: {sync.every}, blocking: {word(sync.blocking)}}}}}",
        "outer": f"{{outer: {{every: {sync.every}, lr: {sync.lr}, momentum: {sync.momentum},"
        f" nesterov: {word(sync.nesterov)}}}}}",
        "push": f"{{push: {{to: random, granularity: {sync.granularity}}}}}",
    }[sync.kind]


def _span(span: Span) -> str:
    return f"{span[0]}..{span[1]}"


def _list(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _group(group: StreamGroup, ratio: str = "") -> str:
    parts = [f"runs: [{', '.join(op.value for op in group.runs)}]"]
    if group.per:
        parts.append(f"per: {group.per}")
    elif not ratio:
        parts.append(f"count: {group.count}")
    parts.append(f"stages: {_span(group.stages)}")
    if group.device is not None:
        parts.append(f"device: {group.device}")
    if group.body:
        entries = ", ".join(f'"{entry}"' for entry in group.body)
        parts.append(f"body: [{entries}]")
    elif isinstance(group.table, str):
        parts.append(f"table: {group.table}")
    elif group.table:
        rows = (f'"{" ".join(map(str, row))}"' for row in group.table)
        parts.append(f"table: [{', '.join(rows)}]")
    else:
        parts.append(f"order: [{', '.join(op.value for op in group.order)}]")
    for key, default in (("assign", "round"), ("priority", 0), ("sms", 0)):
        if getattr(group, key) != default:
            parts.append(f"{key}: {getattr(group, key)}")
    return "{" + ", ".join(parts) + "}"


def _number(value: Fraction) -> str:
    return str(value)


def _costs(costs: Costs) -> str:
    def times(values: tuple[Fraction, ...]) -> str:
        texts = ", ".join(_number(value) for value in values)
        return f"[{texts}]" if len(values) > 1 else texts

    return "{" + ", ".join(f"{op}: {times(values)}" for op, values in costs.values) + "}"


def _expect(expect: Expect) -> str:
    parts = [f"stages: {expect.stages}"]
    if expect.staleness is not None:
        parts.append(f"staleness: [{', '.join(_number(value) for value in expect.staleness)}]")
    if expect.period is not None:
        parts.append(f"period: {_number(expect.period)}")
    if expect.max_staleness is not None:
        parts.append(f"max_staleness: {expect.max_staleness}")
    if expect.versions is not None:
        parts.append(f"versions: [{_list(expect.versions)}]")
    if expect.costs.values:
        parts.append(f"costs: {_costs(expect.costs)}")
    return "{" + ", ".join(parts) + "}"
