"""The simulator on random schedules: what nothing disturbs is as planned and as the replay has it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asyncpipe.analysis.asap import earliest_times, meets
from asyncpipe.analysis.body_graph import body_graph
from asyncpipe.analysis.bounds import bounds
from asyncpipe.analysis.bubbles import stream_times
from asyncpipe.analysis.critical_path import critical_path
from asyncpipe.analysis.cycles import cycle_times
from asyncpipe.analysis.distribution import center
from asyncpipe.analysis.launch_graph import finite_graph, steady_graph
from asyncpipe.analysis.makespan import exact_makespan
from asyncpipe.analysis.measured_staleness import measured_staleness
from asyncpipe.analysis.memory import memory
from asyncpipe.analysis.rates import throughput
from asyncpipe.analysis.steady import run_steady
from asyncpipe.analysis.timing import Timing, holds, replica_classes, ticks
from asyncpipe.compiler import Compiled
from asyncpipe.ir import Op, Program
from tests.analysis.timings import disturbances
from tests.compiler import properties
from tests.compiler.random_schedules import Case, cases
from tests.compiler.test_random_programs import instance

LENGTHS = st.integers(1, 59)


def small(case: Case) -> Compiled:
    found = instance(case)
    assume(len(found.program(None).body) < 400)
    return found


@settings(max_examples=25)
@given(cases(), LENGTHS)
def test_times_are_those_of_the_replay(case: Case, n: int) -> None:
    program = small(case).program(n)
    graph = finite_graph(program)
    exact = ticks(graph, Timing(), replica_classes(program, Timing()))
    (times,) = earliest_times(graph, exact)
    found = {graph.action(i): (times.starts[i] * exact.unit, times.ends[i] * exact.unit) for i in range(len(graph))}
    spans = properties.spans(program).items()
    assert found == {action: (start * program.unit, end * program.unit) for action, (start, _, end, _) in spans}


@settings(max_examples=25)
@given(cases())
def test_steady_state_is_what_the_compiler_states(case: Case) -> None:
    found = small(case)
    (run,) = run_steady(found.program(None), Timing())
    assert run.recurrence is not None
    assert run.recurrence.first == 0
    assert throughput([run]) == run.graph.program.replicas / found.period
    assert measured_staleness([run]) == found.staleness


@settings(max_examples=25)
@given(cases())
def test_period_keeps_to_its_bounds_and_is_that_of_the_critical_path(case: Case) -> None:
    found = small(case)
    limits = bounds(found.diagram, found.plan, found.ticks.of)
    assert limits.best * found.ticks.unit <= found.period
    if limits.cycle is not None:
        costs = [found.ticks.of(step.action.op, step.action.stage) for step in limits.cycle.steps]
        assert sum(costs) == limits.cycle.time
        assert limits.cycle.period == limits.recurrence
    path = critical_path(run_steady(found.program(None), Timing()), found.diagram)
    assert path is not None
    assert path.period == found.period


@settings(max_examples=25)
@given(cases())
def test_no_stage_holds_more_than_its_slots(case: Case) -> None:
    found = small(case)
    held = memory(run_steady(found.program(None), Timing()))
    assert all(1 <= most <= slots for most, slots in zip(held.in_flight, found.slots, strict=True))
    assert all(versions >= 1 for versions in held.versions)


@settings(max_examples=25)
@given(cases(), st.data())
def test_disturbed_streams_go_the_pace_of_their_slowest_cycle(case: Case, data: st.DataObject) -> None:
    program = small(case).program(None)
    timing = data.draw(disturbances(program))
    runs = run_steady(program, timing)
    times = cycle_times(body_graph(runs[0].graph, runs[0].ticks))
    for number, run in enumerate(runs):
        if run.recurrence is not None:
            pace = Fraction(run.recurrence.ticks, run.recurrence.iterations)
            assert {*times[number * run.graph.width : (number + 1) * run.graph.width]} == {pace}
        for each in stream_times(run):
            assert each.busy + each.held + each.idle == each.length == run.window.length
            runs_nothing = all(launch.stream != each.stream for launch in run.graph.body)
            assert runs_nothing or sum(time for _, time in each.waits) == each.idle
            assert min(each.busy, each.held, each.idle) >= 0


@settings(max_examples=25)
@given(cases(), st.data())
def test_disturbed_runs_obey_streams_events_and_holds(case: Case, data: st.DataObject) -> None:
    program = small(case).program(data.draw(LENGTHS))
    timing = data.draw(disturbances(program))
    graph, classes = finite_graph(program), replica_classes(program, timing)
    exact = ticks(graph, timing, classes)
    late = list(holds(graph, timing))
    every = earliest_times(graph, exact)
    for members, times, costs in zip(classes, every, exact.costs, strict=True):
        for launch, (start, end) in enumerate(zip(*times, strict=True)):
            before = [times.ends[source] for source in graph.waits[launch]]
            before += [times.ends[graph.previous[launch]]] if graph.previous[launch] >= 0 else [0]
            if meets(program) and graph.keys[graph.key[launch]][0] is Op.SYNC:
                before += [other.starts[launch] for other in every if not any(h.launch == launch for h in late)]
            held = sum(center(h.value) for h in late if h.launch == launch and h.replica in (None, members[0]))
            assert start == max(before) + held / exact.unit
            assert end == start + costs[launch]


@settings(max_examples=25)
@given(cases(), st.data())
def test_makespan_of_many_microbatches_is_not_run_but_counted(case: Case, data: st.DataObject) -> None:
    found = small(case)
    step = found.unrolled.step
    least = properties.long_enough(found, 60)
    program = found.program(least + data.draw(st.integers(0, 3 * step)))
    timing = data.draw(disturbances(program))
    graph = finite_graph(program)
    exact = ticks(graph, timing, replica_classes(program, timing))
    whole = max(max(times.ends) for times in earliest_times(graph, exact)) * exact.unit
    assert counted(program, timing) == whole


def counted(program: Program, timing: Timing) -> Fraction:
    """The makespan with every recurring iteration left out, however short the run is."""
    import asyncpipe.analysis.makespan as module

    few, module._FEW = module._FEW, 0
    try:
        return exact_makespan(program, timing).time
    finally:
        module._FEW = few


@settings(max_examples=25)
@given(cases(), st.integers(1, 9))
def test_endless_and_finite_programs_begin_alike(case: Case, iterations: int) -> None:
    found = small(case)
    steady = steady_graph(found.program(None), iterations)
    finite = finite_graph(found.program(properties.long_enough(found, iterations + 1)))
    size = len(steady)
    assert [steady.action(i) for i in range(size)] == [finite.action(i) for i in range(size)]
    assert steady.waits == finite.waits[:size]
    assert steady.stream == finite.stream[:size]


@settings(max_examples=25)
@given(cases(), LENGTHS)
def test_graph_does_not_depend_on_how_the_program_is_written(case: Case, n: int) -> None:
    program = small(case).program(n)
    flat = replace(program, warmup=tuple(program.instructions()), body=(), cooldown=(), iterations=0)
    one, other = finite_graph(program), finite_graph(flat)
    assert [one.action(i) for i in range(len(one))] == [other.action(i) for i in range(len(other))]
    assert (one.waits, one.stream) == (other.waits, other.stream)
