"""L0: the canonical text of a schedule reads back to an equal schedule."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpipe import jobs
from asyncpipe.ir import AUTHORED, Op
from asyncpipe.schedule import Costs, Expect, Schedule, StageRange, StreamGroup, Update, Weights, library, load
from asyncpipe.schedule.expression import Name, Number
from asyncpipe.schedule.format import SCHEDULE
from asyncpipe.schedule.job import LOSSES, JobSpec, job_library, job_text, read_job
from asyncpipe.schedule.load import load_text
from asyncpipe.schedule.rule import BodyEntry, parse_rule
from asyncpipe.schedule.source import Report
from asyncpipe.schedule.spec import DEFAULT_ORDER, Aux, Paper, Phase, Recompute, Replicas, Sync, Transform
from asyncpipe.tables.generate import NAMES, rows
from tests.schedule.expressions import arithmetic

CONSTANTS = ("S", "D", "last")
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
TEXTS = WORDS.map(lambda text: " ".join(text.split())).filter(bool)
OPS = st.lists(st.sampled_from(AUTHORED), min_size=1, max_size=6, unique=True).map(tuple)
COSTS = ("F", "B", "I", "W", "U", "R", "SEND", "SYNC")
TIMES = st.fractions(0, 100, max_denominator=1000)
ENTRIES = st.builds(
    BodyEntry,
    st.sampled_from(AUTHORED),
    st.none() | arithmetic(("d", "s", *CONSTANTS), leaves=3),
    arithmetic(("m", "d", "s", *CONSTANTS), leaves=3),
)
BODIES = st.lists(ENTRIES, max_size=2)
TABLES = st.sampled_from(NAMES) | st.sampled_from(
    [rows("1f1b", 2, 2, 3), rows("zb-h1", 2, 4, 4), rows("zbv", 3, 6, 6), rows("gpipe", 1, 1, 1)]
)
SPANS = st.tuples(arithmetic(CONSTANTS, leaves=2), arithmetic(CONSTANTS, leaves=3))
DECAYS = st.fractions(0, Fraction(999_999_999_999, 10**12), max_denominator=10**12)
RULES = ["F[0, m] after U[*, g-1]", "U[s, g] after B[0, hi]", "F B [last, m] after F[s, m-1] when m % 2 == 0 or s > 1"]


def read(text: str) -> Schedule:
    report = Report()
    schedule = load_text(text, "mine.yaml", report)
    assert report.diagnostics == [], text
    assert schedule is not None
    return schedule


@st.composite
def costs(draw: st.DrawFn) -> Costs:
    times = st.one_of(TIMES.map(lambda time: (time,)), st.lists(TIMES, min_size=2, max_size=4).map(tuple))
    return Costs(tuple((key, draw(times)) for key in sorted(draw(st.sets(st.sampled_from(COSTS))))))


@st.composite
def groups(draw: st.DrawFn, name: str, ratio: str) -> StreamGroup:
    per = None if ratio else draw(st.sampled_from([None, "stage", "device"]))
    body = tuple(draw(BODIES))
    table = () if body else draw(st.just(()) | TABLES)
    order = DEFAULT_ORDER if body or table else draw(OPS)
    return StreamGroup(
        name,
        draw(OPS),
        1 if per or ratio else draw(st.integers(1, 1024)),
        per,
        draw(SPANS),
        draw(st.none() | arithmetic(("s", "i", *CONSTANTS), leaves=3)),
        (*order, *(op for op in DEFAULT_ORDER if op not in order)),
        body,
        table,
        draw(st.sampled_from(["round", "dynamic"])),
        draw(st.integers(-10, 10)),
        draw(st.integers(0, 1024)),
    )


def updates() -> st.SearchStrategy[Update]:
    return st.builds(
        Update,
        st.integers(1, 4096),
        st.sampled_from(["ordered", "racy", "atomic", "overwrite"]),
        st.sampled_from(["shared", "stream"]),
        st.sampled_from(["mean", "sum"]),
        st.sampled_from(["all", "partition", "alternate"]),
        st.integers(1, 64),
    )


@st.composite
def weights(draw: st.DrawFn) -> Weights:
    forward = draw(st.sampled_from(["latest", "lag", "predict"]))
    backward = draw(st.sampled_from(["latest", "same", "ema", "private"]))
    lag = draw(st.integers(1, 4096)) if forward == "lag" else 0
    return Weights(forward, backward, lag, draw(DECAYS) if backward == "ema" else Fraction(0))


def transforms() -> st.SearchStrategy[tuple[Transform, ...]]:
    kinds = st.sampled_from(["shrink", "clip_norm", "delay_compensation", "lr_over_staleness"])
    return st.lists(st.builds(Transform, kinds, TIMES) | st.just(Transform("spike")), max_size=3).map(tuple)


def syncs() -> st.SearchStrategy[Sync]:
    every = st.integers(1, 4096)
    return st.one_of(
        st.just(Sync("allreduce")),
        st.builds(Sync, st.just("average"), every, st.booleans()),
        st.builds(
            lambda every, lr, momentum, nesterov: Sync("outer", every, lr=lr, momentum=momentum, nesterov=nesterov),
            *(every, TIMES, TIMES, st.booleans()),
        ),
        st.builds(lambda g: Sync("push", blocking=False, granularity=g), st.sampled_from(["stage", "model"])),
    )


def phases() -> st.SearchStrategy[Phase]:
    shares = st.fractions(0, 1, max_denominator=1000).filter(lambda share: 0 < share < 1)
    scopes = st.none() | st.sampled_from(["all", "partition", "alternate"])
    return st.builds(Phase, st.integers(1, 10**6) | shares, scopes, st.none() | syncs())


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    names = draw(st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True), min_size=1, unique=True))
    spans = st.tuples(st.integers(0, 99), st.integers(0, 99))
    ranges = st.lists(st.builds(lambda name, span: StageRange(name, *span), TEXTS, spans), min_size=1, max_size=3)
    ratio = draw(st.sampled_from(["", "", "auto"]))
    places = st.lists(st.integers(0, 4095), min_size=1, max_size=3).map(tuple)
    return Schedule(
        tuple(draw(groups(name, ratio)) for name in names[:3] if name != "ratio") or (draw(groups("main", ratio)),),
        ratio=ratio,
        name=draw(TEXTS),
        description=draw(st.just("") | TEXTS),
        paper=draw(st.none() | st.builds(Paper, TEXTS, st.just("") | TEXTS)),
        stages=draw(st.sampled_from(["auto", "layers"]) | st.integers(1, 4096) | ranges.map(tuple)),
        devices=draw(arithmetic(("S",), leaves=3)),
        place=draw(arithmetic(("s", *CONSTANTS), leaves=4) | places),
        in_flight=draw(st.none() | arithmetic(("s", *CONSTANTS), leaves=4)),
        rules=tuple(parse_rule(text) for text in draw(st.lists(st.sampled_from(RULES), max_size=3))),
        update=draw(updates()),
        weights=draw(weights()),
        gradient=draw(transforms()),
        aux=draw(st.just(Aux()) | st.builds(Aux, st.sampled_from(["local", "synthetic"]), SPANS)),
        recompute=draw(st.just(Recompute()) | st.builds(Recompute, st.sampled_from(["full", "invert"]), SPANS)),
        replicas=draw(st.just(Replicas()) | st.builds(Replicas, st.integers(1, 65_536), syncs())),
        phases=draw(st.lists(phases(), max_size=2).map(tuple)),
        costs=draw(costs()),
        expect=draw(
            st.none()
            | st.builds(
                Expect,
                st.integers(1, 4096),
                st.none() | st.lists(TIMES, max_size=3).map(tuple),
                st.none() | TIMES,
                st.none() | st.integers(0, 10**6),
                st.none() | st.lists(st.integers(1, 10**6), max_size=3).map(tuple),
                costs(),
            )
        ),
    )


@settings(max_examples=30)
@given(schedules())
def test_any_schedule_reads_back_from_its_text(schedule: Schedule) -> None:
    assert read(str(schedule)) == schedule
    assert str(read(str(schedule))) == str(schedule)


@pytest.mark.parametrize("name", library())
def test_library_reads_back_from_its_text(name: str) -> None:
    schedule = load(name)
    assert read(str(schedule)) == schedule
    assert str(read(str(schedule))) == str(schedule)


@pytest.mark.parametrize(
    "line",
    [
        "weights: {backward: ema(0.9999999999)}",
        "weights: {backward: ema( 1/3 ), forward: lag( 007 )}",
        "recompute: {mode: none, stages: 0}",
        "recompute: invert",
        "aux: {gradient: synthetic}",
        "gradient: [{spike: true}, {shrink: 0.5}, {lr_over_staleness: 1e-3}]",
        "replicas: {count: 1, sync: {average: 8}}",
        "replicas: {count: 4, sync: {push: random}}",
        "replicas: {count: 4, sync: {push: {granularity: model}}}",
        "replicas: {count: 4, sync: {outer: {every: 16, lr: 0.7}}}",
        "place: [0, 1, 0]",
        "costs: {SEND: 0.25, SYNC: [1, 2/3], R: 1}",
        "expect: {stages: 3, max_staleness: 0, versions: []}",
    ],
)
def test_every_form_of_a_value_reads_back(line: str) -> None:
    schedule = read(f"asyncpipe: 1\nname: x\nstreams: {{main: {{runs: [F, B, U]}}}}\n{line}\n")
    assert read(str(schedule)) == schedule


def test_ratio_stands_for_counts() -> None:
    schedule = read("asyncpipe: 1\nname: x\nstreams: {f: {runs: [F]}, b: {runs: [B, U]}, ratio: 1:2}\n")
    assert [group.count for group in schedule.streams] == [1, 2]
    assert read(str(schedule)) == schedule


def test_defaults_are_written_out() -> None:
    assert str(read("asyncpipe: 1\nname: x\nstreams: {main: {runs: [F, B, U]}}\n")) == (
        "asyncpipe: 1\n"
        'name: "x"\n'
        "stages: auto\n"
        "devices: 1\n"
        "place: s*D//S\n"
        "streams:\n"
        "  main: {runs: [F, B, U], count: 1, stages: 0..last, order: [U, B, I, F, R, W]}\n"
        "rules: []\n"
        "update: {every: 1, write: ordered, owner: shared, reduce: mean, scope: all, commit: 1}\n"
        "weights: {forward: latest, backward: latest}\n"
        "gradient: []\n"
    )


def test_keys_come_in_the_order_of_the_format() -> None:
    optional = ["costs.F=2", "in_flight=3", "description=all of it", "expect.stages=3", "aux.gradient=local"]
    optional += ["recompute=full", "replicas={count: 2, sync: {average: 4}}"]
    optional += ["phases=[{until: 1/2, replicas: {sync: {average: 1}}}]"]
    text = str(load("sgd-ready", optional))
    keys = [line.partition(":")[0] for line in text.splitlines() if line[0].isalpha()]
    order = [key.name for key in SCHEDULE.keys]
    assert keys == sorted(keys, key=order.index)
    assert set(order) - set(keys) == {"paper", "job", "extends"}


def test_every_field_of_a_schedule_is_in_its_text() -> None:
    """A new field must be printed: a schedule that differs in it must have another text."""
    one = read("asyncpipe: 1\nname: a\nstreams: {main: {runs: [F, B, U]}}\n")
    others: dict[str, Any] = {
        "streams": (StreamGroup("other", (Op.F,)),),
        "ratio": "auto",
        "name": "b",
        "description": "b",
        "paper": Paper("b"),
        "stages": 3,
        "devices": Number(2),
        "place": Name("s"),
        "in_flight": Number(3),
        "rules": (parse_rule(RULES[0]),),
        "update": Update(2),
        "weights": Weights(backward="same"),
        "gradient": (Transform("spike"),),
        "aux": Aux("local"),
        "recompute": Recompute("full"),
        "replicas": Replicas(2, Sync("average", 3)),
        "phases": (Phase(Fraction(1, 2), "all"), Phase(7, None, Sync("average", 3))),
        "costs": Costs((("F", (Fraction(1),)),)),
        "expect": Expect(3),
    }
    assert set(others) == {field.name for field in fields(Schedule) if field.compare}
    for name, value in others.items():
        changed = replace(one, **{name: value})
        assert str(changed) != str(one)
        assert read(str(changed)) == changed


@pytest.mark.parametrize("name", job_library())
def test_jobs_of_the_library_read_back_from_their_text(name: str) -> None:
    report = Report()
    job = read_job(name, report)
    assert isinstance(job, JobSpec)
    node_text = job_text(job)
    assert read_text_as_job(node_text) == job
    assert job_text(read_text_as_job(node_text)) == node_text


def read_text_as_job(text: str) -> JobSpec:
    from asyncpipe.schedule.source import parse_text

    report = Report()
    job = read_job(parse_text(text, "job.yaml", report), report)
    assert report.diagnostics == []
    assert job is not None
    return job


def test_job_without_a_source_is_the_default() -> None:
    job = read_job(None, Report(), ["job.train.batch=7"])
    assert job is not None
    assert (job.name, job.train.batch) == ("digits", 7)


def test_losses_are_those_that_can_be_built() -> None:
    assert set(LOSSES) == set(jobs.LOSSES)
