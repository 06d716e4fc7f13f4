"""Staleness, periods and versions of the library that papers state, or arithmetic gives, for several sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from math import ceil

import pytest

from asyncpipe.analysis.races import guaranteed_staleness
from tests.command_line import invoke
from tests.library.instances import compiled

Law = Callable[[int, int], Fraction | int]
"""Staleness of stage k of K."""


def ticks(stages: int, k: int) -> int:
    """The delay of lock-step modules: a message goes up and down again, one hop in each tick."""
    return 2 * (stages - 1 - k)


def behind(stages: int, k: int) -> int:
    """The delay of 1F1B without a flush."""
    return stages - 1 - k


def none(stages: int, k: int) -> int:
    return 0


LAWS: dict[str, Law] = {
    "sgd": none,
    "sgd-ready": none,
    "sgd-overlap": none,
    "async-lu": lambda stages, k: ceil(Fraction(3 * (stages - k), stages)) - 1,
    "async-bu": lambda stages, k: ceil(Fraction(stages - k, stages) + 2) - 1,
    "pd-asgd-devices": lambda stages, k: ceil(Fraction(3 * (stages - k), stages)) - 1,
    "hogwild": lambda stages, k: Fraction(1, 2),
    "lapsgd": lambda stages, k: Fraction(3, 2),
    "dc-asgd": lambda stages, k: Fraction(3, 2),
    "ddp": none,
    "local-sgd": none,
    "diloco": none,
    "layup": none,
    "acco": lambda stages, k: 1,
    "fdg": lambda stages, k: max(0, ticks(stages, k) - 1),
    "fdg-paper-order": ticks,
    "ddg": behind,
    "fr": behind,
    "adl": lambda stages, k: Fraction(ticks(stages, k), 4),
    "petra": lambda stages, k: Fraction(ticks(stages, k), 2),
    "pipelined-bp": ticks,
    "dgl": none,
    "dni": none,
    "gpipe": none,
    "gpipe-recompute": none,
    "1f1b": none,
    "zb-h1": none,
    "zb-h1-greedy": none,
    "pipedream": behind,
    "pipedream-2bw": lambda stages, k: 1,
    "pipemare": behind,
    "spectrain": behind,
    "nesterov-pp": behind,
    "paci": lambda stages, k: Fraction(behind(stages, k), 8),
}


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
@pytest.mark.parametrize("name", LAWS)
def test_staleness_is_that_of_the_method(name: str, stages: int) -> None:
    assert list(compiled(name, stages).staleness.apply) == [LAWS[name](stages, k) for k in range(stages)]


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
@pytest.mark.parametrize("name", ["fdg", "fdg-paper-order", "ddg", "adl", "pipedream", "pipedream-2bw", "async-lu"])
def test_the_simulator_measures_that_staleness(name: str, stages: int) -> None:
    outcome = invoke("simulate", name, "--stages", str(stages), "--json")
    measured = json.loads(outcome.stdout)["staleness"]["apply"]
    assert measured == [float(LAWS[name](stages, k)) for k in range(stages)]


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("fdg", (), (3, 1, 0)),
        ("fdg-paper-order", (), (4, 2, 0)),
        ("ddg", (), (2, 1, 0)),
        ("pipedream", (), (2, 1, 0)),
        ("pipedream-2bw", (), (1, 1, 1)),
        ("adl", ("update.every=2",), (2, 1, 0)),
        ("adl", (), (1, Fraction(1, 2), 0)),
    ],
)
def test_three_stages_have_the_staleness_that_is_published(
    name: str, overrides: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    assert compiled(name, 3, *overrides).staleness.apply == expected


@pytest.mark.parametrize(("every", "expected"), [(2, [(2, 2), (1, 1), (0, 0)]), (4, [(1, 1), (1, 1, 0, 0), (0, 0)])])
def test_accumulation_bounds_every_single_delay(every: int, expected: list[tuple[int, ...]]) -> None:
    """The levels of staleness in the figure of arXiv 2012.03747 for three modules."""
    found = compiled("adl", 3, f"update.every={every}").staleness
    assert list(found.apply) == [Fraction(sum(levels), len(levels)) for levels in expected]
    assert found.max == tuple(max(levels) for levels in expected)


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
def test_what_the_backward_reads(stages: int) -> None:
    """`same` is what the forward read; `latest` has seen the updates in between, which here are all but its own."""
    for name in ("fdg-paper-order", "adl", "ddg", "pipedream", "nesterov-pp", "pipedream-2bw", "acco", "dc-asgd"):
        assert compiled(name, stages).staleness.forward_backward == (0,) * stages
    for name in ("fdg", "fr", "petra", "pipelined-bp", "pipemare", "spectrain", "paci"):
        found = compiled(name, stages).staleness
        assert found.forward_backward == found.apply


@pytest.mark.parametrize("name", ["fdg", "fdg-paper-order", "ddg", "fr", "pipelined-bp", "dgl", "dni"])
def test_fixed_orders_have_their_staleness_whatever_the_timing(name: str) -> None:
    found = compiled(name, 4)
    assert guaranteed_staleness(found.sample_program()) == found.staleness.max


FLUSHED = ["gpipe", "gpipe-recompute", "1f1b", "interleaved-1f1b", "interleaved-1f1b-greedy", "looped-bfs", "dualpipev"]
EXACT = ["sgd", "sgd-ready", "sgd-overlap", "ddp", "local-sgd", "diloco", *FLUSHED, "zb-h1", "zb-h1-greedy", "zbv"]


@pytest.mark.parametrize("name", EXACT)
def test_exact_schedules_are_exact_whatever_the_timing(name: str) -> None:
    assert guaranteed_staleness(compiled(name, 4).sample_program()) == (0,) * 4


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
def test_flushed_pipelines_take_33_on_four_devices(name: str) -> None:
    assert compiled(name, 4).period * 8 == 33


@pytest.mark.parametrize("microbatches", [4, 8, 12])
@pytest.mark.parametrize("devices", [2, 3, 4, 6])
def test_flushed_pipelines_take_a_turn_for_each_further_device(devices: int, microbatches: int) -> None:
    """(M + D - 1)(F + B); GPipe keeps all microbatches, 1F1B as many as there are devices behind."""
    for name in ("gpipe", "1f1b"):
        found = compiled(name, devices, f"update.every={microbatches}")
        assert found.period * microbatches == 3 * (microbatches + devices - 1)
    assert compiled("gpipe", devices, f"update.every={microbatches}").slots == (microbatches,) * devices
    assert compiled("1f1b", devices).slots == tuple(devices - s for s in range(devices))


@pytest.mark.parametrize("devices", [2, 3, 4])
def test_a_v_without_a_flush_has_no_bubble(devices: int) -> None:
    assert compiled("zbv", 2 * devices).period == 6


@pytest.mark.parametrize("name", ["pipedream", "pipedream-2bw", "pipemare", "spectrain", "nesterov-pp", "paci", "fdg"])
@pytest.mark.parametrize("stages", [2, 4, 8])
def test_endless_pipelines_have_no_bubble(name: str, stages: int) -> None:
    assert compiled(name, stages).period == 3


def test_recomputation_costs_a_forward_where_no_bubble_hides_it() -> None:
    """Of 4 devices with 8 microbatches each the first recomputation is hidden, but on the last one."""
    assert compiled("gpipe-recompute", 4).period * 8 == compiled("gpipe", 4).period * 8 + 8
    assert compiled("fr", 3).period == compiled("ddg", 3).period + 1


def test_two_buffers_hold_two_versions() -> None:
    assert compiled("pipedream-2bw", 4).versions == (2,) * 4
    assert compiled("pipedream", 4).slots == (4, 3, 2, 1)


def test_communication_hides_behind_the_next_half() -> None:
    hidden, shown = (compiled(name, 4, "costs={SYNC: 2}").period for name in ("acco", "ddp"))
    assert [hidden, shown] == [12, 14]
