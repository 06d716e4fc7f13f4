"""Simulation with random times: where nothing varies it is exact, and it repeats with its seed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpipe.analysis.asap import earliest_times
from asyncpipe.analysis.distribution import Distribution, parse_value
from asyncpipe.analysis.launch_graph import finite_graph
from asyncpipe.analysis.sampling import sampled_times
from asyncpipe.analysis.simulate import simulate
from asyncpipe.analysis.simulate_sampled import sampled_throughputs
from asyncpipe.analysis.timing import Delay, Timing, replica_classes, ticks
from asyncpipe.errors import UsageError
from asyncpipe.ir import Op, Program
from tests.analysis.test_delays import ONE, WORKERS, local, lockstep
from tests.analysis.test_random_simulations import small
from tests.analysis.timings import disturbances, late
from tests.compiler.instances import compiled
from tests.compiler.random_schedules import Case, cases


def noise(program: Program, **texts: str) -> Timing:
    """The distributions of ops, the same for all stages."""
    values = {Op(op): parse_value(text) for op, text in texts.items()}
    found = {op: (value,) * program.stages for op, value in values.items() if isinstance(value, Distribution)}
    return Timing(found)


def certain(program: Program, timing: Timing) -> Timing:
    """The same timing as distributions that have one value only."""

    def always(value: Fraction) -> Distribution:
        return Distribution("uniform", (value, value))

    found: dict[Op, tuple[Distribution | None, ...]] = {
        op: tuple(always(program.unit * time) for time in times)
        for op, times in program.costs.items()
        if op in (Op.F, Op.U)
    }
    delays = tuple(
        Delay(delay.selector, always(delay.value) if isinstance(delay.value, Fraction) else delay.value)
        for delay in timing.delays
    )
    return Timing(found, delays, timing.stragglers)


@settings(max_examples=25)
@given(cases(), st.integers(1, 30), st.data())
def test_times_that_do_not_vary_are_the_exact_ones(case: Case, n: int, data: st.DataObject) -> None:
    program = small(case).program(n)
    timing = data.draw(disturbances(program))
    graph, classes = finite_graph(program), replica_classes(program, timing)
    exact = ticks(graph, timing, classes)
    (found,) = sampled_times(graph, certain(program, timing), 2, 0)
    for members, times in zip(classes, earliest_times(graph, exact), strict=True):
        for replica in members:
            for sample in range(2):
                starts = np.array(times.starts, dtype=float) * float(exact.unit)
                np.testing.assert_allclose(found.starts[:, sample, replica], starts, rtol=1e-12, atol=1e-9)


@settings(max_examples=15)
@given(cases())
def test_statements_about_times_that_do_not_vary_are_the_exact_ones(case: Case) -> None:
    compiled = small(case)
    program, finite = compiled.program(None), compiled.program(17)
    if any(not program.costs[op][s] for op, s in compiled.diagram.ops if not op.by_update):
        return  # the order of what costs nothing is that of the replay only in exact runs
    exact = simulate(program, finite=finite)
    found = simulate(program, certain(program, Timing()), 3, 0, finite)
    assert found.samples == 3
    assert found.period == pytest.approx(float(exact.period))
    assert found.makespan == pytest.approx(float(exact.makespan or 0))
    assert found.spreads["period"].low == pytest.approx(found.spreads["period"].high)


def test_staleness_of_times_that_do_not_vary_is_the_exact_one() -> None:
    for text in (ONE, WORKERS.format(d=3), "streams: {f: {runs: [F]}, b: {runs: [B, U], count: 2}}\nin_flight: 3\n"):
        program = compiled(text, 6).program(None)
        found = simulate(program, certain(program, Timing()), 1, 0)
        assert found.staleness == simulate(program).staleness


def test_seed_repeats_and_changes_what_is_drawn() -> None:
    program = compiled(ONE, 3).program(None)
    timing = noise(program, B="exponential(2)")
    first, again, other = (sampled_throughputs(program, timing, 4, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(set(first)) == 4


def test_one_stream_takes_the_sum_of_its_times() -> None:
    program = compiled(ONE, 3).program(None)
    found = simulate(program, noise(program, B="exponential(2)"), samples=40, seed=3)
    assert found.period == pytest.approx(9, rel=0.02)
    spread = found.spreads["period"]
    assert spread.low < spread.median < spread.high
    assert spread.high - spread.low == pytest.approx(2 * 1.28 * np.sqrt(3 * 4 / 128), rel=0.5)
    assert set(found.staleness.apply) == {0}
    assert found.streams[0].utilisation == pytest.approx(1)


def test_replicas_in_lockstep_wait_for_the_slowest_of_all() -> None:
    """The mean of the largest of D exponential times is their mean times 1 + 1/2 + ... + 1/D."""
    program = lockstep(8, 1).program(None)
    timing = noise(program, B="exponential(2)")
    found = simulate(program, timing, samples=20, seed=0)
    harmonic = sum(1 / d for d in range(1, 9))
    assert found.period == pytest.approx(1 + 2 * harmonic, rel=0.03)
    alone = local(8, 1).program(None)
    assert simulate(alone, noise(alone, B="exponential(2)"), samples=20, seed=0).period == pytest.approx(3, rel=0.03)


def test_random_delay_of_one_replica_strikes_only_that_one() -> None:
    program = local(4, 1).program(None)
    found = simulate(program, late(replica__2="exponential(6)"), samples=20, seed=0)
    assert found.throughput == pytest.approx(3 / 3 + 1 / 9, rel=0.03)


def test_thousand_replicas_are_one_pass() -> None:
    program = lockstep(1024, 2).program(None)
    found = simulate(program, noise(program, F="uniform(1/2, 3/2)"), samples=1, seed=0)
    assert found.period == pytest.approx(4 + 3, rel=0.02)


def test_distribution_moves_to_where_the_program_has_its_center() -> None:
    """As where a recompute is part of the backward: its cost is added to what is drawn."""
    program = compiled(f"{ONE}recompute: full\n", 2).program(None)
    found = simulate(program, noise(program, B="uniform(2, 2)"), samples=1)
    assert found.period == simulate(program).period == 8


def test_runs_that_do_not_fit_into_memory_are_refused() -> None:
    instance = compiled(ONE, 4)
    program = instance.program(None)
    with pytest.raises(UsageError, match="are too many for random times\n  help: ask for fewer --microbatches"):
        simulate(program, noise(program, B="exponential(2)"), 1, 0, instance.program(10**8))
