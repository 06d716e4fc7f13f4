"""The format of `streams`: groups, their order, and the ratio of their counts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from asyncpipe.errors import Position, Report, did_you_mean
from asyncpipe.ir import AUTHORED, Op, parse_action
from asyncpipe.schedule.expression import Expression, ExpressionError, names, parse_expression
from asyncpipe.schedule.json_schema import BODY_ENTRY_PATTERN, Schema, expression_pattern, span_pattern
from asyncpipe.schedule.kinds import MISSING, Choice, Integer, Key, ListOf, MapOf, Object, Parsed, found
from asyncpipe.schedule.rule import parse_body_entry
from asyncpipe.schedule.source import Mapping as MappingNode
from asyncpipe.schedule.source import Node, Scalar, file_beside
from asyncpipe.schedule.source import Sequence as SequenceNode
from asyncpipe.schedule.spec import ALL_STAGES, DEFAULT_ORDER, StreamGroup

__all__ = ["STAGE_SPAN", "STREAMS", "at", "expression_in"]

_RATIO = "a ratio such as 1:2, or auto"
_MOST_STREAMS = 1024


def expression_in(*known: str) -> Parsed:
    """An integer, or an expression in these names."""

    def parse(text: str) -> Expression:
        expression = parse_expression(text)
        for name in names(expression):
            if name.name not in known:
                choices = ", ".join(known)
                raise ExpressionError(f"unknown name {name.name!r}; known here: {choices}", name.offset, len(name.name))
        return expression

    what = f"an integer or an expression in {', '.join(known)}"
    return Parsed(what, parse, "AP110", pattern=expression_pattern(*known))


def _stage_span(text: str) -> tuple[Expression, Expression]:
    first, dots, last = text.partition("..")
    low = parse_expression(first)
    high = parse_expression(last, len(first) + 2) if dots else low
    for name in [*names(low), *names(high)]:
        if name.name not in ("S", "D", "last"):
            raise ExpressionError(f"unknown name {name.name!r}; known here: S, D, last", name.offset, len(name.name))
    return low, high


STAGE_SPAN = Parsed(
    "a range of stages such as 0..last-1",
    _stage_span,
    "AP110",
    pattern=span_pattern("S", "D", "last"),
    examples=("0..last-1", "last"),
)


def at(value: Any, where: Position) -> Any:
    return replace(value, where=where)


class _Table:
    """The name of a generator, a CSV file beside the schedule, or the rows themselves, one text for each device."""

    expects = 'the name of a table, a .csv file, or a list of rows such as ["0F0 0B0", "1F0 1B0"]'

    def accepts(self, node: Node) -> bool:
        return isinstance(node, SequenceNode) or (isinstance(node, Scalar) and isinstance(node.value, str))

    def schema(self) -> Schema:
        from asyncpipe.tables.generate import NAMES

        named = {"type": "string", "enum": list(NAMES)}
        file = {"type": "string", "pattern": r"\.csv$"}
        rows = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        return {"anyOf": [named, file, rows], "description": self.expects}

    def read(self, node: Node, report: Report) -> Any:
        from asyncpipe.tables.generate import NAMES
        from asyncpipe.tables.read import read_table

        if isinstance(node, SequenceNode) and node.items:
            return self._rows(node, report)
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            report.error("AP105", f"expected {self.expects}, found {found(node)}", node.where)
            return MISSING
        if node.value in NAMES:
            return node.value
        if not node.value.endswith(".csv"):
            hint = did_you_mean(node.text, NAMES)
            report.error("AP105", f"no table is called {node.text!r}", node.where, hint)
            return MISSING
        table = read_table(file_beside(node.where, node.value), report, node.where)
        return MISSING if table is None else table.rows.actions

    def _rows(self, node: SequenceNode, report: Report) -> Any:
        from asyncpipe.tables.cells import Rows
        from asyncpipe.tables.verify import verify_rows

        cells = [list(self._row(item, report)) for item in node.items]
        if any(action is None for row in cells for action, _ in row):
            return MISSING
        actions = tuple(tuple(action for action, _ in row) for row in cells)
        places = tuple(tuple(place for _, place in row) for row in cells)
        shape = verify_rows(Rows(actions, places, node.where.file), report)
        return MISSING if shape is None else actions

    def _row(self, node: Node, report: Report) -> Iterator[tuple[Any, Any]]:
        """Each action with its place; None, after an AP130, for what is no action."""
        from asyncpipe.tables.cells import Place

        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            report.error("AP130", f"expected a row of actions such as 0F0 1B3, found {found(node)}", node.where)
            yield None, None
            return
        if not node.text.strip():
            report.error("AP138", "a row of the table has no actions", node.where, "as in 0F0 0B0")
            yield None, None
        for word in re.finditer(r"\S+", node.text):
            where = node.at(word.start(), len(word[0]))
            try:
                yield parse_action(word[0]), Place(where.line, where.column, where.length)
            except ValueError:
                report.error("AP130", f"expected an action such as 2F0, found {word[0]!r}", where)
                yield None, None


def _ordered_ops(values: tuple[str, ...]) -> tuple[Op, ...]:
    return tuple(dict.fromkeys(Op(value) for value in values))


def _group(places: Mapping[str, Position], **values: Any) -> StreamGroup:
    runs, order = _ordered_ops(values.pop("runs")), _ordered_ops(values.pop("order"))
    rest = tuple(op for op in DEFAULT_ORDER if op not in order)
    return StreamGroup(name="", runs=runs, order=order + rest, places=places, **values)


_OP = Choice(tuple(op.value for op in AUTHORED), "AP112", "an op: one of F, B, I, W, U, R")
_OPS = "a list of ops, as in [B, U]"
_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
_ENTRY = Parsed("an entry such as F[s, m]", parse_body_entry, "AP111", at, BODY_ENTRY_PATTERN, ("F[s, m]",))

_GROUP = Object(
    "a stream group",
    (
        Key("runs", ListOf(_OP, 1, _OPS), about="the ops that the streams execute"),
        Key("count", Integer(1, _MOST_STREAMS), 1, "how many streams; microbatch m goes to stream m % count"),
        Key("per", Choice(("stage", "device")), None, "one stream for each stage or device, instead of count"),
        Key("stages", STAGE_SPAN, ALL_STAGES, "the stages that the group serves; default: all"),
        Key("device", expression_in("s", "S", "D", "last", "i"), None, "default: where the stage is placed"),
        Key("order", ListOf(_OP, 1, _OPS), tuple(op.value for op in DEFAULT_ORDER), "most urgent first"),
        Key(
            "body",
            ListOf(_ENTRY, 1, 'a list of entries, as in ["F[s, m]", "B[s, m-1]"]'),
            (),
            "a fixed order instead of `order`: one iteration for each m",
        ),
        Key("table", _Table(), (), "an explicit order: one row for each device and update, repeated with m shifted"),
        Key(
            "assign",
            Choice(("round", "dynamic")),
            "round",
            "dynamic: a microbatch goes to the first idle stream of the group, not to m % count",
        ),
        Key("priority", Integer(-10, 10), 0, "of the CUDA stream; lower is more urgent"),
        Key("sms", Integer(0, 1024), 0, "how many multiprocessors are reserved for the stream; 0: none"),
    ),
    _group,
)


@dataclass(frozen=True)
class _Streams:
    """A mapping of groups; the key `ratio` stands for their counts. The value is (groups, ratio)."""

    groups: MapOf

    @property
    def expects(self) -> str:
        return self.groups.expects

    def accepts(self, node: Node) -> bool:
        return self.groups.accepts(node)

    def read(self, node: Node, report: Report) -> Any:
        ratio = node.get("ratio") if isinstance(node, MappingNode) else None
        if ratio is None or not isinstance(node, MappingNode):
            read = self.groups.read(node, report)
            return MISSING if read is MISSING else (_named(read), "")
        left = replace(node, items=tuple((k, v) for k, v in node.items if k.value != "ratio"))
        read = self.groups.read(left, report)
        if read is MISSING:
            return MISSING
        counts = _ratio(ratio, len(read), report)
        groups = _named(read)
        for group in groups:
            for key in ("count", "per"):
                if key in group.places:
                    message = f"`ratio` states the counts of all groups, but group {group.name} has `{key}`"
                    report.error("AP105", message, group.places[key], "keep one of the two")
        if counts == "auto":
            return groups, "auto"
        return tuple(replace(group, count=n) for group, n in zip(groups, counts, strict=False)), ""

    def schema(self) -> Schema:
        ratio = {"type": "string", "pattern": r"^(auto|[0-9 ]+(:[0-9 ]+)*)$", "description": _RATIO}
        schema = self.groups.schema()
        ((pattern, group),) = schema["patternProperties"].items()
        others = pattern.replace("^", "^(?!ratio$)", 1)
        return {**schema, "properties": {"ratio": ratio}, "patternProperties": {others: group}}


def _named(read: Any) -> tuple[StreamGroup, ...]:
    return tuple(replace(group, name=name, places={**group.places, "": where}) for name, group, where in read)


def _ratio(node: Node, groups: int, report: Report) -> Any:
    text = node.text if isinstance(node, Scalar) else ""
    if text == "auto":
        return "auto"
    parts = text.split(":")
    if not all(re.fullmatch(r"\s*[0-9]{1,4}\s*", part) and 0 < int(part) <= _MOST_STREAMS for part in parts):
        report.error("AP105", f"expected {_RATIO}, found {found(node)}", node.where)
        return ()
    if len(parts) != groups:
        message = f"the ratio {text} has {len(parts)} parts, but there are {groups} stream groups"
        report.error("AP105", message, node.where, "one number for each group, in the order of the file")
    return tuple(map(int, parts))


STREAMS = _Streams(MapOf("a mapping of stream groups", _NAME, _GROUP))
