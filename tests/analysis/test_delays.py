"""Delays and stragglers: where they strike, and the curve that they give."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from asyncpipe.analysis.asap import earliest_times
from asyncpipe.analysis.distribution import parse_value
from asyncpipe.analysis.launch_graph import finite_graph
from asyncpipe.analysis.selector import parse_selector
from asyncpipe.analysis.simulate import simulate
from asyncpipe.analysis.sweep import Contender, sweep
from asyncpipe.analysis.timing import Delay, Timing, holds, replica_classes, ticks
from asyncpipe.compiler import Compiled
from asyncpipe.errors import UsageError
from asyncpipe.ir import Program
from tests.analysis.timings import late, slow
from tests.compiler.instances import compiled

WORKERS = (
    "streams:\n  worker: {{runs: [F, B, U], count: {d}}}\nrules: ['U[s, g] after B[0, hi]']\nupdate: {{write: racy}}\n"
)
ONE = "streams:\n  main: {runs: [F, B, U]}\n"
DELAYS = [Fraction(0), Fraction(1), Fraction(12), Fraction(37, 5) * 12, Fraction(500)]


def starts(program: Program, timing: Timing, replica: int = 0) -> dict[str, float]:
    graph, classes = finite_graph(program), replica_classes(program, timing)
    exact = ticks(graph, timing, classes)
    number = next(i for i, members in enumerate(classes) if replica in members)
    times = earliest_times(graph, exact)[number]
    return {str(graph.action(i)): float(times.starts[i] * exact.unit) for i in range(len(graph))}


def held(program: Program, timing: Timing) -> list[str]:
    graph = finite_graph(program)
    return [str(graph.action(hold.launch)) for hold in holds(graph, timing)]


def lockstep(workers: int, stages: int = 4) -> Compiled:
    """Synchronous data parallelism: gradients are reduced before any replica goes on."""
    sync = f"replicas: {{count: {workers}, sync: {{allreduce: grad}}}}\n"
    return compiled(f"{ONE}rules: ['F[0, m] after U[*, g-1]']\n{sync}", stages)


def local(workers: int, stages: int = 4) -> Compiled:
    """Replicas that wait for nobody."""
    return compiled(f"{ONE}replicas: {{count: {workers}, sync: {{push: random}}}}\n", stages)


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("delay", DELAYS, ids=str)
def test_one_late_worker_costs_the_others_only_if_they_wait(workers: int, delay: Fraction) -> None:
    """((D-1)(1 + delay/T) + 1)/D: asynchronous over synchronous throughput, with one of D workers late."""
    hogwild = compiled(WORKERS.format(d=workers), 4)
    curve = ((workers - 1) * (1 + delay / 12) + 1) / workers
    sync = simulate(lockstep(workers).program(None), late(replica__1=str(delay))).throughput
    assert sync == Fraction(workers) / (12 + delay)
    for rival, stream in ((hogwild, "worker__0"), (local(workers), "replica__0")):
        found = simulate(rival.program(None), late(**{stream: str(delay)}))
        assert found.throughput / sync == curve


def test_sweep_gives_the_curve_and_always_includes_no_delay() -> None:
    own, other = compiled(WORKERS.format(d=3), 4), lockstep(3)
    points = sweep(
        Contender(own.program(None), Timing()),
        Contender(other.program(None), Timing()),
        parse_selector("worker[0]|replica[0]"),
        [Fraction(12), Fraction(444, 5)],
    )
    assert [p.delay for p in points] == [0, 12, Fraction(444, 5)]
    assert [p.ratio for p in points] == [1, Fraction(5, 3), Fraction(89, 15)]
    assert [p.spread for p in points] == [None] * 3
    assert [p.throughput for p in points] == [Fraction(1, 4), Fraction(5, 24), Fraction(2, 12) + Fraction(5, 504)]


def test_sweep_alone_is_relative_to_no_delay_and_adds_to_other_delays() -> None:
    program = compiled(ONE, 2).program(None)
    points = sweep(Contender(program, late(main="3")), None, parse_selector("main"), [Fraction(3), parse_value("0")])
    assert [p.delay for p in points] == [0, 3]
    assert [p.throughput for p in points] == [Fraction(1, 9), Fraction(1, 12)]
    assert [p.ratio for p in points] == [1, Fraction(3, 4)]


def test_stream_stands_still_before_the_first_action_of_each_microbatch() -> None:
    program = compiled("streams: {f: {runs: [F]}, b: {runs: [B, U]}}\nin_flight: 2\n", 2).program(3)
    found = starts(program, late(b="5"))
    assert held(program, late(b="5")) == ["1B0", "1B1", "1B2"]
    assert (found["0F0"], found["1F0"]) == (0, 1)
    assert (found["1B0"], found["0B0"], found["0U0"]) == (7, 9, 11)
    assert found["1B1"] == 11 + 5


def test_delays_of_one_stream_add_up() -> None:
    program = compiled(ONE, 1).program(2)
    both = Timing(delays=late(main="5").delays + late(main="2").delays)
    assert starts(program, both) == {"0F0": 7, "0B0": 8, "0U0": 10, "0F1": 17, "0B1": 18, "0U1": 20}


def test_group_delays_each_of_its_streams_but_a_device_only_once() -> None:
    text = "devices: 2\nplace: s // 2\nstreams: {stage: {runs: [F, B, U], per: stage}}\nin_flight: 1\n"
    program = compiled(text, 4).program(1)
    assert held(program, late(stage="1")) == ["0F0", "1F0", "2F0", "3F0"]
    assert held(program, late(stage__2="1")) == ["2F0"]
    assert held(program, late(device__1="1")) == ["2F0"]
    assert held(program, Timing(delays=(Delay(parse_selector("*"), Fraction(1)),))) == ["0F0"]


def test_update_belongs_to_its_last_microbatch_even_a_short_one() -> None:
    text = "streams: {f: {runs: [F, B]}, u: {runs: [U]}}\nin_flight: 1\nupdate: {every: 2}\n"
    assert held(compiled(text, 1).program(3), late(u="1")) == ["0U0", "0U1"]


def test_delay_of_one_replica_holds_up_the_others_at_their_next_synchronisation() -> None:
    program = lockstep(3, 1).program(2)
    timing = late(replica__2="4")
    assert starts(program, timing, 2) == {"0F0": 4, "0B0": 5, "0SYNC0": 7, "0U0": 7, "0F1": 11} | {
        name: time for name, time in starts(program, timing, 2).items() if name in ("0B1", "0SYNC1", "0U1")
    }
    other = starts(program, timing, 0)
    assert (other["0F0"], other["0B0"], other["0SYNC0"], other["0U0"], other["0F1"]) == (0, 1, 7, 7, 7)


def test_replicas_that_push_do_not_wait() -> None:
    program = local(3, 1).program(2)
    timing = late(replica__2="4")
    assert (starts(program, timing, 2)["0F1"], starts(program, timing, 0)["0F1"]) == (11, 3)


def test_an_average_for_which_nobody_waits_holds_up_no_microbatch() -> None:
    """Every fourth update ends with an average, which waits for the late replica and delays nothing."""
    sync = "replicas: {count: 2, sync: {average: {every: 4, blocking: %s}}}\n"
    text = "streams: {worker: {runs: [F, B, U]}}\nin_flight: 1\n" + sync
    timing = late(replica__0="9")
    for blocking, expected in (("false", Fraction(1, 3) + Fraction(1, 12)), ("true", Fraction(2, 12))):
        program = compiled(text % blocking, 1).program(None)
        assert simulate(program, timing).throughput == expected


def test_straggler_takes_longer_for_everything() -> None:
    program = compiled("streams: {f: {runs: [F]}, b: {runs: [B, U]}}\nin_flight: 2\n", 2).program(None)
    assert simulate(program, slow(b="3/2")).period == 6
    assert simulate(program, slow(f="3/2")).period == 4
    assert simulate(program, slow(b="1/2", f="1/2")).period == 2
    assert simulate(lockstep(8).program(None), slow(replica__3="3/2")).period == 18


def test_only_replicas_that_differ_are_told_apart() -> None:
    program = lockstep(1024).program(None)
    assert replica_classes(program, Timing()) == (tuple(range(1024)),)
    timing = Timing(delays=late(replica__7="1").delays, stragglers=slow(replica__9="2", main="2").stragglers)
    assert [len(members) for members in replica_classes(program, timing)] == [1022, 1, 1]
    assert simulate(program, timing).throughput == Fraction(1024, 48)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("workers", "did you mean 'worker'?"),
        ("worker[9]", "did you mean 'worker[1]'?"),
        ("device[1]", "expected one of: worker, worker[0], worker[1]"),
        ("replica[1]", "expected one of: worker, worker[0], worker[1]"),
        ("replica[0].nobody", "expected one of: worker, worker[0], worker[1]"),
        ("replica[3].worker", "did you mean 'worker'?"),
    ],
)
def test_unknown_streams_are_named(text: str, hint: str) -> None:
    program = replace(compiled(WORKERS.format(d=2), 2).program(None), schedule="hogwild")
    with pytest.raises(UsageError) as caught:
        parse_selector(text).choose(program)
    assert str(caught.value) == f"{text}: hogwild has no such stream\n  help: {hint}"


def test_first_alternative_that_exists_is_meant() -> None:
    program = compiled(WORKERS.format(d=2), 2).program(None)
    chosen = parse_selector("main | worker[1] | worker[0]").choose(program)
    assert (chosen.streams, chosen.replica, chosen.together) == (frozenset({1}), None, False)
    assert parse_selector("replica[0].device[0]").choose(program).replica == 0
    assert parse_selector("device[0]").choose(program).streams == {0, 1}


@pytest.mark.parametrize("text", ["", "a b", "worker[", "worker[x]", "a||b", "[0]", "replica[0]."])
def test_what_is_no_stream_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a stream such as"):
        parse_selector(text)


def test_group_of_the_schedule_wins_over_the_word_device() -> None:
    program = compiled("streams: {device: {runs: [F, B, U], count: 2}}\n", 1).program(None)
    assert parse_selector("device[1]").choose(program).streams == {1}


def test_program_without_a_body_has_no_steady_state() -> None:
    program = replace(compiled(ONE, 1).program(None), body=())
    with pytest.raises(UsageError, match="too short for a steady state"):
        simulate(program)
