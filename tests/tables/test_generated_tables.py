"""The published orders equal those of the installed torch, are possible, and refuse sizes with what to change."""

from __future__ import annotations

import pytest

from asyncpipe.errors import Report
from asyncpipe.ir import Action, Op
from asyncpipe.tables.cells import Rows
from asyncpipe.tables.generate import NAMES, TableError, rows
from asyncpipe.tables.verify import verify_rows
from tests.torch_tables import executed_1f1b, generated, zero_bubble_of_one_stage

TORCH = {
    "gpipe": ("GPipe", (1,)),
    "interleaved-1f1b": ("Interleaved1F1B", (2, 3)),
    "zb-h1": ("InterleavedZeroBubble", (2, 3)),
    "looped-bfs": ("LoopedBFS", (2, 3)),
    "zbv": ("ZBVZeroBubble", (2,)),
    "dualpipev": ("DualPipeV", (2,)),
}
DEVICES = (1, 2, 3, 4, 6)
MICROBATCHES = (*range(1, 10), 11, 12, 16, 24)


def texts(name: str, devices: int, stages: int, microbatches: int) -> list[list[str]]:
    return [[str(action) for action in row] for row in rows(name, devices, stages, microbatches)]


def sizes(name: str) -> list[tuple[int, int, int]]:
    each = (1,) if name == "1f1b" else TORCH[name][1]
    return [(d, v * d, m) for d in DEVICES for v in each for m in MICROBATCHES]


@pytest.mark.parametrize("name", TORCH)
def test_orders_equal_those_of_torch(name: str) -> None:
    """Also the sizes that are refused."""
    compared = 0
    for devices, stages, microbatches in sizes(name):
        try:
            theirs = generated(TORCH[name][0], devices, stages // devices, microbatches)
        except ValueError:
            with pytest.raises(TableError):
                rows(name, devices, stages, microbatches)
            continue
        assert texts(name, devices, stages, microbatches) == theirs, (devices, stages, microbatches)
        compared += 1
    assert compared >= 20


def test_1f1b_equals_what_torch_executes() -> None:
    """Not what its picture shows: that leaves F0 of the last device out."""
    for devices in DEVICES:
        for microbatches in range(devices, devices + 6):
            assert texts("1f1b", devices, devices, microbatches) == executed_1f1b(devices, microbatches)


def test_torchs_picture_of_1f1b_is_rejected() -> None:
    """torch 2.11 to 2.13 number the forwards of the last device from 1. Should that end, this test says so."""
    shown = generated("1F1B", 3, 1, 4)
    assert shown[:2] == texts("1f1b", 3, 3, 4)[:2]
    assert shown[2] == ["2F1", "2B0", "2F2", "2B1", "2F3", "2B2", "2F4", "2B3"]


def test_zb_h1_of_one_stage_equals_the_order_of_torchs_zero_bubble() -> None:
    for devices in DEVICES:
        for microbatches in (m for m in MICROBATCHES if m % max(1, m // devices) == 0):
            assert texts("zb-h1", devices, devices, microbatches) == zero_bubble_of_one_stage(devices, microbatches)


def test_zb_h1_keeps_no_more_microbatches_in_flight_than_1f1b() -> None:
    """The bound of the paper: the first device holds as many activations as in 1F1B, no device holds more."""
    for name in ("1f1b", "zb-h1"):
        most = []
        for row in rows(name, 4, 4, 12):
            held = [0]
            for action in row:
                held.append(held[-1] + (action.op is Op.F) - (action.op in (Op.B, Op.I)))
            most.append(max(held))
        assert most == [4, 3, 2, 1]


@pytest.mark.parametrize("name", NAMES)
def test_every_order_is_possible(name: str) -> None:
    """Each action once, on one device, no deadlock; small runs too, which torch refuses for some names."""
    each = {"gpipe": (1,), "1f1b": (1,), "zbv": (2,), "dualpipev": (2,)}.get(name, (1, 2, 3))
    accepted = 0
    for devices in (1, 2, 3, 4, 7):
        for stages in (v * devices for v in each):
            for microbatches in range(1, 17):
                try:
                    table = rows(name, devices, stages, microbatches)
                except TableError:
                    continue
                shape = _verified(table, devices, stages, microbatches)
                assert shape == tuple(_place(name, s, devices, stages) for s in range(stages))
                accepted += 1
    assert accepted >= 40


def _verified(table: tuple[tuple[Action, ...], ...], devices: int, stages: int, microbatches: int) -> tuple[int, ...]:
    report = Report()
    shape = verify_rows(Rows(table), report, devices=devices, stages=stages, microbatches=microbatches)
    assert report.diagnostics == []
    assert shape is not None
    return shape.place


def _place(name: str, stage: int, devices: int, stages: int) -> int:
    if name in ("zbv", "dualpipev"):
        return min(stage, stages - 1 - stage)
    return stage % devices


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("gpip", 2, 2, 4), "no table is called 'gpip'", "did you mean 'gpipe'?"),
        (("gpipe", 0, 2, 4), "gpipe cannot order 0 devices, 2 stages and 4 microbatches", "each of the three"),
        (("1f1b", 2, 4, 4), "1f1b has one stage on each device", "set stages to 2, or use the table interleaved-1f1b"),
        (("gpipe", 2, 4, 4), "gpipe has one stage on each device", "set stages to 2, or use the table looped-bfs"),
        (("zbv", 2, 2, 4), "zbv has two stages on each device, not 2 stages on 2 devices", "set stages to 4"),
        (("1f1b", 1, 3, 4), "1f1b has one stage on each device, not 3 stages on 1 device", "set stages to 1, or"),
        (("zb-h1", 3, 4, 6), "4 is not a multiple of 3 devices", "set stages to 3 or 6"),
        (("zb-h1", 3, 2, 6), "2 is not a multiple of 3 devices", "set stages to 3"),
        (("dualpipev", 3, 6, 5), "dualpipev needs as many microbatches as stages, 6, not 5", "at least 6 microbatches"),
        (("interleaved-1f1b", 4, 8, 13), "runs 13 microbatches in 3 rounds", "accumulate 12 or 15 microbatches"),
        (("zb-h1", 4, 8, 9), "runs 9 microbatches in 2 rounds", "accumulate 8 or 10 microbatches"),
    ],
)
def test_impossible_sizes_are_refused_with_what_to_change(
    arguments: tuple[str, int, int, int], message: str, hint: str
) -> None:
    with pytest.raises(TableError) as caught:
        rows(*arguments)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert str(caught.value) == f"{caught.value.message}; {caught.value.hint}"
    assert isinstance(caught.value, ValueError)


def test_advice_on_microbatches_is_good() -> None:
    """Both numbers that an error names are accepted, and they are the nearest ones."""
    for devices in range(1, 9):
        for microbatches in range(1, 60):
            try:
                rows("zb-h1", devices, devices, microbatches)
            except TableError as error:
                lower, upper = (int(word) for word in error.hint.split() if word.isdigit())
                assert lower < microbatches < upper
                for good in (lower, upper):
                    rows("zb-h1", devices, devices, good)
                for between in range(lower + 1, upper):
                    with pytest.raises(TableError):
                        rows("zb-h1", devices, devices, between)
