"""Faults of flat tables: each kind with its sites; random mutations are judged as a brute-force checker judges them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpipe.tables.flat import Faults, FlatTable, Graph, from_text, generate, lower, verify
from tests.tables.flat_oracle import lowered, parts, place_of, problems, random_rows, sources

Rows = list[list[str]]
GOOD: Rows = [["0F0", "0F1", "0B0", "0B1"], ["1F0", "1B0", "1F1", "1B1"]]


def faults_of(table: FlatTable) -> Faults:
    found = verify(table)
    assert isinstance(found, Faults)
    return found


def told(rows: Rows, is_lowered: bool = False, most: int = 100) -> list[str]:
    found = verify(from_text(rows, 2, 2, is_lowered), most)
    return [str(fault) for fault in found.found] if isinstance(found, Faults) else []


def test_a_good_table_has_no_faults() -> None:
    assert told(GOOD) == []
    assert told(lower(from_text(GOOD)).rows(), is_lowered=True) == []


@pytest.mark.parametrize(
    ("row", "kind", "expected"),
    [
        (
            "1F0 1B0 1F2 1B1",
            "range",
            ["device 1, position 2: 1F2 is out of range: the table has F, B, I, W of 2 stages"],
        ),
        (
            "1F0 2B0 1F1 1B1",
            "range",
            ["device 1, position 1: 2B0 is out of range: the table has F, B, I, W of 2 stages"],
        ),
        ("1F0 1B0 1F1 1B1 1SEND_B1", "range", ["device 1, position 4: 1SEND_B1 is out of range"]),
        ("1F0 1B0 1F1 1B1 1F0", "duplicate", ["device 1, position 4: 1F0 is here a second time"]),
        ("1F0 1B0 1B1", "missing", ["1F1 is missing"]),
        ("1F0 1B0 1F1", "backward", ["1B1 is missing, and no halves I and W"]),
        ("1F0 1B0 1F1 1I1", "backward", ["1W1 is missing: I is there"]),
        ("1F0 1B0 1F1 1W1", "backward", ["1I1 is missing: W is there"]),
        ("1F0 1B0 1F1 1B1 1W1", "backward", ["1I1 is missing", "device 1, position 3: 1B1 is a whole backward beside"]),
        ("1F0 1B0 1B1 1F1", "order", ["device 1, position 2: 1B1 is before 1F1, which it needs"]),
        ("1F0 1B0 1F1 1W1 1I1", "order", ["device 1, position 3: 1W1 is before 1I1, which it needs"]),
    ],
)
def test_a_fault_names_device_position_and_action(row: str, kind: str, expected: list[str]) -> None:
    rows = [GOOD[0], row.split()]
    found = faults_of(from_text(rows, 2, 2))
    assert kind in {fault.kind for fault in found.found}
    for line in expected:
        assert any(str(fault).startswith(line) for fault in found.found), str(found)
    assert found.total == len(found.found)


def test_a_stage_on_two_devices_is_told_where_it_is_not_at_home() -> None:
    rows = [["0F0", "0F1", "0B0", "0B1", "1B1"], ["1F0", "1B0", "1F1"]]
    assert told(rows) == ["device 0, position 4: 1B1 is not on device 1, where stage 1 is"]


def test_missing_and_needless_transfers_are_told() -> None:
    rows = lower(from_text(GOOD)).rows()
    rows[0].remove("0SEND_F1")
    rows[1].append("1SEND_F0")
    assert told(rows, is_lowered=True) == [
        "0SEND_F1 is missing",
        "device 1, position 8: 1SEND_F0: both stages are on this device, or there is no other stage",
    ]


def test_a_table_without_transfers_is_not_taken_for_a_lowered_one() -> None:
    assert told(GOOD, is_lowered=True)[0] == "0SEND_F0 is missing"


def test_a_deadlock_is_told_with_its_cycle() -> None:
    rows = [["0F0", "0B0", "0F1", "0B1"], ["1F0", "1F1", "1B0", "1B1"]]
    (fault,) = faults_of(from_text(rows)).found
    assert fault.kind == "deadlock"
    assert fault.message == (
        "these devices wait for each other: 0B0 (device 0, position 1) waits for 1B0 (device 1, position 2); "
        "1F1 (device 1, position 1) waits for 0F1 (device 0, position 2)"
    )
    assert [site.action for site in fault.sites] == ["0B0", "1B0", "1F1", "0F1"]


def test_of_many_faults_the_first_are_told_and_all_are_counted() -> None:
    found = verify(from_text([["0F0"] * 12], 1, 10), most=3)
    assert isinstance(found, Faults)
    assert found.total == 11 + 9 + 10
    assert len(found.found) == 9
    assert str(found).splitlines()[-1] == "and 21 more"


@pytest.mark.parametrize(
    ("stages", "microbatches", "expected"),
    [
        (0, 1, "0 stages and 1 microbatch: expected at least one of each"),
        (1, 0, "1 stage and 0 microbatches: expected at least one of each"),
        (10**6, 10**6, "1,000,000 stages and 1,000,000 microbatches need at least 2000000000000 actions, found 2"),
    ],
)
def test_impossible_numbers_are_told_without_arrays_of_that_size(stages: int, microbatches: int, expected: str) -> None:
    assert str(faults_of(from_text([["0F0", "0B0"]], stages, microbatches))) == expected


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "interleaved-1f1b", "zb-h1"])
def test_generated_tables_are_valid_lowered_or_not(name: str) -> None:
    table = generate(name, 4, 4 if name in ("gpipe", "1f1b") else 8, 12)
    assert isinstance(verify(table), Graph)
    assert isinstance(verify(lower(table)), Graph)


def table_from(seed: int) -> tuple[random.Random, Rows, int, int, bool]:
    rng = random.Random(seed)
    devices, stages, microbatches = rng.randint(1, 4), rng.randint(1, 5), rng.randint(1, 4)
    rows = random_rows(rng, devices, stages, microbatches)
    is_lowered = rng.random() < 0.5
    return rng, lowered(rng, rows, stages) if is_lowered else rows, stages, microbatches, is_lowered


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_random_tables_that_can_run_are_accepted(seed: int) -> None:
    _, rows, stages, microbatches, is_lowered = table_from(seed)
    assert problems(rows, stages, microbatches, is_lowered) == set()
    assert isinstance(verify(from_text(rows, stages, microbatches, is_lowered)), Graph)


def mutate(rng: random.Random, rows: Rows) -> None:
    """Swaps, moves, drops, repeats or renames an action."""
    full = [row for row in rows if row]
    row = rng.choice(full)
    i = rng.randrange(len(row))
    kind = rng.choice(["swap", "swap", "swap", "move", "move", "drop", "repeat", "rename"])
    if kind == "swap":
        j = rng.randrange(len(row))
        row[i], row[j] = row[j], row[i]
    elif kind == "move":
        action = row.pop(i)
        other = rng.choice(rows) if rng.random() < 0.3 else row
        other.insert(rng.randint(0, len(other)), action)
    elif kind == "drop":
        del row[i]
    elif kind == "repeat":
        row.insert(rng.randint(0, len(row)), row[i])
    else:
        stage, op, m = parts(row[i])
        op = rng.choice([op, rng.choice(["F", "B", "I", "W", "SEND_F", "RECV_B"])])
        row[i] = f"{max(0, stage + rng.randint(-1, 1))}{op}{max(0, m + rng.randint(-1, 1))}"


@settings(max_examples=600)
@given(st.integers(0, 2**32))
def test_mutated_tables_are_judged_as_by_brute_force(seed: int) -> None:
    rng, rows, stages, microbatches, is_lowered = table_from(seed)
    for _ in range(rng.randint(1, 3)):
        if any(rows):
            mutate(rng, rows)
    expected = problems(rows, stages, microbatches, is_lowered)
    found = verify(from_text(rows, stages, microbatches, is_lowered))
    kinds = {fault.kind for fault in found.found} if isinstance(found, Faults) else set()
    assert kinds <= expected, found
    assert bool(kinds) == bool(expected), found
    if isinstance(found, Faults):
        assert_sites_are_true(found, rows, stages, is_lowered)


def assert_sites_are_true(found: Faults, rows: Rows, stages: int, is_lowered: bool) -> None:
    for fault in found.found:
        assert all(rows[site.device][site.position] == site.action for site in fault.sites)
        if fault.kind == "deadlock":
            place = place_of(rows)
            hops = list(zip(fault.sites[::2], fault.sites[1::2], strict=True))
            for (waiting, source), (after, _) in zip(hops, [*hops[1:], hops[0]], strict=True):
                assert any(source.action in choice for choice in sources(waiting.action, place, stages, is_lowered))
                assert after.device == source.device
                assert after.position <= source.position


@pytest.mark.parametrize(
    "kind", ["deadlock", "order", "transfer", "device", "backward", "missing", "duplicate", "range"]
)
def test_mutations_reach_every_kind_of_fault(kind: str) -> None:
    """That the test above does not pass for want of examples."""
    for seed in range(2000):
        rng, rows, stages, microbatches, is_lowered = table_from(seed)
        mutate(rng, rows)
        if problems(rows, stages, microbatches, is_lowered) == {kind}:
            assert {fault.kind for fault in faults_of(from_text(rows, stages, microbatches, is_lowered)).found} == {
                kind
            }
            return
    pytest.fail(f"no mutation gave {kind} alone")
