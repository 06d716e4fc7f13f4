"""The paper's closed forms (arXiv 2410.05985), counted in simulated runs over a grid of beta and stages."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest

from asyncpipe.analysis.decoupled import decoupled_speedup
from asyncpipe.analysis.simulate import simulate
from asyncpipe.analysis.steady import SteadyRun, run_steady
from asyncpipe.analysis.timing import Timing
from asyncpipe.ir import Op
from tests.compiler.test_known_values import BLOCK_RULE, asynchronous

BETAS = [Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3)]
STAGES = [1, 2, 3, 4, 8]


@pytest.mark.parametrize("beta", BETAS, ids=str)
@pytest.mark.parametrize("stages", STAGES)
def test_layer_wise_updates_have_the_closed_form(stages: int, beta: Fraction) -> None:
    found = simulate(asynchronous(stages, beta).program(None))
    lags = [ceil((1 + beta) * (stages - s) / stages) - 1 for s in range(stages)]
    assert found.staleness.apply == found.staleness.max == tuple(lags)
    assert (found.period, found.speedup) == (stages, 1 + beta)


@pytest.mark.parametrize("beta", BETAS, ids=str)
@pytest.mark.parametrize("stages", STAGES)
def test_block_updates_have_the_closed_form(stages: int, beta: Fraction) -> None:
    found = simulate(asynchronous(stages, beta, BLOCK_RULE).program(None))
    lags = [ceil(Fraction(stages - s, stages) + beta) - 1 for s in range(stages)]
    assert found.staleness.apply == found.staleness.max == tuple(lags)
    assert (found.period, found.speedup) == (stages, 1 + beta)


def mean_time_to_update(run: SteadyRun) -> Fraction:
    """From the start of a forward to the end of its update, in forward passes T, over all stages of a microbatch."""
    graph, stages = run.graph, run.graph.program.stages
    m = graph.program.start + 2 * graph.program.step
    spans = [
        run.times.ends[graph.numbers[Op.U, s][m]] - run.times.starts[graph.numbers[Op.F, s][m]] for s in range(stages)
    ]
    return Fraction(sum(spans), stages) * run.ticks.unit / stages


@pytest.mark.parametrize("beta", BETAS, ids=str)
@pytest.mark.parametrize("stages", STAGES)
def test_mean_time_from_read_to_update_is_as_derived(stages: int, beta: Fraction) -> None:
    """(1 + beta)(M + 1)/(2M) layer by layer, 1 + beta - (M - 1)/(2M) by blocks: beta(M - 1)/(2M) apart."""
    layers, blocks = (
        mean_time_to_update(run_steady(asynchronous(stages, beta, rule).program(None), Timing())[0])
        for rule in ("", BLOCK_RULE)
    )
    assert layers == (1 + beta) * Fraction(stages + 1, 2 * stages)
    assert blocks == 1 + beta - Fraction(stages - 1, 2 * stages)
    assert blocks - layers == beta * Fraction(stages - 1, 2 * stages)


@pytest.mark.parametrize("beta", BETAS, ids=str)
@pytest.mark.parametrize("microbatches", [1, 2, 3, 10, 41, 10**6])
def test_makespan_and_speed_up_are_those_of_the_paper(beta: Fraction, microbatches: int) -> None:
    """b microbatches take (b + beta)T, lambda(b) times less than one after another."""
    stages = 6
    instance = asynchronous(stages, beta)
    found = simulate(instance.program(None), finite=instance.program(microbatches))
    assert found.makespan == (microbatches + beta) * stages
    promise = decoupled_speedup(instance.program(None), waits=False)
    assert promise is not None
    assert promise.why_not == ""
    assert promise.speedup(microbatches) == microbatches * (1 + beta) * stages / Fraction(found.makespan)
    assert promise.limit == 1 + beta


@pytest.mark.parametrize(
    ("streams", "limit", "why_not"),
    [
        ("{f: {runs: [F]}, b: {runs: [B, U]}}", Fraction(3, 2), "it has 1 of 2 backward streams"),
        ("{f: {runs: [F], count: 2}, b: {runs: [B, U], count: 4}}", 6, "it has 2 forward streams"),
    ],
)
def test_formula_is_not_defined_for_other_numbers_of_streams(streams: str, limit: Fraction, why_not: str) -> None:
    """Then (1 + beta)/max(1/n_F, beta/n_B) is what such streams can reach."""
    from tests.compiler.instances import compiled

    instance = compiled(f"streams: {streams}\nin_flight: 12\n", 4)
    found = decoupled_speedup(instance.program(None), waits=False)
    assert found is not None
    assert (found.limit, found.why_not) == (limit, why_not)
    assert simulate(instance.program(None)).speedup == limit
    waiting = decoupled_speedup(instance.program(None), waits=True)
    assert waiting is not None
    assert waiting.why_not == "its rules let forwards wait"


def test_formula_is_not_defined_where_streams_are_shared() -> None:
    from tests.compiler.instances import compiled

    assert decoupled_speedup(compiled("streams: {w: {runs: [F, B, U]}}\n", 2).program(None), waits=False) is None
