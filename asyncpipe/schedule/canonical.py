"""A schedule as canonical YAML: the keys of the format in their order, every default written out."""

from __future__ import annotations

import json
from fractions import Fraction

from asyncpipe.schedule.spec import Costs, Expect, Schedule, StreamGroup

__all__ = ["canonical_text"]


def canonical_text(schedule: Schedule) -> str:
    """YAML that reads back to an equal schedule; the job section stays in its own file."""
    lines = ["asyncpipe: 1"]
    lines += [f"{key}: {_quoted(value)}" for key in ("name", "description") if (value := getattr(schedule, key))]
    if schedule.paper:
        identifier = f", id: {_quoted(schedule.paper.id)}" if schedule.paper.id else ""
        lines.append(f"paper: {{title: {_quoted(schedule.paper.title)}{identifier}}}")
    lines += _stages(schedule)
    lines += [f"devices: {schedule.devices}", f"place: {schedule.place}", "streams:"]
    lines += [f"  {group.name}: {_group(group)}" for group in schedule.streams]
    if schedule.in_flight is not None:
        lines.append(f"in_flight: {schedule.in_flight}")
    lines += ["rules:", *(f'  - "{rule}"' for rule in schedule.rules)] if schedule.rules else ["rules: []"]
    update, weights = schedule.update, schedule.weights
    lines.append(f"update: {{every: {update.every}, write: {update.write}, reduce: {update.reduce}}}")
    lines.append(f"weights: {{forward: {weights.forward}, backward: {weights.backward}}}")
    lines.append("gradient: []")
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


def _group(group: StreamGroup) -> str:
    parts = [f"runs: [{', '.join(op.value for op in group.runs)}]"]
    parts.append(f"per: {group.per}" if group.per else f"count: {group.count}")
    parts.append(f"stages: {group.stages[0]}..{group.stages[1]}")
    if group.device is not None:
        parts.append(f"device: {group.device}")
    if group.body:
        entries = ", ".join(f'"{entry}"' for entry in group.body)
        parts.append(f"body: [{entries}]")
    else:
        parts.append(f"order: [{', '.join(op.value for op in group.order)}]")
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
    if expect.costs.values:
        parts.append(f"costs: {_costs(expect.costs)}")
    return "{" + ", ".join(parts) + "}"
