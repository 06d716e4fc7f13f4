"""Which actions of a recorded run overlapped on the same memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

import asyncpipe
from asyncpipe.ir import Program, parse_action
from asyncpipe.runtime.races import races
from asyncpipe.runtime.record import Entry


def entries(text: str) -> list[Entry]:
    """`0F1 3-5` is an action and its interval; `1/0F1` is of replica 1, `0SYNC1:end` half of a SYNC."""
    made = []
    for part in text.split(", "):
        name, interval = part.split(" ")
        replica, _, rest = name.rpartition("/")
        action, _, phase = rest.partition(":")
        first, last = map(int, interval.split("-"))
        made.append(Entry(first, last, int(replica or 0), 0, parse_action(action), phase, None))
    return made


def found(program: Program, text: str, buffers: bool = False, draws: bool = False) -> list[tuple[str, str]]:
    listed = entries(text)
    pairs = races(program, listed, [buffers] * program.stages, draws)
    return [(str(listed[reader].action), str(listed[writer].action)) for reader, writer in pairs]


@pytest.fixture(scope="module")
def hogwild() -> Program:
    return asyncpipe.compile("hogwild", stages=3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0F1 1-4, 0U0 5-8", []),
        ("0F1 1-6, 0U0 5-8", [("0F1", "0U0")]),
        ("0B1 6-7, 0U0 5-8", [("0B1", "0U0")]),
        ("0F1 1-9, 0U0 2-3, 0U2 4-5", [("0F1", "0U0"), ("0F1", "0U2")]),
        ("0U0 1-4, 0U1 2-5", [("0U1", "0U0")]),
        ("0F1 1-6, 1U0 5-8", []),
        ("0F1 1-6, 0B0 2-8", []),
        ("0/0F1 1-6, 1/0U0 5-8", []),
    ],
)
def test_a_read_and_a_write_of_one_stage_at_once_are_a_race(
    hogwild: Program, text: str, expected: list[tuple[str, str]]
) -> None:
    assert found(hogwild, text) == expected


def test_a_backward_that_reads_what_its_forward_read_is_in_no_race(hogwild: Program) -> None:
    stashed = replace(hogwild, backward_weights="same")
    assert found(stashed, "0B1 1-6, 0U0 5-8") == []
    assert found(stashed, "0F1 1-6, 0U0 5-8") == [("0F1", "0U0")]


def test_forwards_share_running_statistics_and_random_numbers(hogwild: Program) -> None:
    text = "0F0 1-4, 0F1 2-6, 1F2 3-5"
    assert found(hogwild, text) == []
    assert found(hogwild, text, buffers=True) == [("0F1", "0F0")]
    assert found(hogwild, text, draws=True) == [("0F1", "0F0"), ("1F2", "0F0"), ("1F2", "0F1")]


def test_synthetic_gradients_share_the_predictor_of_the_stage_below() -> None:
    dni = asyncpipe.compile("dni", stages=3)
    assert found(dni, "1B0 1-4, 0B1 2-6") == [("0B1", "1B0")]
    assert found(dni, "2B0 1-4, 0B1 2-6") == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("lapsgd", "0/0SYNC0:begin 1-2, 1/0SYNC0:begin 3-6, 1/0U5 4-8", [("0SYNC0", "0U5")]),
        ("lapsgd", "0/0SYNC0:end 1-2, 1/0SYNC0:end 3-6, 0/0F5 4-8", [("0F5", "0SYNC0")]),
        ("lapsgd", "0/0SYNC0:end 1-5, 0/0F5 4-8", []),
        ("ddp", "0/0SYNC0:end 1-2, 1/0SYNC0:end 3-6, 0/0F5 4-8", []),
        ("layup", "0/0SYNC0:end 1-6, 1/0F5 4-8", [("0F5", "0SYNC0")]),
        ("layup", "0/0SYNC0:end 1-6, 1/0SYNC0:end 4-8", [("0SYNC0", "0SYNC0")]),
        ("layup", "0/0SYNC0:end 1-6, 1/1SYNC0:end 4-8", []),
        ("layup", "0/0SYNC0:begin 1-6, 1/0SYNC0:begin 4-8", []),
        ("layup", "0/0SYNC0:begin 1-6, 0/0SYNC1:begin 4-8", [("0SYNC1", "0SYNC0")]),
    ],
)
def test_a_synchronisation_touches_what_it_averages(name: str, text: str, expected: list[tuple[str, str]]) -> None:
    assert found(asyncpipe.compile(name, stages=3), text) == expected
