"""The stable learning rates of schedules: against closed forms, and on the real runtime with quadratic stages."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from asyncpipe.analysis.stability import StepRule, heavy_ball, largest_gain, nesterov, plain_limit
from asyncpipe.compiler import compile_schedule
from asyncpipe.runtime.optimizer_options import read_options
from asyncpipe.schedule import Schedule, load
from asyncpipe.verify.stable_rate import ADAPTIVE, StableRate, stable_rates, step_rule
from benchmarks.theory.quadratics import growing
from tests.semantics.plain import parsed

SGD = {"use": "sgd"}
MOMENTUM = {"use": "sgd", "momentum": 0.9}
OWNERS = """
streams: {worker: {runs: [F, B, U], count: 3}}
rules: ['U[s, g] after B[0, hi]']
update: {write: racy, owner: stream}
"""


def rates(schedule: Schedule, stages: int, use: str = "sgd", **options: Any) -> tuple[StableRate, ...]:
    rule = step_rule(use, read_options(use, options))
    assert rule is not None
    return stable_rates(compile_schedule(schedule, stages), rule, use in ADAPTIVE)


def gains(schedule: Schedule, stages: int, use: str = "sgd", **options: Any) -> list[float]:
    return [rate.gain for rate in rates(schedule, stages, use, **options)]


def test_constant_staleness_has_the_closed_form() -> None:
    assert gains(load("pipedream"), 4) == pytest.approx([plain_limit(delay) for delay in (3, 2, 1, 0)])


def test_a_schedule_without_staleness_takes_nothing_away() -> None:
    for rate in rates(load("1f1b"), 4, momentum=0.9):
        assert rate.staleness == 0
        assert (rate.gain, rate.factor) == (rate.without, 1)


def test_accumulated_gradients_of_different_age_are_averaged() -> None:
    """ADL with two microbatches in an update, in the order of the paper: ages (2, 2), (1, 1), (0, 0)."""
    found = gains(load("adl", ["update.every=2", "update.reduce=mean"]), 3)
    assert found[1:] == pytest.approx([plain_limit(1), plain_limit(0)])
    assert gains(load("adl", ["update.every=2"]), 3) == pytest.approx([gain / 2 for gain in found])


def test_shrunk_gradients_and_rates_over_the_staleness_leave_more() -> None:
    plain = gains(load("pipedream"), 4, momentum=0.5)
    shrunk = gains(load("pipedream", ["gradient=[{shrink: 0.5}]"]), 4, momentum=0.5)
    assert shrunk == pytest.approx([gain * factor for gain, factor in zip(plain, (8, 4, 2, 1), strict=True)])
    slower = gains(load("pipedream", ["gradient=[{lr_over_staleness: 2}]"]), 4, momentum=0.5)
    assert slower == pytest.approx([gain * factor for gain, factor in zip(plain, (9, 4, 1, 1), strict=True)])


def test_private_copies_that_are_overwritten_in_turn_have_no_stable_rate_where_they_read_each_other() -> None:
    found = rates(load("pd-asgd-devices"), 4)
    assert [rate.staleness for rate in found] == [2, 2, 1, 0]
    assert [rate.gain for rate in found] == pytest.approx([0, 0, 2, 0])
    plain = gains(load("pd-asgd-devices", ["update.write=ordered"]), 4)
    assert plain == pytest.approx([plain_limit(delay) for delay in (2, 2, 1, 0)])


def test_adam_has_the_share_of_its_momentum_and_undoes_a_shrunk_gradient() -> None:
    schedule = load("pipedream", ["gradient=[{shrink: 0.5}]"])
    adam, ball = rates(schedule, 3, "adam"), rates(load("pipedream"), 3, momentum=0.9)
    assert [rate.share for rate in adam] == pytest.approx([rate.share for rate in ball])
    assert adam[0].without == pytest.approx(38)


def test_rules_are_known_for_optimizers_whose_step_is_linear_in_the_gradient() -> None:
    assert step_rule("sgd", read_options("sgd", {"momentum": 0.9, "nesterov": True})) == nesterov(0.9)
    assert step_rule("sgd", read_options("sgd", {"momentum": 0.9, "dampening": 0.5})) == heavy_ball(0.9, 0.5)
    assert step_rule("adamw", read_options("adamw", {"betas": [0.8, 0.9]})) == heavy_ball(0.8, 0.8)
    nadam = step_rule("nadam", read_options("nadam", {}))
    assert nadam is not None
    assert nadam.total == pytest.approx(1)
    ratio = largest_gain({2: 1.0}, nadam) / largest_gain({2: 1.0}, nesterov(0.9))
    assert ratio == pytest.approx(10)
    assert step_rule("lion", read_options("lion", {})) is step_rule("muon", {}) is step_rule(StepRule, {}) is None


@pytest.mark.parametrize(
    ("schedule", "stages", "optimizer"),
    [
        (load("async-lu"), 3, SGD),
        (load("pipedream"), 3, {**MOMENTUM, "nesterov": True}),
        (load("pipelined-bp"), 2, MOMENTUM),
        (load("fdg"), 2, {"use": "sgd", "momentum": 0.5, "dampening": 0.5}),
        (load("spectrain"), 2, MOMENTUM),
        (load("hogwild"), 1, MOMENTUM),
        (parsed(OWNERS), 1, MOMENTUM),
        (load("adl", ["update.every=2"]), 3, SGD),
    ],
    ids=["async-lu", "nesterov", "spike", "shrink", "predict", "hogwild", "owners", "sum"],
)
def test_stages_of_the_real_runtime_are_stable_up_to_the_limit(
    schedule: Schedule, stages: int, optimizer: dict[str, Any]
) -> None:
    """`benchmarks/theory` has the whole table."""
    use, options = optimizer["use"], {key: value for key, value in optimizer.items() if key != "use"}
    limits = torch.tensor(gains(schedule, stages, use, **options), dtype=torch.float64)
    around = limits[:, None] * torch.tensor([0.5, 0.9, 1.1])
    assert growing(schedule, around, optimizer, 120 * schedule.update.every).tolist() == [[False, False, True]] * stages
