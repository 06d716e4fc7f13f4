"""Flat tables are the published orders: equal to torch's generators and to the rows that are written one by one."""

from __future__ import annotations

import pytest

from asyncpipe.errors import UsageError
from asyncpipe.tables import TableError, rows
from asyncpipe.tables.flat import FLAT_NAMES, from_text, generate
from tests.torch_tables import executed_1f1b, generated, zero_bubble_of_one_stage

MICROBATCHES = (*range(1, 10), 12, 16, 24, 31)


@pytest.mark.parametrize(
    ("name", "theirs", "local"),
    [
        ("gpipe", "GPipe", (1,)),
        ("interleaved-1f1b", "Interleaved1F1B", (2, 3)),
        ("zb-h1", "InterleavedZeroBubble", (2, 3)),
    ],
)
def test_tables_equal_those_of_torch(name: str, theirs: str, local: tuple[int, ...]) -> None:
    """Sizes that torch refuses are refused."""
    compared = 0
    for devices in (1, 2, 3, 5):
        for each in local:
            for microbatches in MICROBATCHES:
                try:
                    expected = generated(theirs, devices, each, microbatches)
                except ValueError:
                    with pytest.raises(TableError):
                        generate(name, devices, each * devices, microbatches)
                    continue
                assert generate(name, devices, each * devices, microbatches).rows() == expected
                compared += 1
    assert compared >= 40


def test_1f1b_equals_what_torch_executes() -> None:
    for devices in (1, 2, 4):
        for microbatches in (devices, 2 * devices + 1):
            assert generate("1f1b", devices, devices, microbatches).rows() == executed_1f1b(devices, microbatches)


def test_zb_h1_of_one_stage_equals_the_order_of_torchs_zero_bubble() -> None:
    for devices, microbatches in ((1, 3), (2, 4), (3, 3), (4, 12), (5, 2)):
        expected = zero_bubble_of_one_stage(devices, microbatches)
        assert generate("zb-h1", devices, devices, microbatches).rows() == expected


@pytest.mark.parametrize("name", FLAT_NAMES)
def test_tables_equal_the_rows_written_one_by_one(name: str) -> None:
    """Small runs too, shorter than the pipeline."""
    for devices in (1, 2, 3, 4, 7):
        for stages in (devices,) if name in ("gpipe", "1f1b") else (devices, 2 * devices, 3 * devices):
            for microbatches in MICROBATCHES:
                try:
                    expected = [[str(action) for action in row] for row in rows(name, devices, stages, microbatches)]
                except TableError:
                    with pytest.raises(TableError):
                        generate(name, devices, stages, microbatches)
                    continue
                assert generate(name, devices, stages, microbatches).rows() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("interleaved", 2, 4, 4), "no flat table is called 'interleaved'; did you mean 'interleaved-1f1b'?"),
        (("gpipe", 0, 2, 4), "gpipe cannot order 0 devices, 2 stages and 4 microbatches"),
        (("1f1b", 2, 4, 4), "1f1b on 2 devices: stages must be as many as devices, not 4; try 2 stages"),
        (("zb-h1", 3, 4, 6), "zb-h1 on 3 devices: stages must be a multiple of the devices, not 4; try 3 stages"),
        (("zb-h1", 4, 8, 9), "zb-h1 runs 9 microbatches in 2 rounds of one size, one for each 4; use 8 microbatches"),
    ],
)
def test_impossible_sizes_are_refused(arguments: tuple[str, int, int, int], message: str) -> None:
    with pytest.raises(TableError) as caught:
        generate(*arguments)
    assert message in str(caught.value)


def test_text_becomes_a_table_and_text_again() -> None:
    texts = [["0F0", "0SEND_F0", "0RECV_B0", "0I0", "0W0"], [], ["1RECV_F0", "1F0", "1B0", "1SEND_B0"]]
    table = from_text(texts, lowered=True)
    assert (table.rows(), table.stages, table.microbatches, table.devices) == (texts, 2, 1, 3)
    assert table.offsets.tolist() == [0, 5, 5, 9]
    assert str(table.site(6)) == "1F0 (device 2, position 1)"


@pytest.mark.parametrize("text", ["0X0", "F0", "0F", "0F0 ", "0F-1", "0F99999999999", "0SEND_A0", ""])
def test_text_that_is_no_action_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UsageError, match="device 1, position 1: expected an action such as 2F0"):
        from_text([["0F0"], ["1F0", text]])
