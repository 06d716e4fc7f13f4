"""The schedule format, as one table per object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from asyncpipe.errors import Position
from asyncpipe.ir import Op
from asyncpipe.schedule.expression import Expression, ExpressionError, Name, Number, names, parse_expression
from asyncpipe.schedule.kinds import Choice, Integer, Key, ListOf, MapOf, Object, OneOf, Parsed, Real, Text, found
from asyncpipe.schedule.rule import parse_body_entry, parse_rule
from asyncpipe.schedule.source import Mapping as MappingNode
from asyncpipe.schedule.source import Node, Report, Scalar
from asyncpipe.schedule.source import Sequence as SequenceNode
from asyncpipe.schedule.spec import (
    DEFAULT_ORDER,
    Costs,
    Expect,
    Paper,
    Schedule,
    StageRange,
    StreamGroup,
    Update,
    Weights,
)

__all__ = ["COSTS", "SCHEDULE"]

Places = Mapping[str, Position]


def _expression(*known: str) -> Parsed:
    def parse(text: str) -> Expression:
        expression = parse_expression(text)
        for name in names(expression):
            if name.name not in known:
                choices = ", ".join(known)
                raise ExpressionError(f"unknown name {name.name!r}; known here: {choices}", name.offset, len(name.name))
        return expression

    return Parsed(f"an integer or an expression in {', '.join(known)}", parse, "AP110")


def _stage_span(text: str) -> tuple[Expression, Expression]:
    first, dots, last = text.partition("..")
    low = parse_expression(first)
    high = parse_expression(last, len(first) + 2) if dots else low
    for name in [*names(low), *names(high)]:
        if name.name not in ("S", "D", "last"):
            raise ExpressionError(f"unknown name {name.name!r}; known here: S, D, last", name.offset, len(name.name))
    return low, high


def _layer_span(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", text)
    if match is None:
        raise ExpressionError(f"expected layers such as 0-2, found {text!r}", 0, len(text))
    return int(match[1]), int(match[2] or match[1])


def _ordered_ops(values: tuple[str, ...]) -> tuple[Op, ...]:
    return tuple(dict.fromkeys(Op(value) for value in values))


def _at(value: Any, where: Position) -> Any:
    return replace(value, where=where)


def _paper(places: Places, title: str, id: str) -> Paper:
    return Paper(title, id)


def _stage_range(places: Places, name: str, layers: tuple[int, int]) -> StageRange:
    return StageRange(name, *layers, where=places[""])


def _group(places: Places, **values: Any) -> StreamGroup:
    runs, order = _ordered_ops(values.pop("runs")), _ordered_ops(values.pop("order"))
    rest = tuple(op for op in DEFAULT_ORDER if op not in order)
    return StreamGroup(name="", runs=runs, order=order + rest, places=places, **values)


def _update(places: Places, every: int, write: str, reduce: str) -> Update:
    return Update(every, write, reduce)


def _weights(places: Places, forward: str, backward: str) -> Weights:
    return Weights(forward, backward)


def _costs(places: Places, **values: Fraction | tuple[Fraction, ...] | None) -> Costs:
    pairs = (
        (Op(name), value if isinstance(value, tuple) else (value,))
        for name, value in values.items()
        if value is not None
    )
    return Costs(tuple(sorted(pairs)))


def _expect(places: Places, stages: int, staleness: Any, period: Fraction | None, costs: Costs) -> Expect:
    return Expect(stages, staleness, period, costs, places)


def _schedule(places: Places, **values: Any) -> Schedule:
    del values["asyncpipe"], values["gradient"]
    streams = values.pop("streams")
    groups = tuple(replace(g, name=name, places={**g.places, "": where}) for name, g, where in streams)
    return Schedule(streams=groups, places=places, **values)


class _Raw:
    """Kept as a node; the job format reads it."""

    expects = "a job: its name, its file, or its keys"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, MappingNode) or (isinstance(node, Scalar) and isinstance(node.value, str))

    def read(self, node: Node, report: Report) -> Node:
        if not self.accepts(node):
            report.error("AP105", f"expected {self.expects}, found {found(node)}", node.where)
        return node


class _Gradient:
    """Only an empty list yet."""

    expects = "a list of gradient transforms"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, SequenceNode)

    def read(self, node: Node, report: Report) -> tuple[()]:
        if not isinstance(node, SequenceNode):
            report.error("AP105", f"expected {self.expects}, found {found(node)}", node.where)
        elif node.items:
            message = "a gradient transform is part of the format, but this version cannot compile it yet"
            report.error("AP108", message, node.items[0].where, "remove it, or use a later version")
        return ()


_OP = Choice(tuple(op.value for op in Op), "AP112", "an op: one of F, B, I, W, U", later="R")
_OPS = "a list of ops, as in [B, U]"
_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
_COST = OneOf("a number, or a list with one for each stage", (ListOf(Real(), 1, "a list of numbers"), Real()))

COSTS = Object("costs", tuple(Key(op.value, _COST, None) for op in Op), _costs)

_RULE = Parsed("a rule such as F[0, m] after U[*, g-1]", parse_rule, "AP111", _at)
_ENTRY = Parsed("an entry such as F[s, m]", parse_body_entry, "AP111", _at)

_GROUP = Object(
    "a stream group",
    (
        Key("runs", ListOf(_OP, 1, _OPS), about="the ops that the streams execute"),
        Key("count", Integer(1, 1024), 1, "how many streams; microbatch m goes to stream m % count"),
        Key("per", Choice(("stage", "device")), None, "one stream for each stage or device, instead of count"),
        Key(
            "stages",
            Parsed("a range of stages such as 0..last-1", _stage_span, "AP110"),
            (Number(0), Name("last")),
        ),
        Key("device", _expression("s", "S", "D", "last"), None, "default: where the stage is placed"),
        Key("order", ListOf(_OP, 1, _OPS), tuple(op.value for op in DEFAULT_ORDER), "most urgent first"),
        Key("body", ListOf(_ENTRY, 1, 'a list of entries, as in ["F[s, m]", "B[s, m-1]"]'), ()),
    ),
    _group,
    later=("table", "assign", "priority", "sms"),
)

_STAGES = "auto, layers, a number of stages, or a list of {name, layers}"

SCHEDULE = Object(
    "a schedule",
    (
        Key("asyncpipe", Integer(1, 1, "1, the version of the format"), about="the version of the format"),
        Key("name", Text(), ""),
        Key("description", Text(), ""),
        Key("paper", Object("a paper", (Key("title", Text()), Key("id", Text(), "")), _paper), None),
        Key(
            "stages",
            OneOf(
                _STAGES,
                (
                    Choice(("auto", "layers"), what=_STAGES),
                    Integer(1, 4096),
                    ListOf(
                        Object(
                            "a stage",
                            (
                                Key("name", Text("a name")),
                                Key("layers", Parsed("layers such as 0-2", _layer_span, "AP120")),
                            ),
                            _stage_range,
                        ),
                        1,
                        "a list of {name, layers}",
                    ),
                ),
            ),
            "auto",
        ),
        Key("devices", _expression("S"), Number(1)),
        Key("place", _expression("s", "S", "D", "last"), parse_expression("s * D // S")),
        Key("streams", MapOf("a mapping of stream groups", _NAME, _GROUP)),
        Key("in_flight", _expression("s", "S", "D", "last"), None),
        Key("rules", ListOf(_RULE, what='a list of rules, as in ["F[0, m] after U[*, g-1]"]'), ()),
        Key(
            "update",
            Object(
                "update",
                (
                    Key("every", Integer(1, 4096), 1),
                    Key("write", Choice(("ordered", "racy"), later="atomic|overwrite"), "ordered"),
                    Key("reduce", Choice(("mean", "sum")), "mean"),
                ),
                _update,
                later=("owner", "scope"),
            ),
            Update(),
        ),
        Key(
            "weights",
            Object(
                "weights",
                (
                    Key("forward", Choice(("latest",), later=r"lag\(.*\)|predict"), "latest"),
                    Key("backward", Choice(("latest", "same"), later=r"ema\(.*\)|private"), "latest"),
                ),
                _weights,
            ),
            Weights(),
        ),
        Key("gradient", _Gradient(), ()),
        Key("costs", COSTS, Costs()),
        Key(
            "expect",
            Object(
                "expect",
                (
                    Key("stages", Integer(1, 4096)),
                    Key("staleness", ListOf(Real(), what="a list of numbers, one for each stage"), None),
                    Key("period", Real(), None),
                    Key("costs", COSTS, Costs()),
                ),
                _expect,
            ),
            None,
        ),
        Key("job", _Raw(), None),
    ),
    _schedule,
    later=("recompute", "replicas", "extends", "ratio"),
)
