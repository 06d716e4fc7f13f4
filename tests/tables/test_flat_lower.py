"""Transfers: torch's lowering has the same actions on each device, its simulator takes our order and ours takes its."""

from __future__ import annotations

import warnings
from collections import Counter
from itertools import chain
from typing import Any

import pytest

from asyncpipe.errors import UsageError
from asyncpipe.tables.flat import FlatTable, Graph, from_text, generate, lower, simulate, verify
from tests.tables.flat_oracle import end_times

CASES = [
    ("gpipe", 3, 3, 5),
    ("1f1b", 4, 4, 9),
    ("interleaved-1f1b", 2, 4, 6),
    ("interleaved-1f1b", 4, 12, 16),
    ("zb-h1", 3, 3, 6),
    ("zb-h1", 2, 6, 8),
    ("gpipe", 1, 1, 3),
]


def torch_schedules() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.distributed.pipelining import schedules
    return schedules


def as_torch(rows: list[list[str]]) -> dict[int, list[Any]]:
    action = torch_schedules()._Action
    return {device: [action.from_str(text) for text in row] for device, row in enumerate(rows)}


def lowered_by_torch(table: FlatTable) -> list[list[str]]:
    done = torch_schedules()._add_send_recv(as_torch(table.rows()), lambda s: s % table.devices, table.stages)
    return [[str(action) for action in done[device]] for device in range(table.devices)]


@pytest.mark.parametrize("case", CASES)
def test_each_device_has_the_actions_that_torch_gives_it(case: tuple[str, int, int, int]) -> None:
    table = generate(*case)
    ours, theirs = lower(table).rows(), lowered_by_torch(table)
    assert [Counter(row) for row in ours] == [Counter(row) for row in theirs]
    assert [[a for a in row if "_" not in a] for row in ours] == table.rows()


@pytest.mark.parametrize("case", CASES)
def test_torchs_simulator_runs_our_order_to_its_end(case: tuple[str, int, int, int]) -> None:
    ours = lower(generate(*case))
    steps = torch_schedules()._simulate_comms_compute(as_torch(ours.rows()), lambda s: s % ours.devices, ours.stages)
    assert sum(action is not None for row in steps.values() for action in row) == len(ours)


@pytest.mark.parametrize("case", CASES)
def test_torchs_order_is_valid_and_timed_as_the_oracle_says(case: tuple[str, int, int, int]) -> None:
    """Torch receives as early as it can, so some devices wait for what they do not need yet."""
    rows = lowered_by_torch(generate(*case))
    table = from_text(rows, lowered=True)
    graph = verify(table)
    assert isinstance(graph, Graph), graph
    times = simulate(graph, {"F": 2, "B": 5, "I": 3, "W": 2, "SEND_F": 1, "RECV_B": 1}, latency=3)
    cost = {"F": 2, "B": 5, "I": 3, "W": 2, "SEND_F": 1, "RECV_F": 0, "SEND_B": 0, "RECV_B": 1}
    ends = end_times(rows, table.stages, True, lambda a: cost[a.strip("0123456789")], lambda a, b: 3)
    assert dict(zip(chain(*rows), times.end.tolist(), strict=True)) == ends


def test_a_receive_stands_before_what_needs_it_and_a_send_after_what_gives_it() -> None:
    assert lower(generate("1f1b", 2, 2, 2)).rows() == [
        ["0F0", "0SEND_F0", "0F1", "0SEND_F1", "0RECV_B0", "0B0", "0RECV_B1", "0B1"],
        ["1RECV_F0", "1F0", "1B0", "1SEND_B0", "1RECV_F1", "1F1", "1B1", "1SEND_B1"],
    ]


def test_neighbouring_stages_on_one_device_need_no_transfer() -> None:
    rows = [["0F0", "1F0", "1I0", "0B0", "1W0"], ["2F0", "2B0"]]
    assert lower(from_text(rows)).rows() == [
        ["0F0", "1F0", "1SEND_F0", "1RECV_B0", "1I0", "0B0", "1W0"],
        ["2RECV_F0", "2F0", "2B0", "2SEND_B0"],
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lower(generate("1f1b", 2, 2, 2)), "this table has its transfers already"),
        (from_text([["0F0", "0SEND_F0"], ["1F0"]]), "expected the operations F, B, I and W only"),
        (from_text([["0F0"], ["1F0", "0B0"]]), "stage 0 is on the devices 0, 1, expected one"),
        (from_text([["0F0"], ["2F0"]]), "stage 1 is on no device, expected one"),
        (from_text([["0F0", "1F0"]], stages=1), "a stage is out of range: they are 0 to 0"),
    ],
)
def test_tables_that_cannot_be_lowered_are_refused(table: FlatTable, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        lower(table)
    assert message in str(caught.value)
