"""The schedule format, as one table per object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from asyncpipe.errors import Position, Report
from asyncpipe.schedule.expression import ExpressionError, Number, parse_expression
from asyncpipe.schedule.format_meaning import AUX, GRADIENT, PHASES, RECOMPUTE, REPLICAS, UPDATE, WEIGHTS
from asyncpipe.schedule.format_streams import STREAMS, at, expression_in
from asyncpipe.schedule.json_schema import LAYERS_PATTERN, RULE_PATTERN
from asyncpipe.schedule.kinds import MISSING, Choice, Integer, Key, ListOf, Object, OneOf, Parsed, Real, Text, found
from asyncpipe.schedule.rule import parse_rule
from asyncpipe.schedule.source import Mapping as MappingNode
from asyncpipe.schedule.source import Node, Scalar, file_beside
from asyncpipe.schedule.spec import (
    Aux,
    Costs,
    Expect,
    Paper,
    Recompute,
    Replicas,
    Schedule,
    StageRange,
    Update,
    Weights,
)

__all__ = ["COSTS", "SCHEDULE"]

Places = Mapping[str, Position]


def _layer_span(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", text)
    if match is None:
        raise ExpressionError(f"expected layers such as 0-2, found {text!r}", 0, len(text))
    return int(match[1]), int(match[2] or match[1])


def _paper(places: Places, title: str, id: str) -> Paper:
    return Paper(title, id)


def _stage_range(places: Places, name: str, layers: tuple[int, int]) -> StageRange:
    return StageRange(name, *layers, where=places[""])


def _costs(places: Places, **values: Fraction | tuple[Fraction, ...] | None) -> Costs:
    pairs = (
        (name, value if isinstance(value, tuple) else (value,)) for name, value in values.items() if value is not None
    )
    return Costs(tuple(sorted(pairs)))


def _expect(places: Places, **values: Any) -> Expect:
    return Expect(places=places, **values)


def _schedule(places: Places, **values: Any) -> Schedule:
    del values["asyncpipe"], values["extends"]
    groups, ratio = values.pop("streams")
    return Schedule(streams=groups, ratio=ratio, places=places, **values)


class _Raw:
    """Kept as a node; the job format reads it."""

    expects = "a job: its name, its file, or its keys"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, MappingNode) or (isinstance(node, Scalar) and isinstance(node.value, str))

    def read(self, node: Node, report: Report) -> Node:
        if not self.accepts(node):
            report.error("AP105", f"expected {self.expects}, found {found(node)}", node.where)
        return node


class _Costs(OneOf):
    """Costs in the file, or a measured profile beside it."""

    def read(self, node: Node, report: Report) -> Any:
        if not isinstance(node, Scalar):
            return super().read(node, report)
        if not isinstance(node.value, str) or not node.value.endswith(".json"):
            report.error("AP105", f"expected {self.expects}, found {found(node)}", node.where)
            return MISSING
        from asyncpipe.schedule.profile import read_profile

        profile = read_profile(file_beside(node.where, node.value), report, node.where)
        return MISSING if profile is None else profile


_COST = OneOf("a number, or a list with one for each stage", (ListOf(Real(), 1, "a list of numbers"), Real()))

_INLINE = Object(
    "costs",
    tuple(Key(name, _COST, None) for name in ("F", "B", "I", "W", "U", "R", "SEND", "SYNC")),
    _costs,
)
COSTS = _Costs("costs such as {F: 1, B: 2}, or a measured profile, a .json file", (_INLINE, Text()))

_RULE = Parsed(
    "a rule such as F[0, m] after U[*, g-1]",
    parse_rule,
    "AP111",
    at,
    RULE_PATTERN,
    ("F[0, m] after U[*, g-1]", "F[s, m] after U[s, g-1]", "U[s, g] after B[0, hi]", "B[last, m] after F[last, hi]"),
)
_LAYERS = Parsed("layers such as 0-2", _layer_span, "AP120", pattern=LAYERS_PATTERN)

_STAGES = "auto, layers, a number of stages, or a list of {name, layers}"

SCHEDULE = Object(
    "a schedule",
    (
        Key("asyncpipe", Integer(1, 1, "1, the version of the format"), about="the version of the format"),
        Key("extends", Text("a schedule: its name or its file"), "", "the schedule that this file changes"),
        Key("name", Text(), "", "default: the name of the file"),
        Key("description", Text(), "", "what the schedule does, in one line"),
        Key(
            "paper",
            Object("a paper", (Key("title", Text()), Key("id", Text(), "")), _paper),
            None,
            "where it was published",
        ),
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
                                Key("layers", _LAYERS),
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
        Key("devices", expression_in("S"), Number(1), "how many logical devices"),
        Key(
            "place",
            OneOf(
                "an integer, an expression in s, S, D, last, or a list with the device of each stage",
                (ListOf(Integer(0, 4095), 1, "a list of devices"), expression_in("s", "S", "D", "last")),
            ),
            parse_expression("s * D // S"),
            "the device of stage s",
        ),
        Key("streams", STREAMS, about="who runs what, and in which order"),
        Key("in_flight", expression_in("s", "S", "D", "last"), None, "n: F[s, m] waits for the backward of m - n"),
        Key(
            "rules",
            ListOf(_RULE, what='a list of rules, as in ["F[0, m] after U[*, g-1]"]'),
            (),
            "extra edges: who waits for whom",
        ),
        Key("update", UPDATE, Update(), "when gradients are applied, and how"),
        Key("weights", WEIGHTS, Weights(), "which weights forward and backward read"),
        Key("gradient", GRADIENT, (), "transforms between a gradient and its update, in this order"),
        Key("aux", AUX, Aux(), "where gradients come from, if not from the stage above"),
        Key("recompute", RECOMPUTE, Recompute(), "full: keep inputs only, run the forward again; invert: keep nothing"),
        Key("replicas", REPLICAS, Replicas(), "full copies of the parameters, and how they stay together"),
        Key("phases", PHASES, (), "in what the training differs at first; then comes the file as it stands"),
        Key("costs", COSTS, Costs(), "the time of each op, in any unit; F is 1 and B is 2 by default"),
        Key(
            "expect",
            Object(
                "expect",
                (
                    Key("stages", Integer(1, 4096), about="the instance that the numbers speak of"),
                    Key(
                        "staleness",
                        ListOf(Real(), what="a list of numbers, one for each stage"),
                        None,
                        "mean staleness",
                    ),
                    Key("period", Real(), None, "time per microbatch in the steady state"),
                    Key("max_staleness", Integer(0, 10**6), None, "no stage may be staler"),
                    Key("versions", ListOf(Integer(1, 10**6), what="a list of integers, one for each stage"), None),
                    Key("costs", COSTS, Costs()),
                ),
                _expect,
            ),
            None,
        ),
        Key("job", _Raw(), None, "what `run` trains; default: the job digits"),
    ),
    _schedule,
)
