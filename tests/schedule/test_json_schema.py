"""The schemas for editors against the tables that validate: never a false alarm, and the usual slips flagged."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.cli.schema import job_schema, schedule_schema
from asyncpipe.ir import Op
from asyncpipe.schedule import library, load
from asyncpipe.schedule.expression import Name, Number, parse_expression
from asyncpipe.schedule.format import SCHEDULE as FORMAT
from asyncpipe.schedule.job import JOB, job_library
from asyncpipe.schedule.json_schema import (
    DRAFT,
    NUMBER_PATTERN,
    RULE_PATTERN,
    default_of,
    described,
    partial,
    schema_of,
)
from asyncpipe.schedule.kinds import MISSING, Choice, Integer, Key, ListOf, MapOf, Object, OneOf, Parsed, Real, Text
from asyncpipe.schedule.rule import parse_rule
from asyncpipe.schedule.source import Mapping, Node, Report, Scalar, parse_text
from tests.draft07 import findings, plain_document, tree

CASES = Path(__file__).parents[1] / "cases" / "invalid"
NAMES = ("s", "S", "D", "last")
SCHEDULE = schedule_schema()
LEAVES = [0, 1, 3, -1, 2.5, "latest", "same", "S - s", "[]", "", " ", "1/3", "F", "U", "x y", True, None, [], ["F"], {}]
"""What a mutation puts in the place of something else."""
MINE = "asyncpipe: 1\nstreams: {main: {runs: [F, B, U]}}\n"


def accepts_schedule(document: Any) -> bool:
    """Without a way through text, which is most of the time of reading; the documents extend nothing."""
    report = Report()
    return FORMAT.read(tree(document), report) is not MISSING and not report.has_errors


@pytest.mark.parametrize("name", library())
def test_library_is_valid_as_written_and_in_canonical_form(name: str) -> None:
    for text in (library()[name].read_text("utf-8"), str(load(name))):
        assert findings(SCHEDULE, plain_document(text)) == []


@pytest.mark.parametrize("name", job_library())
def test_jobs_are_valid_alone_and_in_a_schedule(name: str) -> None:
    text = job_library()[name].read_text("utf-8")
    assert findings(job_schema(), plain_document(text)) == []
    inline = {**plain_document(MINE), "job": plain_document(text)}
    assert findings(SCHEDULE, inline) == []
    assert findings(SCHEDULE, {**inline, "job": name}) == []


def test_documents_name_the_draft() -> None:
    assert [schema["$schema"] for schema in (SCHEDULE, job_schema())] == [DRAFT, DRAFT]
    assert [schema["title"] for schema in (SCHEDULE, job_schema())] == ["asyncpipe schedule", "asyncpipe job"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside a document."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def mutated(document: Any, source: random.Random) -> Any:
    """A copy with one value replaced, removed, or renamed."""
    copy = json.loads(json.dumps(document))
    *path, last = source.choice(list(places(copy)))
    parent = copy
    for key in path:
        parent = parent[key]
    change = source.randrange(4)
    if change == 0:
        del parent[last]
    elif change == 1 and isinstance(parent, dict):
        parent[source.choice(["every", "count", "per", "order", "stages", "F", "x", last])] = parent.pop(last)
    else:
        parent[last] = source.choice(LEAVES)
    return copy


@pytest.mark.parametrize("name", library())
def test_what_the_format_accepts_is_never_flagged(name: str) -> None:
    source = random.Random(name)
    accepted = 0
    start = plain_document(str(load(name)))
    for _ in range(150):
        document = mutated(start, source)
        if accepts_schedule(document):
            accepted += 1
            assert findings(SCHEDULE, document) == [], json.dumps(document)
    assert accepted > 10


def without_places(node: Node) -> object:
    if isinstance(node, Scalar):
        return node.value, node.text, node.quoted
    if isinstance(node, Mapping):
        return [(without_places(key), without_places(item)) for key, item in node.items]
    return tuple(map(without_places, node.items))


@pytest.mark.parametrize("name", library())
def test_tree_of_a_document_is_read_as_its_text_is(name: str) -> None:
    document = plain_document(str(load(name)))
    parsed = parse_text(json.dumps(document), "mutant.yaml", Report())
    assert parsed is not None
    assert without_places(tree(document)) == without_places(parsed)


def structural_cases() -> list[str]:
    """The invalid files in which a key is unknown or missing."""
    texts = {path.stem: path.read_text("utf-8") for path in sorted(CASES.glob("*.txt"))}
    elsewhere = {"extends-removed-key"}  # what is removed is flagged where it is merged, not in the file that extends
    wrong = r"\.yaml.*error\[AP10[46]\]"
    return [n for n, text in texts.items() if n not in elsewhere and re.search(f"^{n}{wrong}", text, re.MULTILINE)]


@pytest.mark.parametrize("name", structural_cases())
def test_unknown_and_missing_keys_are_flagged(name: str) -> None:
    document = plain_document((CASES / f"{name}.yaml").read_text("utf-8"))
    schema = job_schema() if name.startswith("job-") and "asyncpipe" not in document else SCHEDULE
    assert findings(schema, document)


def test_there_are_cases_of_structure() -> None:
    assert len(structural_cases()) > 8


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"in_fligth": 3}, "/in_fligth: additionalProperties"),
        ({"asyncpipe": 2}, "/asyncpipe: enum"),
        ({"asyncpipe": "1"}, "/asyncpipe: type"),
        ({"name": 3}, "/name: type"),
        ({"description": " "}, "/description: pattern"),
        ({"stages": "autos"}, "/stages: anyOf"),
        ({"stages": 0}, "/stages: anyOf"),
        ({"stages": [{"name": "a"}]}, "/stages: anyOf"),
        ({"in_flight": [3]}, "/in_flight: type"),
        ({"rules": "F[0, m] after U[*, g-1]"}, "/rules: type"),
        ({"update": {"write": "lock"}}, "/update/write: enum"),
        ({"update": {"evry": 2}}, "/update/evry: additionalProperties"),
        ({"costs": {"F": -1}}, "/costs"),
        ({"costs": {"X": 1}}, "/costs"),
        ({"paper": {"id": "x"}}, "/paper: required"),
        ({"expect": {"staleness": [0]}}, "/expect: required"),
        ({"job": {"model": "mlp"}}, "/job: anyOf"),
        ({"job": {"model": "alexnet", "data": "digits", "optimizer": "sgd"}}, "/job: anyOf"),
    ],
    ids=str,
)
def test_slip_is_flagged_where_it_is(changes: dict[str, Any], place: str) -> None:
    document = {**plain_document(MINE), **changes}
    assert not accepts_schedule(document) or "job" in changes
    assert any(finding.startswith(place) for finding in findings(SCHEDULE, document))


def branches(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema, itself first."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from branches(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from branches(value)


@pytest.mark.parametrize("schema", [SCHEDULE, job_schema()], ids=["schedule", "job"])
def test_defaults_are_valid_values(schema: dict[str, Any]) -> None:
    with_default = [branch for branch in branches(schema) if "default" in branch and "type" in branch]
    assert len(with_default) > 5
    assert [branch for branch in with_default if findings(branch, branch["default"])] == []


def test_values_that_editors_offer_for_rules_are_rules() -> None:
    offered = [text for branch in branches(SCHEDULE) for text in branch.get("examples", []) if " after " in text]
    assert [str(parse_rule(text)) != "" for text in offered] == [True] * len(offered)


PARSED = Parsed("a rule", parse_rule, "AP111", pattern=RULE_PATTERN, examples=("F[0, m] after U[*, g-1]",))
TABLE = Object(
    "a thing",
    (
        Key("must", Text()),
        Key("mode", Choice(("a", "b")), "a", "how it works"),
        Key("size", Integer(1, 9, "a size"), 4, "how large"),
        Key("share", Real(), Fraction(1, 3)),
        Key("either", OneOf("a number or a list", (Integer(), ListOf(Integer(), 1))), Number(7)),
        Key("named", MapOf("things by name", "[a-z]+", Text()), None),
        Key("rule", PARSED, Name("S")),
        Key("list", ListOf(Integer(), 1, "a list of integers"), ()),
    ),
    dict,
)


def test_every_kind_gives_its_schema() -> None:
    assert TABLE.schema() == {
        "type": "object",
        "properties": {
            "must": {"type": "string", "pattern": r"\S"},
            "mode": {"type": "string", "enum": ["a", "b"], "description": "how it works", "default": "a"},
            "size": {
                "type": "integer",
                "minimum": 1,
                "maximum": 9,
                "description": "how large (a size)",
                "default": 4,
            },
            "share": {
                "type": ["number", "string"],
                "minimum": 0,
                "maximum": 10**12,
                "pattern": NUMBER_PATTERN,
                "description": "a number from 0 to 1e12 such as 2, 0.5, 1e-3 or 1/3",
                "default": "1/3",
            },
            "either": {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": 10**6},
                    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 10**6}, "minItems": 1},
                ],
                "description": "a number or a list",
                "default": 7,
            },
            "named": {
                "type": "object",
                "patternProperties": {"^(?:[a-z]+)$": {"type": "string", "pattern": r"\S"}},
                "additionalProperties": False,
                "minProperties": 1,
                "description": "things by name",
            },
            "rule": {
                "type": ["string", "integer"],
                "pattern": RULE_PATTERN,
                "examples": ["F[0, m] after U[*, g-1]"],
                "description": "a rule",
                "default": "S",
            },
            "list": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 10**6},
                "minItems": 1,
                "description": "a list of integers",
            },
        },
        "required": ["must"],
        "additionalProperties": False,
    }


def test_changes_of_another_file_may_lack_and_remove_keys() -> None:
    whole = {"must": "x", "either": [1]}
    changes = {"mode": None, "either": None, "size": 3}
    assert findings(TABLE.schema(), whole) == findings(partial(TABLE.schema()), whole) == []
    assert findings(TABLE.schema(), changes) == [": required", "/mode: type", "/mode: enum", "/either: anyOf"]
    assert findings(partial(TABLE.schema()), changes) == []
    assert findings(partial(TABLE.schema()), {"mod": "a", "size": 10}) == [
        "/mod: additionalProperties",
        "/size: maximum",
    ]


class Silent:
    """A kind without a schema."""

    expects = "anything"

    def accepts(self, node: Node) -> bool:
        return True

    def read(self, node: Node, report: Report) -> Node:
        return node


def test_kind_without_a_schema_is_described_and_flags_nothing() -> None:
    assert schema_of(Silent()) == {"description": "anything"}
    assert Key("x", Silent(), None, "what for").schema() == {"description": "what for (anything)"}


def lacking(schema: dict[str, Any]) -> list[str]:
    """The keys whose schema says nothing about the value."""
    named = [pair for branch in branches(schema) for pair in branch.get("properties", {}).items()]
    return sorted({name for name, below in named if isinstance(below, dict) and below.keys() <= {"description"}})


def test_every_key_of_the_formats_has_a_kind_with_a_schema() -> None:
    """The options of optimizers are those of many; their values depend on which."""
    assert set(lacking(SCHEDULE)) - options() == set()


def options() -> set[str]:
    (optimizer,) = [choice for choice in job_schema()["properties"]["optimizer"]["anyOf"] if "properties" in choice]
    return set(optimizer["properties"])


def test_schema_of_the_job_covers_the_job_table() -> None:
    assert [*job_schema()["properties"]] == [key.name for key in JOB.keys]


@pytest.mark.parametrize(
    ("value", "default"),
    [
        (3, 3),
        (True, True),
        ("auto", "auto"),
        (Op.F, "F"),
        (Fraction(4), 4),
        (Fraction(1, 2), "1/2"),
        (parse_expression("s * D // S"), "s*D//S"),
        (Number(1), 1),
        (parse_expression("-1"), "-1"),
    ],
)
def test_default_is_written_as_in_a_file(value: object, default: object) -> None:
    assert default_of(value, {}) == {"default": default}


@pytest.mark.parametrize("value", [None, "", (), (Number(0), Name("last")), object(), ("a", None)])
def test_default_that_has_no_form_is_not_told(value: object) -> None:
    assert default_of(value, {"type": ["string", "integer"]}) == {}
    assert default_of(value, {"type": "array", "minItems": 3}) == {}


def test_list_is_a_default_where_it_is_long_enough() -> None:
    assert default_of((), {"type": "array", "minItems": 0}) == {"default": []}
    assert default_of((Op.B, Op.U), {"type": "array", "minItems": 1}) == {"default": ["B", "U"]}


def test_description_says_what_for_before_what_is_expected() -> None:
    assert described({"description": "a number"}, "how many") == {"description": "how many (a number)"}
    assert described({"description": "1, the version"}, "the version") == {"description": "1, the version"}
    assert described({}, "how many") == {"description": "how many"}
    assert described({"type": "string"}, "") == {"type": "string"}
