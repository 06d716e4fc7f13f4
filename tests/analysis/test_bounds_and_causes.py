"""What holds a schedule back: bounds, the critical path, and for what the streams wait."""

from __future__ import annotations

from fractions import Fraction

import pytest

from asyncpipe.analysis.bounds import Bounds, bounds
from asyncpipe.analysis.bubbles import stream_times
from asyncpipe.analysis.critical_path import critical_path
from asyncpipe.analysis.loops import Loop
from asyncpipe.analysis.steady import run_steady
from asyncpipe.analysis.timing import Timing
from asyncpipe.cli.simulate_text import cause_text
from asyncpipe.compiler import Compiled
from tests.analysis.timings import late
from tests.compiler.instances import compiled

READY = "streams: {f: {runs: [F]}, b: {runs: [B]}, u: {runs: [U]}}\nrules: ['F[s, m] after U[s, g-1]']\ncosts: {U: 1}\n"
LU = "streams: {forward: {runs: [F]}, backward: {runs: [B, U], count: 2}}\nin_flight: 3\n"


def limits(found: Compiled) -> Bounds:
    return bounds(found.diagram, found.plan, found.ticks.of)


def summary(found: Compiled) -> tuple[float, float, str]:
    """(resource bound, recurrence bound, which one binds)."""
    limit = limits(found)
    return float(limit.resource), float(limit.recurrence or 0), limit.binding(found.period)


def lines(loop: Loop | None) -> list[str]:
    assert loop is not None
    return list(loop.lines())


def path(found: Compiled, timing: Timing | None = None) -> Loop | None:
    return critical_path(run_steady(found.program(None), timing or Timing()), found.diagram)


def test_rule_that_closes_a_cycle_bounds_the_period() -> None:
    found = compiled(READY, 4)
    limit = limits(found)
    assert summary(found) == (8, 13, "recurrence")
    assert limit.streams == ("b",)
    assert lines(limit.cycle) == [
        "0F[m]",
        "1F[m] .. 3F[m] after it: data flow",
        "3B[m] .. 0B[m] after it: data flow",
        "0U[g] after it: an update needs its gradients",
        "0F[m+1] after it: F[s, m] after U[s, g - 1]",
    ]
    assert limit.cycle is not None
    rule = next(step for step in limit.cycle.steps if step.action.op.value == "F" and step.action.stage == 0)
    assert rule.where is not None
    assert rule.where.line == 3
    assert lines(path(found)) == lines(limit.cycle)


def test_lock_free_updates_are_bound_by_the_streams_and_in_flight() -> None:
    found = compiled(LU, 8)
    limit = limits(found)
    assert summary(found) == (8, 8, "both")
    assert limit.streams == ("forward", "backward[0]", "backward[1]")
    assert lines(limit.cycle)[-1] == "0F[m+3] after it: in_flight: 3"
    assert limit.cycle is not None
    assert limit.cycle.microbatches == 3


def test_nothing_that_waits_in_a_cycle_bounds_nothing() -> None:
    """Slots are the compiler's choice, and bound nothing either."""
    found = compiled("streams: {worker: {runs: [F, B, U], count: 2}}\nupdate: {write: racy}\n", 2)
    assert summary(found) == (3, 0, "resource")
    assert limits(found).cycle is None


def test_order_of_the_streams_may_reach_neither_bound() -> None:
    """GPipe: its flush is no cycle of the diagram that is as long as the turns of its streams."""
    streams = "streams: {compute: {runs: [F, B, U], per: device, order: [F, B, U]}}\n"
    text = f"devices: S\nplace: s\n{streams}update: {{every: 8}}\nrules: ['F[0, m] after U[*, g-1]']\n"
    found = compiled(text, 4)
    assert summary(found) == (3, 1.5, "order")
    loop = path(found)
    assert loop is not None
    assert loop.period == Fraction(33, 8)
    assert "3F[m+1] .. 3F[m+7] after it: stream order of compute[3]" in lines(loop)


def test_streams_that_take_what_comes_next_share_their_work() -> None:
    text = "streams: {worker: {runs: [F, B, U], count: 3, assign: dynamic}}\nupdate: {write: racy}\n"
    assert summary(compiled(text, 4)) == (4, 0, "resource")
    assert limits(compiled(text, 4)).streams == ("worker[0]", "worker[1]", "worker[2]")


def test_uneven_stages_are_bound_by_the_slowest_stream() -> None:
    text = "devices: S\nplace: s\nstreams: {compute: {runs: [F, B, U], per: device}}\nin_flight: S - s\n"
    found = compiled(f"{text}costs: {{F: [1, 2, 1], B: [2, 4, 2]}}\n", 3)
    assert summary(found) == (6, 4.5, "order")
    assert limits(found).streams == ("compute[1]",)


def causes(found: Compiled, timing: Timing | None = None) -> dict[str, list[tuple[str, Fraction]]]:
    """Per stream what it waits for, with the share of its time."""
    run = run_steady(found.program(None), timing or Timing())[0]
    names = [stream.name for stream in run.graph.program.streams]
    return {
        names[time.stream]: [(cause_text(c, run, found.diagram), Fraction(t, time.length)) for c, t in time.waits]
        for time in stream_times(run)
    }


def test_idle_time_goes_to_what_it_waits_for() -> None:
    assert causes(compiled(READY, 4)) == {
        "f": [("F of stage 0 waits for U of stage 0 (F[s, m] after U[s, g - 1])", Fraction(9, 13))],
        "b": [("B of stage 3 waits for F of stage 3 (data flow)", Fraction(5, 13))],
        "u": [
            ("U of stage 3 waits for B of stage 3 (an update needs its gradients)", Fraction(6, 13)),
            *((f"U of stage {s} waits for B of stage {s} (an update needs its gradients)", Fraction(1, 13))
              for s in (2, 1, 0)),
        ],
    }  # fmt: skip


def test_delay_is_no_idle_time_of_its_own_stream_but_of_the_others() -> None:
    found = compiled(LU, 8)
    run = run_steady(found.program(None), late(backward__0="4"))[0]
    forward, first, second = stream_times(run)
    assert (first.busy, first.held, first.idle) == (16, 4, 0)
    assert (second.busy, second.held, second.idle) == (16, 0, 4)
    assert (forward.busy, forward.held, forward.idle) == (16, 0, 4)
    assert causes(found, late(backward__0="4"))["forward"] == [
        ("F of stage 0 waits for B of stage 0 (in_flight: 3)", Fraction(1, 5))
    ]
    loop = path(found, late(backward__0="4"))
    assert any(line.endswith("stream order of backward[0], held up for 4") for line in lines(loop))


def test_replicas_wait_for_the_late_one() -> None:
    text = "streams: {main: {runs: [F, B, U]}}\nrules: ['F[0, m] after U[*, g-1]']\n"
    found = compiled(f"{text}replicas: {{count: 3, sync: {{allreduce: grad}}}}\n", 1)
    timing = late(replica__1="3")
    assert causes(found, timing)["main"] == [
        ("U of stage 0 waits for SYNC of stage 0 (replicas.sync: allreduce), which waits for another replica",
         Fraction(1, 2))
    ]  # fmt: skip
    loop = path(found, timing)
    assert loop is not None
    assert loop.period == 6
    assert loop.replicas == (1,)
    calm = path(found)
    assert calm is not None
    assert calm.replicas == ()


@pytest.mark.parametrize("stages", [2, 5])
def test_free_updates_do_not_clutter_the_critical_path(stages: int) -> None:
    found = compiled("streams: {main: {runs: [F, B, U]}}\nrules: ['F[0, m] after U[*, g-1]']\n", stages)
    assert lines(path(found))[1:] == [
        f"1F[m]{f' .. {stages - 1}F[m]' if stages > 2 else ''} after it: data flow",
        f"{stages - 1}B[m] .. 0B[m] after it: data flow",
        "0U[g] after it: an update needs its gradients",
        "0F[m+1] after it: F[0, m] after U[*, g - 1]",
    ]
