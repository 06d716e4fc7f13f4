"""L2 as text: what the actions mean is in it too, and what is no program is refused with its line."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpipe.ir import Program, ProgramStream, parse_program
from tests.compiler.instances import compiled

PROGRAM = compiled(
    "devices: 2\nstreams:\n  compute: {runs: [F, R, B, U], per: device}\nin_flight: 3\nrecompute: full\n"
    "replicas: {count: 2, sync: {average: 3}}\ncosts: {SEND: 1/3}\n",
    2,
).program(7)
STAGES = st.sets(st.integers(0, 9)).map(lambda stages: tuple(sorted(stages)))
SYNCS = [
    (),
    ("allreduce",),
    ("average", "16", "blocking"),
    ("push", "stage"),
    ("outer", "8", "7/10", "9/10", "nesterov"),
]


@st.composite
def meanings(draw: st.DrawFn) -> Program:
    """The same order and events, with any meaning of the actions."""
    streams = tuple(
        ProgramStream(s.name, s.device, s.runs, draw(st.integers(-10, 10)), draw(st.integers(0, 1024)))
        for s in PROGRAM.streams
    )
    return replace(
        PROGRAM,
        streams=streams,
        write=draw(st.sampled_from(["ordered", "racy", "atomic", "overwrite"])),
        reduce=draw(st.sampled_from(["mean", "sum"])),
        owner=draw(st.sampled_from(["shared", "stream"])),
        scope=draw(st.sampled_from(["all", "partition", "alternate"])),
        commit=draw(st.integers(1, 64)),
        forward_weights=draw(st.sampled_from(["latest", "lag(3)", "predict"])),
        backward_weights=draw(st.sampled_from(["latest", "same", "ema(9/10)", "private"])),
        gradient=tuple(draw(st.lists(st.sampled_from(["shrink=1/2", "spike", "clip_norm=1"]), unique=True))),
        recompute=draw(st.sampled_from(["none", "full", "invert"])),
        recomputed=draw(STAGES),
        aux=draw(st.sampled_from(["chain", "local", "synthetic"])),
        local=draw(STAGES),
        replicas=draw(st.integers(1, 65_536)),
        sync=draw(st.sampled_from(SYNCS)),
        versions=tuple(draw(st.lists(st.integers(1, 99)))),
        unit=draw(st.fractions(Fraction(1, 1000), 1000)),
    )


@settings(max_examples=40)
@given(meanings())
def test_meaning_of_a_program_reads_back(program: Program) -> None:
    assert parse_program(str(program)) == program


def test_every_field_of_a_program_is_in_its_text() -> None:
    """A new field must be printed: a program that differs in it must have another text."""
    other = compiled("streams: {main: {runs: [F, B, U]}}\n", 3).program(3)
    unlike = [field.name for field in fields(Program) if getattr(PROGRAM, field.name) == getattr(other, field.name)]
    for field in fields(Program):
        value = getattr(other, field.name)
        if field.name in unlike:
            value = {str: "other", int: 7, tuple: ("other",), type(None): 5}[type(value)]
        if field.name not in ("streams", "warmup", "body", "cooldown"):  # instructions name the streams
            assert str(replace(PROGRAM, **{field.name: value})) != str(PROGRAM), field.name


LINES = str(PROGRAM).splitlines()


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        ("program ", "programme x", "line 1: expected a line such as 'program async-lu', found 'programme x'"),
        ("stages ", "stages 2 every one", "line 2: expected a line such as 'stages 3 every 1 start 2 "),
        ("update ", "update ordered mean", "line 5: expected a line such as 'update ordered mean shared all 1'"),
        ("weights ", "weights latest", "line 6: expected a line such as 'weights latest latest'"),
        ("recompute ", "recompute", "line 8: expected a line such as 'recompute full 0 1 2'"),
        ("aux ", "aux local first", "line 9: expected a line such as 'aux local 0 1'"),
        ("replicas ", "replicas two", "line 10: expected a line such as 'replicas 2 allreduce'"),
        ("versions ", "version 1 1", "line 11: expected a line such as 'versions 1 1 1'"),
        ("costs ", "costs F 1 1", "line 12: expected a line such as 'costs unit 1 F 1 1 1 B 2 2 2'"),
        ("  compute[0] launch 0F0", "  nobody launch 0F0", "expected one of the streams compute[0], compute[1]"),
        ("  compute[0] launch 0F0", "  compute[0] launches 0F0", "expected"),
        ("  compute[0] launch 0F0", "  compute[0] launch 0F[m]", "expected an action such as 2F0, found '0F[m]'"),
    ],
)
def test_text_that_is_no_program_is_refused_with_its_line(line: str, text: str, expected: str) -> None:
    number = next(i for i, found in enumerate(LINES) if found.startswith(line))
    with pytest.raises(ValueError, match="expected") as caught:
        parse_program("\n".join([*LINES[:number], text, *LINES[number + 1 :]]))
    assert expected in str(caught.value)


def test_text_that_ends_too_early_is_refused() -> None:
    for number in range(len(LINES)):
        if LINES[number] not in ("warmup", "body", "cooldown") and not LINES[number].startswith("  "):
            with pytest.raises(ValueError, match=rf"line {number + 1}: expected"):
                parse_program("\n".join(LINES[:number]))
