"""Published schedules: the staleness, periods and makespans that their papers, or arithmetic, give."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.ir import replay
from asyncpipe.schedule import library, load
from tests.compiler.instances import compiled

BETAS = [Fraction(1), Fraction(3, 2), Fraction(2), Fraction(5, 2), Fraction(3)]
BLOCK_RULE = "rules:\n  - U[s, g] after B[0, hi]\n"


def asynchronous(stages: int, beta: Fraction, rules: str = "") -> Compiled:
    """One forward stream, and as many backward streams as a backward costs forwards (arXiv 2410.05985)."""
    count = ceil(beta)
    streams = f"streams:\n  forward: {{runs: [F]}}\n  backward: {{runs: [B, U], count: {count}}}\n"
    return compiled(f"{streams}in_flight: {1 + count}\n{rules}costs: {{F: 1, B: {beta}}}\n", stages)


def values(*numbers: float) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, numbers))


@pytest.mark.parametrize("name", library())
def test_library_schedules_are_as_they_expect(name: str) -> None:
    schedule = load(name)
    assert schedule.expect is not None
    found = compile_schedule(schedule, schedule.expect.stages, schedule.expect.costs)
    assert found.staleness.apply == schedule.expect.staleness
    assert found.period == schedule.expect.period


def test_layer_wise_updates_have_the_staleness_of_the_paper() -> None:
    assert compile_schedule(load("async-lu"), 8).staleness.apply == values(2, 2, 2, 1, 1, 1, 0, 0)


def test_block_updates_have_the_same_staleness_everywhere() -> None:
    assert compile_schedule(load("async-bu"), 8).staleness.apply == values(*[2] * 8)


@pytest.mark.parametrize("beta", BETAS, ids=str)
@pytest.mark.parametrize("stages", range(1, 13))
def test_layer_wise_updates_follow_the_closed_form(stages: int, beta: Fraction) -> None:
    """tau_m = ceil((1 + beta)(M - m + 1)/M) - 1 for layer m of M: an update that ends when a forward starts is read."""
    found = asynchronous(stages, beta)
    expected = [ceil((1 + beta) * (stages - s) / stages) - 1 for s in range(stages)]
    assert found.staleness.apply == found.staleness.max == values(*expected)
    assert found.period == stages


@pytest.mark.parametrize("beta", BETAS, ids=str)
@pytest.mark.parametrize("stages", range(1, 13))
def test_block_updates_follow_the_closed_form(stages: int, beta: Fraction) -> None:
    """tau_m = ceil((M - m + 1)/M + beta) - 1."""
    found = asynchronous(stages, beta, BLOCK_RULE)
    expected = [ceil(Fraction(stages - s, stages) + beta) - 1 for s in range(stages)]
    assert found.staleness.apply == values(*expected)
    assert found.period == stages


@pytest.mark.parametrize("beta", BETAS, ids=str)
@pytest.mark.parametrize("microbatches", [1, 2, 3, 10, 41])
def test_makespan_is_that_of_the_paper(beta: Fraction, microbatches: int) -> None:
    """b microbatches take (b + beta)T, where T is one forward through all stages."""
    found = asynchronous(6, beta)
    end = max(event.time for event in replay(found.program(microbatches)))
    assert end * found.ticks.unit == (microbatches + beta) * 6


def by_stage(lower: list[str], delay: str) -> Compiled:
    """Three modules, each a stream with a body; the last one goes forward, backward, and updates."""
    body = ", ".join(f'"{line}"' for line in lower).replace("d", f"({delay})")
    return compiled(
        f"streams:\n  lower: {{runs: [F, B, U], per: stage, stages: 0..last-1, body: [{body}]}}\n"
        '  last: {runs: [F, B, U], stages: last, body: ["F[last, m]", "B[last, m]", "U[last, m]"]}\n',
        3,
    )


def test_decoupled_gradients_by_code_order() -> None:
    """FDG as its code has it: the backward of an old microbatch, the update, then the forward."""
    found = by_stage(["B[s, m-d]", "U[s, m-d]", "F[s, m]"], "2*(last-s)")
    assert found.staleness.apply == values(3, 1, 0)
    assert found.period == 3


def test_decoupled_gradients_by_paper_order() -> None:
    """FDG as its paper has it: the forward first, so that each of them is one version behind."""
    found = by_stage(["F[s, m]", "B[s, m-d]", "U[s, m-d]"], "2*(last-s)")
    assert found.staleness.apply == values(4, 2, 0)


def test_delayed_gradients_with_locked_forwards() -> None:
    """DDG: only the backward is decoupled."""
    found = by_stage(["F[s, m]", "B[s, m-d]", "U[s, m-d]"], "last-s")
    assert found.staleness.apply == found.staleness.forward_backward == values(2, 1, 0)


def test_accumulated_gradients_divide_staleness() -> None:
    """ADL: paper order and accumulation over M microbatches, K = 3: 2,1,0 for M = 2 and 1,1/2,0 for M = 4."""
    for every, expected in ((2, values(2, 1, 0)), (4, values(1, 0.5, 0))):
        lines = ["F[s, m]", "B[s, m-2*(last-s)]", "U[s, m-2*(last-s)]"]
        body = ", ".join(f'"{line}"' for line in lines)
        streams = f"streams:\n  stage: {{runs: [F, B, U], per: stage, body: [{body}]}}\n"
        assert compiled(f"{streams}update: {{every: {every}}}\n", 3).staleness.apply == expected


def pipeline(stages: int, order: str, rest: str) -> Compiled:
    streams = f"streams:\n  compute: {{runs: [F, B, U], per: device, order: {order}}}\n"
    return compiled(f"devices: S\nplace: s\n{streams}{rest}", stages)


def test_one_forward_one_backward_without_flush() -> None:
    """PipeDream: stage s is S - 1 - s versions behind, and as busy as it can be."""
    found = pipeline(3, "[U, B, F]", "in_flight: S - s\n")
    assert found.staleness.apply == values(2, 1, 0)
    assert found.period == 3
    assert found.slots == (3, 2, 1)


FLUSH = "update: {every: 8}\nrules:\n  - F[0, m] after U[*, g-1]\n"


@pytest.mark.parametrize(
    ("order", "in_flight", "slots"),
    [("[F, B, U]", "", (8, 8, 8, 8)), ("[U, B, F]", "in_flight: S - s\n", (4, 3, 2, 1))],
    ids=["GPipe", "1F1B"],
)
def test_flushed_pipelines_take_eleven_turns(order: str, in_flight: str, slots: tuple[int, ...]) -> None:
    """(M + D - 1)(F + B) for M = 8 microbatches on D = 4 devices, staleness 0."""
    found = pipeline(4, order, in_flight + FLUSH)
    assert found.period * 8 == 33
    assert found.staleness.apply == values(0, 0, 0, 0)
    assert found.slots == slots


def test_equal_weights_delay_two_buffered_updates_by_one() -> None:
    """2BW: 1F1B without flush, M = S microbatches for each update."""
    found = pipeline(4, "[U, B, F]", "in_flight: S - s\nupdate: {every: 4}\n")
    assert max(found.staleness.max) == 1
    assert found.period == 3


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_workers_are_behind_by_the_others(count: int) -> None:
    """Hogwild! with block updates: all workers write at once, in ascending order, 0 to P - 1 versions late."""
    text = f"streams:\n  worker: {{runs: [F, B, U], count: {count}}}\n{BLOCK_RULE}update: {{write: racy}}\n"
    found = compiled(text + "costs: {U: 1}\n", 2)
    assert found.period == Fraction(8, count)
    assert found.staleness.apply == (Fraction(count - 1, 2),) * 2
    assert found.staleness.max == (count - 1,) * 2
