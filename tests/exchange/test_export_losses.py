"""What torch's table cannot say is listed whole, each thing with its line; what it can say is not."""

from __future__ import annotations

import pytest

from asyncpipe.errors import ScheduleError
from asyncpipe.exchange.losses import losses
from asyncpipe.exchange.window import exportable, window
from tests.exchange.schedules import compiled_text, greedy

FLUSH = 'rules: ["F[0, m] after U[*, g-1]"]\n'


def lost(text: str, microbatches: int | None = None) -> list[str]:
    """line text"""
    compiled = compiled_text(text)
    found = window(compiled, microbatches or compiled.diagram.every)
    exportable(compiled, found)
    return [f"{where.line if where else 0} {text}" for text, where in losses(compiled, found)]


def schedule(body: str, streams: str = "main: {runs: [F, B, U]}", rules: str = FLUSH) -> str:
    return f"asyncpipe: 1\nstages: 2\nstreams:\n  {streams}\n{rules}{body}"


@pytest.mark.parametrize(
    "text",
    [
        schedule(""),
        schedule("update: {every: 4}\n"),
        schedule("update: {every: 4, reduce: sum}\n"),
        schedule("costs: {F: 2, B: 3, U: 1}\n"),
        greedy("U, B, F", "S - s"),
        greedy("F, B, U"),
        greedy("F, B, U").replace("rules:\n", "rules:\n  - B[last, m] after F[last, hi]\n"),
        greedy("U, B, F", "S - s").replace("rules:\n", "rules:\n  - F[s, m] after U[s, g-4]\n"),
    ],
)
def test_nothing_is_lost_of_what_a_table_says(text: str) -> None:
    """The order of its rows implies in_flight and the rules; the flush implies what reaches across updates."""
    assert lost(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            schedule("weights: {backward: same}\n"),
            ["6 weights {forward: latest, backward: same}: torch has one version"],
        ),
        (
            schedule("gradient: [{shrink: 0.5}, {clip_norm: 1}]\n"),
            ["6 the gradient transform {shrink: 1/2}", "6 the gradient transform {clip_norm: 1}"],
        ),
        (schedule("recompute: full\n"), ["6 recompute: full (R)"]),
        (
            schedule("replicas: {count: 4, sync: {allreduce: grad}}\n"),
            ["6 4 replicas, synchronised by allreduce (SYNC)"],
        ),
        (
            schedule("", "main: {runs: [F, B, U], priority: -1, sms: 8}"),
            ["4 group main: priority: -1", "4 group main: sms: 8"],
        ),
        (
            schedule("", "{forward: {runs: [F]}, backward: {runs: [B, U]}}"),
            ["3 device 0 has 2 streams: forward, backward"],
        ),
    ],
)
def test_what_is_lost_is_told_with_its_line(text: str, expected: list[str]) -> None:
    assert lost(text) == expected


def test_updates_without_a_flush_are_lost() -> None:
    """Layer-wise readiness: stage 1 may still be updated when stage 0 begins the next forward."""
    text = greedy("U, B, F", devices=2, every=2).replace("F[0, m] after U[*, g-1]", "F[s, m] after U[s, g-1]")
    assert lost(text) == ["6 updates that are not at a flush: 0F2 does not wait for 1U0"]


def test_staleness_is_lost() -> None:
    text = schedule("in_flight: 3\n", "{forward: {runs: [F]}, backward: {runs: [B, U]}}", "")
    first, second, third = lost(text)
    assert first.startswith("3 staleness ")
    assert first.endswith(": of a table it is 0 everywhere")
    assert second.startswith("3 updates that are not at a flush: 0F1 does not wait for ")
    assert third == "3 device 0 has 2 streams: forward, backward"


def test_a_rule_that_rows_do_not_imply_is_lost() -> None:
    """Device 0 holds its second forward back until device 1 has run its first backward."""
    text = greedy("F, B, U", devices=2, every=2).replace("rules:\n", "rules:\n  - F[0, m] after B[1, m-1]\n")
    assert lost(text) == ["7 F[0, m] after B[1, m - 1]: 0F1 would not wait for 1B0"]


def test_several_updates_in_a_table_are_lost() -> None:
    (first, *rest) = lost(schedule("update: {every: 2}\n"), 6)
    assert first == "6 an update after every 2 of the 6 microbatches: torch steps once, after all"
    assert rest == []


def test_everything_is_told_at_once() -> None:
    text = schedule(
        "update: {every: 2, owner: stream}\nweights: {backward: same}\ngradient: [{spike: true}]\nin_flight: 2\n",
        "{forward: {runs: [F]}, backward: {runs: [B, U], count: 2, priority: 1}}",
        "",
    )
    found = lost(text)
    for part in ("staleness", "not at a flush", "weights", "spike", "owner", "3 streams", "priority"):
        assert sum(part in line for line in found) == 1, part


def test_what_no_table_can_hold_is_refused_even_with_losses() -> None:
    """The forward of a stage on one device, its backward on another."""
    text = schedule("devices: 2\n", "{forward: {runs: [F], device: 0}, backward: {runs: [B, U], device: 1}}", FLUSH)
    compiled = compiled_text(text)
    with pytest.raises(ScheduleError) as caught:
        exportable(compiled, window(compiled, 1))
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.message) == ("AP141", "schedule has no form as a table for torch")
    assert sorted(text for text, _ in diagnostic.notes) == [
        "stage 0 is on device 0 and on device 1",
        "stage 1 is on device 0 and on device 1",
    ]
