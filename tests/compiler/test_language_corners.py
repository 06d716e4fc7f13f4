"""What each part of the language adds to the diagram and the order, in the smallest schedule that shows it."""

from __future__ import annotations

import pytest

from asyncpipe.compiler import Compiled
from asyncpipe.ir import Action, Op, parse_action
from tests.compiler import properties
from tests.compiler.agreement import assert_agrees_with_oracle, assert_same_edges
from tests.compiler.instances import compiled

POOLS = "streams:\n  forward: {runs: [F]}\n  backward: {runs: [B, U]}\nin_flight: 3\n"
TWO_DEVICES = "devices: 2\nplace: s\nstreams: {compute: {runs: [F, B, U], per: device}}\nin_flight: 2\n"


def before(found: Compiled, action: str) -> set[str]:
    """What an action waits for, but for the reuse of slots and versions."""
    edges = found.diagram.predecessors(parse_action(action))
    return {str(source) for source, origin in edges if not origin.text.startswith(("slot", "version g"))}


def assert_sound(found: Compiled, text: str, n: int = 40) -> None:
    assert_same_edges(found, text, n)
    assert assert_agrees_with_oracle(found, text, n) > 0
    for length in (1, 2, 3, n, n + 1):
        properties.assert_every_action_once(found, length)
        properties.assert_edges_are_covered(found, length)
        properties.assert_slots_have_one_owner(found, length)
        properties.assert_versions_are_kept(found, length)


def stream_names(found: Compiled) -> list[str]:
    return [stream.name for stream in found.diagram.streams]


# -- devices ------------------------------------------------------------------------------------------


def test_what_crosses_devices_is_copied_on_the_way() -> None:
    found = compiled(TWO_DEVICES, 2)
    assert stream_names(found) == ["compute[0]", "compute[1]", "copy[0->1]", "copy[1->0]"]
    assert before(found, "1F5") == {"0F5", "0SEND_F5", "1B3"}
    assert before(found, "0SEND_F5") == {"0F5"}
    assert before(found, "0B5") == {"0F5", "1B5", "1SEND_B5"}
    assert {op for op, _ in found.diagram.ops} == {Op.F, Op.B, Op.U, Op.SEND_F, Op.SEND_B}
    assert_sound(found, TWO_DEVICES)


def test_forward_and_backward_on_two_devices_share_activations_and_updates() -> None:
    text = "devices: 2\nplace: 0\nstreams:\n  f: {runs: [F]}\n  b: {runs: [B, U], device: 1}\nin_flight: 2\n"
    found = compiled(f"{text}rules: ['F[0, m] after U[*, g-3]']\n", 1)
    assert before(found, "0B5") == {"0F5", "0SEND_A5"}
    assert before(found, "0SEND_U5") == {"0U5"}
    assert before(found, "0F5") == {"0B3", "0U2", "0SEND_U2"}
    assert_sound(found, f"{text}rules: ['F[0, m] after U[*, g-3]']\n")


def test_update_shows_when_it_has_arrived() -> None:
    """The copy takes longer than a microbatch, so each forward reads what is older by that."""
    text = "devices: 2\nplace: 0\nstreams:\n  f: {runs: [F]}\n  b: {runs: [B, U], device: 1}\nin_flight: 2\n"
    at_once, later = (compiled(f"{text}costs: {{SEND: {cost}}}\n", 1) for cost in ("0", "3/2"))
    assert at_once.staleness.apply[0] < later.staleness.apply[0]
    properties.assert_staleness_is_as_measured(later)


def test_transfers_take_their_time() -> None:
    assert compiled(f"{TWO_DEVICES}costs: {{SEND: 5}}\n", 2).period > compiled(TWO_DEVICES, 2).period


# -- recomputes, local gradients ------------------------------------------------------------------------


def test_recompute_comes_between_forward_and_backward() -> None:
    text = "streams:\n  f: {runs: [F]}\n  b: {runs: [R, B, U]}\nin_flight: 2\nrecompute: {mode: full, stages: 0}\n"
    found = compiled(text, 2)
    assert (before(found, "0R4"), before(found, "0B4")) == ({"0F4"}, {"0F4", "0R4", "1B4"})
    assert (Op.R, 1) not in found.diagram.ops
    assert_sound(found, text)


def test_recompute_that_no_stream_runs_is_part_of_the_backward() -> None:
    text = f"{POOLS}recompute: {{mode: full, stages: 0}}\ncosts: {{F: 3, B: 2}}\n"
    found = compiled(text, 2)
    assert [found.ticks.of(Op.B, s) for s in range(2)] == [5, 2]
    assert_sound(found, text)


BODY = '"F[{0}, m]", "R[{0}, m-1]", "B[{0}, m-1]", "U[{0}, m-1]"'


@pytest.mark.parametrize(
    "streams",
    [
        f"streams: {{stage: {{runs: [F, R, B, U], per: stage, body: [{BODY.format('s')}]}}}}\nin_flight: 6\n",
        f"streams: {{wide: {{runs: [F, R, B, U], body: [{BODY.format('*')}]}}}}\n",
        'devices: 2\nplace: s\nstreams: {main: {runs: [F, R, B, U], per: device, table: ["0F0 0R0 0B0", "1F0 1B0"]}}\n',
    ],
    ids=["body of each stage", "body of all stages", "table"],
)
def test_body_recomputes_the_stages_that_it_should(streams: str) -> None:
    """One body is for all stages; its R vanishes where nothing is recomputed."""
    text = f"{streams}recompute: {{mode: full, stages: 0}}\n".replace("m-1]", "m-last+s]")
    found = compiled(text, 2)
    assert {s for op, s in found.diagram.ops if op is Op.R} == {0}
    assert_sound(found, text)


def test_streams_of_a_ratio_count_the_recompute() -> None:
    text = "streams: {ratio: auto, f: {runs: [F]}, b: {runs: [B, U]}}\nin_flight: 6\nrecompute: full\n"
    assert stream_names(compiled(text, 2)) == ["f", "b[0]", "b[1]", "b[2]"]


def test_streams_of_a_ratio_count_the_stages_that_they_serve() -> None:
    text = "streams: {ratio: auto, low: {runs: [F, B, U], stages: 0}, high: {runs: [F, B, U], stages: 1..last}}\n"
    assert stream_names(compiled(f"{text}in_flight: 4\n", 3)) == ["low", "high[0]", "high[1]"]


@pytest.mark.parametrize("kind", ["local", "synthetic"])
def test_local_gradient_needs_no_stage_above(kind: str) -> None:
    text = f"{POOLS}aux: {{gradient: {kind}, stages: 0}}\n"
    found = compiled(text, 3)
    assert (before(found, "0B4"), before(found, "1B4")) == ({"0F4"}, {"1F4", "2B4"})
    assert before(found, "0F4") == {"0B1", "1F1"}
    assert_sound(found, text)


def test_slot_is_free_when_the_stage_above_has_read_it() -> None:
    """With one microbatch in flight the backward of stage 0 ends long before stage 1 begins its forward."""
    text = (
        "streams: {g0: {runs: [F]}, g1: {runs: [B], count: 3}, g2: {runs: [U], count: 3}}\nin_flight: 1\n"
        "aux: {gradient: local, stages: 0..last-1}\n"
    )
    assert_sound(compiled(text, 4), text)


def test_no_gradient_is_sent_to_a_stage_that_has_its_own() -> None:
    """A rule makes the backward wait for the stage above; the data still does not come from there."""
    text = (
        "devices: 2\nplace: s\nstreams: {compute: {runs: [F, B, U], per: device}}\n"
        "aux: {gradient: local}\nrules: ['B[0, m] after U[last, g-4]', 'F[0, m] after U[1, g-2]']\n"
    )
    found = compiled(text, 2)
    assert Op.SEND_B not in {op for op, _ in found.diagram.ops}
    assert_sound(found, text)


# -- versions, blocks of stages, replicas ---------------------------------------------------------------


@pytest.mark.parametrize("backward", ["latest", "same"])
@pytest.mark.parametrize("every", [1, 3])
def test_lag_reads_a_certain_version(every: int, backward: str) -> None:
    text = f"{POOLS}update: {{every: {every}}}\nweights: {{forward: lag(2), backward: {backward}}}\n"
    found = compiled(text, 2)
    assert f"0U{(30 * every) // every - 3}" in before(found, f"0F{30 * every}")
    assert set(map(int, found.staleness.apply)) == {2}
    assert all(count >= 3 for count in found.versions)
    assert_sound(found, text)


def test_body_of_a_lagging_schedule_begins_with_a_version_that_exists() -> None:
    text = "streams: {main: {runs: [F, B, U]}}\nweights: {forward: lag(2)}\n"
    found = compiled(text, 1)
    table = found.table(None)
    assert "0F[m]@[g-2]" in str(table)
    assert table.start >= 2


def test_worker_reaches_down_to_its_own_block() -> None:
    text = (
        "streams: {worker: {runs: [F, B, U], count: 2}}\nin_flight: 3\nupdate: {write: atomic, scope: partition}\n"
        "rules: ['F[s, m] after U[s, g-6]']\n"
    )
    found = compiled(text, 4)
    kept = [str(Action(s, op, m)) for m in (6, 7) for op in (Op.B, Op.U) for s in range(4)]
    assert [a for a in kept if found.diagram.is_action(parse_action(a))] == (
        ["0B6", "1B6", "2B6", "3B6", "0U6", "1U6", "2B7", "3B7", "2U7", "3U7"]
    )
    assert before(found, "0F10") == {"2B7", "0U4"}  # where the backward of microbatch 7 ended
    assert before(found, "0F11") == {"0B8", "0U4"}  # the last update of stage 0 up to number 5
    assert_sound(found, text)


def test_every_other_microbatch_of_a_worker_may_be_whole() -> None:
    text = (
        "streams: {worker: {runs: [F, B, U], count: 2}}\nin_flight: 3\nupdate: {write: atomic, scope: alternate}\n"
        "rules: ['F[s, m] after U[s, g-6]']\n"
    )
    found = compiled(text, 2)
    updated = [[g for g in range(8) if found.diagram.is_action(Action(s, Op.U, g))] for s in range(2)]
    assert updated == [[0, 1, 2, 4, 5, 6], [0, 1, 3, 4, 5, 7]]
    assert_sound(found, text)


@pytest.mark.parametrize(
    ("sync", "waits"),
    [
        ("{allreduce: grad}", {"0SYNC5": {"0B5"}, "0U5": {"0B5", "0U4", "0SYNC5"}, "0F6": {"0B3"}}),
        ("{average: 3}", {"0SYNC5": {"0U5"}, "0U6": {"0B6", "0U5", "0SYNC5"}, "0F8": {"0B5", "0SYNC5"}}),
        ("{outer: {every: 3}}", {"0SYNC5": {"0U5"}, "0U7": {"0B7", "0U6", "0SYNC5"}, "0F6": {"0B3", "0SYNC5"}}),
        ("{average: {every: 3, blocking: false}}", {"0SYNC5": {"0U5"}, "0U6": {"0B6", "0U5"}, "0F6": {"0B3"}}),
        ("{push: random}", {"0SYNC5": {"0U5"}, "0U6": {"0B6", "0U5"}, "0F6": {"0B3"}}),
        ("{push: {granularity: model}}", {"0SYNC5": {"0U5", "1U5"}, "0U6": {"0B6", "0U5"}, "0F6": {"0B3"}}),
    ],
)
def test_replicas_are_kept_together(sync: str, waits: dict[str, set[str]]) -> None:
    text = f"{POOLS}replicas: {{count: 4, sync: {sync}}}\ncosts: {{SYNC: 1/2}}\n"
    found = compiled(text, 2)
    assert {action: before(found, action) - {"1B6", "1B7", "1B5"} for action in waits} == waits
    existing = [g for g in range(6) if found.diagram.is_action(Action(0, Op.SYNC, g))]
    assert existing == ([2, 5] if "3" in sync else [*range(6)])
    assert_sound(found, text)


def test_one_replica_needs_no_synchronisation() -> None:
    assert stream_names(compiled(f"{POOLS}replicas: {{count: 1, sync: {{average: 2}}}}\n", 2)) == [
        "forward",
        "backward",
    ]


# -- dynamic streams, tables ----------------------------------------------------------------------------


def test_microbatch_goes_to_the_first_idle_stream() -> None:
    """All actions of a microbatch are the stream's that took it."""
    text = "streams: {worker: {runs: [F, B, U], count: 2, assign: dynamic}}\ncosts: {F: 1, B: 2, U: 1}\n"
    found = compiled(text, 2)
    assert_sound(found, text)
    taken = [{found.diagram.stream_of(Action(s, op, m)) for s in (0, 1) for op in (Op.F, Op.B, Op.U)} for m in range(9)]
    assert all(len(streams) == 1 for streams in taken)
    assert set().union(*taken) == {0, 1}


def test_dynamic_streams_may_overtake_each_other_far() -> None:
    """One stream collects microbatches while the others pass it, up to the fourteenth after its own."""
    text = (
        "streams: {g0: {runs: [F, B], count: 3, order: [F, B], assign: dynamic}, g1: {runs: [U], per: device}}\n"
        "in_flight: 2*S\nupdate: {write: racy}\nrules: ['F[0, m] after B[0, m-13]']\n"
    )
    found = compiled(text, 4)
    backwards = [action for action in found.plan.sequence if (action.op, action.stage) == (Op.B, 3)]
    assert max(earlier.index - b.index for i, b in enumerate(backwards) for earlier in backwards[:i]) == 14
    assert all(found.diagram.stream_of(action) < 3 for action in found.plan.times if action.op is not Op.U)
    assert_sound(found, text, 60)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 23])
def test_table_runs_any_number_of_microbatches(n: int) -> None:
    """Fewer than one window, or a last window that is short: the row's other actions keep their order."""
    rows = ["0F0 0F1 0F2 0F3 0B3 0B2 0B1 0B0", "1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3"]
    text = (
        "devices: 2\nplace: s\nstreams: {compute: {runs: [F, B, U], per: device, table: ["
        + ", ".join(f'"{row}"' for row in rows)
        + "]}}\nupdate: {every: 4}\nrules: ['F[0, m] after U[*, g-1]']\n"
    )
    found = compiled(text, 2)
    properties.assert_every_action_once(found, n)
    properties.assert_edges_are_covered(found, n)
    launched = [launch.action for launch in found.program(n).launches(0)]
    window = [parse_action(cell) for cell in f"{rows[0]} 0U0".split()]
    expected = [
        action.shifted(g if action.op is Op.U else 4 * g)
        for g in range(-(-n // 4))
        for action in window
        if action.op is Op.U or 4 * g + action.index < n
    ]
    assert launched == expected
