"""Corners of ordering and lowering, each in the smallest schedule that shows it."""

from __future__ import annotations

import pytest

from asyncpipe.compiler import Compiled
from asyncpipe.ir import Action, Kind, Op
from tests.compiler import properties
from tests.compiler.agreement import assert_agrees_with_oracle
from tests.compiler.instances import compiled

POOLS = "streams:\n  f: {runs: [F]}\n  b: {runs: [B]}\n  u: {runs: [U], per: stage}\n"


def assert_sound(found: Compiled, n: int) -> None:
    properties.assert_every_action_once(found, n)
    properties.assert_edges_are_covered(found, n)
    properties.assert_edges_hold_in_time(found, n)
    properties.assert_waits_follow_their_records(found.program(n))


@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("back", [1, 2, 10, 20])
def test_rule_that_reaches_far_back_is_enforced(back: int, every: int) -> None:
    """Its edges vanish for the first microbatches, so these do not show what the steady body must wait for."""
    rule = f"rules:\n  - F[0, m] after U[1, g-{back}]\nupdate: {{every: {every}}}\n"
    found = compiled(f"{POOLS}in_flight: 3\n{rule}", 2)
    assert_sound(found, every * back + 30)
    waits = {i.action[:2] for i in found.program(None).body if i.kind is Kind.WAIT and i.stream == 0}
    assert (1, Op.U) in waits


def test_body_starts_where_all_its_sources_exist() -> None:
    found = compiled(f"{POOLS}in_flight: 3\nrules:\n  - F[0, m] after U[1, g-20]\n", 2)
    program = found.program(None)
    waits = [i.action.index for i in program.body if i.kind is Kind.WAIT and i.action.op is Op.U]
    assert min(waits) + program.start >= 0


def test_source_may_lie_ahead_of_its_target() -> None:
    text = (
        "streams:\n  f: {runs: [F], count: 2}\n  b: {runs: [B, U]}\nin_flight: 60\n"
        "rules:\n  - F[0, m] after F[0, m+31] when m % 2 == 0\n"
    )
    found = compiled(text, 1)
    assert_sound(found, 150)
    assert assert_agrees_with_oracle(found, text, 150) > 100


def test_one_stream_may_run_far_ahead_of_another() -> None:
    """Odd microbatches run up to 40 ahead of even ones: as many as their own rule allows, and no fewer."""
    text = (
        "streams:\n  f: {runs: [F], count: 2}\n  b: {runs: [B, U], count: 2}\n"
        "rules:\n  - F[0, m] after B[0, m-2] when m % 2 == 0\n  - F[0, m] after B[0, m-41] when m % 2 == 1\n"
    )
    found = compiled(text, 1)
    assert [found.plan.time(Action(0, Op.F, m), 1)[0] for m in range(1, 42, 2)] == list(range(21))
    assert_sound(found, 120)
    assert assert_agrees_with_oracle(found, text, 120) > 100


def test_what_changes_late_may_be_overtaken() -> None:
    """Before microbatch 16 forwards wait one by one; the later ones need not wait for these."""
    text = (
        "streams:\n  f: {runs: [F], count: 2}\n  i: {runs: [I], count: 2}\n  w: {runs: [W, U], count: 2}\n"
        "in_flight: 2*(S - s) - 1\nrules:\n  - F[s, m] after I[0, m-1] when m < 16\n"
    )
    found = compiled(text, 5)
    assert_sound(found, 50)
    assert assert_agrees_with_oracle(found, text, 40) > 100


@pytest.mark.parametrize("count", [2, 3])
def test_body_iterations_go_round_over_the_streams(count: int) -> None:
    """An iteration runs on one stream, whatever microbatches its lines name."""
    text = f'streams:\n  w: {{runs: [F, B, U], count: {count}, body: ["B[*, m-1]", "U[*, m-1]", "F[*, m]"]}}\n'
    found = compiled(text, 2)
    table = found.table(None)
    for stream, row in enumerate(table.streams):
        offsets = {(a.index + (a.op is not Op.F)) % count for a in (cell.action for cell in row.warmup)}
        assert offsets == {stream}
    assert_sound(found, 30)
    assert assert_agrees_with_oracle(found, text, 30) > 50


@pytest.mark.parametrize("limit", [1500, 4096])
def test_many_microbatches_may_be_in_flight(limit: int) -> None:
    found = compiled(f"streams:\n  f: {{runs: [F]}}\n  b: {{runs: [B, U]}}\nin_flight: {limit}\n", 1)
    assert found.slots == (limit,)


@pytest.mark.parametrize("n", range(57, 65))
def test_short_last_update_keeps_its_rules(n: int) -> None:
    """`hi` as a source is the last microbatch that there is: updates wait for it in runs of any length."""
    text = (
        "streams:\n  worker: {runs: [F, B, U], count: 3}\nin_flight: S\n"
        "rules:\n  - U[s, g] after B[0, hi]\nupdate: {every: 4}\ncosts: {F: 2, B: 1/2, U: 1}\n"
    )
    found = compiled(text, 5)
    assert_sound(found, n)
    before = {source for source, _ in found.diagram.predecessors(Action(4, Op.U, (n - 1) // 4), n)}
    assert Action(0, Op.B, n - 1) in before


@pytest.mark.parametrize("n", range(57, 65))
def test_condition_on_the_window_is_that_of_a_whole_update(n: int) -> None:
    """So a short last update has no edge that the endless order does not know."""
    rule = "rules:\n  - F[s, m] after U[s, g-1] when m == hi\n  - F[s, m] after F[s, m-hi+lo+2]\n"
    found = compiled(f"{POOLS}in_flight: 3\n{rule}update: {{every: 4}}\n", 2)
    assert_sound(found, n)


def test_short_update_waits_for_what_the_plan_runs_later() -> None:
    """The plan runs B[0] of worker 2 after the update that worker 1 does; a run that ends there must not."""
    text = (
        "streams:\n  worker: {runs: [F, B, U], count: 3}\nin_flight: S\n"
        "rules:\n  - U[s, g] after B[0, hi]\n  - F[s, m] after U[last, g-5] when m % 4 < 2\n"
        "  - B[last, m] after B[last, lo-4]\nupdate: {every: 2}\ncosts: {F: 2, B: 0.5, U: 1}\n"
    )
    found = compiled(text, 5)
    for n in range(30, 60):
        assert_sound(found, n)


def test_update_that_takes_no_time_comes_after_the_backward_that_takes_none() -> None:
    """The backward of a microbatch reads before its own update, although both happen at one instant."""
    found = compiled("streams:\n  f: {runs: [F]}\n  b: {runs: [B, U]}\nin_flight: 1\ncosts: {B: 0}\n", 1)
    assert tuple(map(int, found.staleness.forward_backward)) == (0,)
    assert tuple(map(int, found.staleness.apply)) == (0,)
    assert "0B[m-1]@[g-1] 0U[g-1]" in str(found.table())


def test_split_backward_reads_weights_in_its_input_gradient() -> None:
    text = "streams:\n  f: {runs: [F]}\n  i: {runs: [I]}\n  w: {runs: [W]}\n  u: {runs: [U]}\nin_flight: 4\n"
    found = compiled(f"{text}costs: {{U: 1}}\n", 2)
    properties.assert_staleness_is_as_measured(found)
    assert tuple(map(int, found.staleness.forward_backward)) == (1, 0)


@pytest.mark.parametrize("backward", [0, 2])
def test_slot_may_be_reused_at_the_instant_when_it_is_freed(backward: int) -> None:
    """One slot is enough where each forward starts as soon as the backward before it is through."""
    text = "streams:\n  f: {runs: [F]}\n  b: {runs: [B, U]}\nrules:\n  - F[0, m] after B[0, m-1]\n"
    found = compiled(f"{text}costs: {{B: {backward}}}\n", 1)
    assert found.slots == (1,)
    properties.assert_slots_have_one_owner(found, 10)


def test_events_are_recorded_for_waits_of_every_length() -> None:
    """Updates count more slowly than microbatches: with every 4, ten updates back are ten iterations back."""
    rule = "rules:\n  - F[0, m] after U[1, g-10]\nupdate: {every: 4}\n"
    found = compiled(f"{POOLS}in_flight: 3\n{rule}", 2)
    for iterations in (1, 2, 5, 20):
        n = properties.long_enough(found, iterations)
        assert_sound(found, n)
