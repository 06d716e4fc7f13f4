"""Transforms, followers and counters of an update: plain torch, the fused kernels, and both alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import CheckpointError, InternalError, UsageError
from asyncpipe.kernels import transforms
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.attached_rule import AttachedRule
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.builtin_rule import BuiltinRule
from asyncpipe.runtime.fused_rule import FusedRule
from asyncpipe.runtime.optimizers import OptimizerSpec, StageOptimizer, make_optimizer
from tests.kernels.fused.conftest import rounding_to_nearest_bfloat16
from tests.runtime.test_fused_rule import assert_close, assert_same_weights, gradients

__all__ = ["rounding_to_nearest_bfloat16"]  # a fixture for every test here

LR = 0.05
MISSING: list[Sequence[int]] = [(), (), (1,), ()]

Make = Callable[[Arena], Attachments]
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"weight_decay": 0.1}),
    "momentum": ("sgd", {"momentum": 0.8, "dampening": 0.2, "weight_decay": 0.1}),
    "nesterov": ("sgd", {"momentum": 0.8, "nesterov": True, "maximize": True}),
    "adam": ("adam", {"amsgrad": True, "weight_decay": 0.1}),
    "adamw": ("adamw", {"maximize": True}),
    "nadam": ("nadam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "lion": ("lion", {"weight_decay": 0.1}),
}


def new_arena(mixed: bool = False) -> Arena:
    generator = torch.Generator().manual_seed(3)
    sizes = {"a": (5, 7), "b": (3,), "c": (4,)}
    values = {name: torch.randn(size, generator=generator) for name, size in sizes.items()}
    if mixed:
        values["c"] = values["c"].double()
    return Arena.of((name, nn.Parameter(value)) for name, value in values.items())


def moved(arena: Arena, by: float) -> Arena:
    other = arena.like()
    for target, view in zip(other.views, arena.views, strict=True):
        target.copy_(view + by)
    return other


def counters() -> dict[str, Any]:
    """Three updates took place; the two microbatches of the next one found the first and the second version."""
    values = {"version": [3], "reads": [0, 1], "histogram": [0, 0, 0]}
    return {name: torch.tensor(value) for name, value in values.items()}


def everything(arena: Arena) -> Attachments:
    return Attachments(
        transforms={"shrink": 0.5, "delay_compensation": 0.1, "clip_norm": 0.9},
        staleness_power=0.5,
        read=moved(arena, 0.3),
        private=moved(arena, 0.01),
        peer=moved(arena, 0.0),
        ahead=moved(arena, 0.0),
        horizon=2.0,
        drift_decay=0.7,
        corrected=moved(arena, 0.0),
        drift_horizon=1.5,
        **counters(),
    )


def spikes(arena: Arena) -> Attachments:
    return Attachments(spike=True, staleness=2.0, staleness_power=1.0, ahead=moved(arena, 0.0), horizon=1.0)


def assert_alike(found: Attachments, expected: Attachments) -> None:
    for name, arena in expected.arenas.items():
        assert_same_weights(found.arenas[name], arena)
    for name in ("version", "histogram"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None and other is None) or torch.equal(one, other)


def run_both(
    use: str, options: dict[str, Any], make: Make, mixed: bool, missing: list[Sequence[int]]
) -> list[StageOptimizer]:
    ours, theirs = new_arena(mixed), new_arena(mixed)
    attached = make(ours), make(theirs)
    fused = StageOptimizer(ours, FusedRule(ours, use, options, attached[0]))
    plain = StageOptimizer(theirs, AttachedRule(theirs, use, options, "default", attached[1]))
    for step, absent in enumerate(missing):
        for arena, optimizer in ((ours, fused), (theirs, plain)):
            optimizer.step(gradients(arena, step, absent), LR)
        assert_same_weights(ours, theirs)
        assert_alike(*attached)
    return [fused, plain]


@pytest.mark.parametrize("rule", RULES)
def test_both_rules_do_all_that_is_attached(rule: str) -> None:
    run_both(*RULES[rule], everything, mixed=False, missing=MISSING[:2])


@pytest.mark.parametrize("rule", ["momentum", "nadam"])
def test_dtypes_and_missing_gradients_make_one_update(rule: str) -> None:
    """A clip takes the norm of the whole stage, and the version counts updates, not launches."""
    run_both(*RULES[rule], everything, mixed=True, missing=MISSING)
    run_both(*RULES[rule], everything, mixed=False, missing=[*MISSING, (0, 1, 2)])


def test_both_rules_compensate_spikes() -> None:
    run_both("sgd", {"momentum": 0.9, "weight_decay": 0.1}, spikes, mixed=False, missing=MISSING)


def test_states_of_both_rules_are_interchangeable() -> None:
    fused, plain = run_both(*RULES["adam"], everything, mixed=False, missing=MISSING[:2])
    before = plain.state()["parameters"]
    assert {name: sorted(state) for name, state in fused.state()["parameters"].items()} == {
        name: sorted(state) for name, state in before.items()
    }
    plain.load_state(fused.state())
    fused.load_state(plain.state())
    for name, state in fused.state()["parameters"].items():
        for key, value in state.items():
            assert_close(torch.as_tensor(value, dtype=torch.float32), torch.as_tensor(before[name][key]).float())


def by_hand(arena: Arena) -> tuple[list[Tensor], list[Tensor]]:
    """(weights, weights two updates ahead) after one step of sgd with a shrunk and clipped gradient."""
    found = [0.5 * gradient for gradient in gradients(arena, 0) if gradient is not None]
    norm = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in found]))
    clipped = [gradient * 0.9 / (norm + 1e-6) for gradient in found]
    assert norm > 0.9
    once, ahead = ([w - n * LR * g for w, g in zip(arena.views, clipped, strict=True)] for n in (1, 3))
    return once, ahead


@pytest.mark.parametrize("rule", [FusedRule, lambda arena, use, o, a: AttachedRule(arena, use, o, "default", a)])
def test_gradient_is_shrunk_then_clipped_and_the_weights_predicted(rule: Any) -> None:
    arena = new_arena()
    weights, ahead = by_hand(arena)
    version = torch.tensor([7])
    attached = Attachments(
        transforms={"shrink": 0.5, "clip_norm": 0.9}, ahead=moved(arena, 0.0), horizon=2.0, version=version
    )
    optimizer = StageOptimizer(arena, rule(arena, "sgd", {}, attached))
    optimizer.step(gradients(arena, 0), LR)
    for found, expected in zip([*arena.views, *attached.arenas["ahead"].views], [*weights, *ahead], strict=True):
        assert_close(found, expected)
    assert torch.equal(version, torch.tensor([8]))


def test_rate_falls_with_the_measured_staleness() -> None:
    """Read as versions 0 and 1 and applied to version 3: 2.5 updates on average."""
    attached = Attachments(staleness_power=0.5, **counters())
    assert float(attached.rate(LR)) == pytest.approx(LR / 2.5**0.5)
    assert Attachments(staleness=4.0, staleness_power=0.5).rate(LR) == LR / 2
    assert Attachments(staleness=4.0).rate(LR) == LR


def test_staleness_is_counted_and_long_ones_together() -> None:
    given = counters()
    Attachments(**given).count()
    assert (given["histogram"].tolist(), given["version"].tolist()) == ([0, 0, 2], [4])


def test_plain_rule_with_nothing_attached_equals_the_builtin_rule_closely() -> None:
    for use, options in RULES.values():
        ours, theirs = new_arena(), new_arena()
        attached = AttachedRule(ours, use, options, "default", Attachments())
        builtin = BuiltinRule(theirs, use, options, "default")
        for step in range(3):
            attached.apply(gradients(ours, step), LR)
            builtin.apply(gradients(theirs, step), LR)
        assert_same_weights(ours, theirs)


def test_optimizer_is_made_with_what_is_attached() -> None:
    arena = new_arena()
    version = torch.tensor([0])
    optimizer = make_optimizer(OptimizerSpec("adam", LR), arena, Attachments(version=version))
    optimizer.step(gradients(arena, 0), LR)
    assert version.tolist() == [1]


def test_numbers_that_nothing_uses_leave_the_bits_of_torch() -> None:
    ours, theirs = new_arena(), new_arena()
    unused = Attachments(staleness=3.0, horizon=2.0, drift_horizon=1.0, read=moved(ours, 0.1))
    for arena, attached in ((ours, unused), (theirs, None)):
        optimizer = make_optimizer(OptimizerSpec("adamw", LR), arena, attached)
        optimizer.step(gradients(arena, 0), LR)
    assert all(map(torch.equal, ours.views, theirs.views))


def test_threads_may_apply_updates_at_once() -> None:
    """Each on parameters of its own, so that the result is exact: what they share is the rule."""
    names = [str(i) for i in range(4)]
    ours, theirs = (Arena.of((name, nn.Parameter(torch.ones(5000))) for name in names) for _ in range(2))
    attached = Attachments(transforms={"shrink": 0.5}, ahead=ours.like(), horizon=1.0)
    together, alone = (
        StageOptimizer(arena, AttachedRule(arena, "adam", {}, "default", attached)) for arena in (ours, theirs)
    )

    def train(optimizer: StageOptimizer, i: int) -> None:
        for step in range(20):
            own = torch.full((5000,), float(i + step))
            optimizer.step([own if i == k else None for k in range(4)], LR)

    threads = [threading.Thread(target=train, args=(together, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        train(alone, i)
    assert together.concurrent
    assert all(map(torch.equal, ours.views, theirs.views))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"transforms": {"shrnk": 1.0}}, "transforms are shrink, clip_norm, delay_compensation, found shrnk"),
        ({"transforms": {"delay_compensation": 1.0}}, "delay_compensation needs `read`"),
        ({"corrected": new_arena()}, "`corrected` needs `drift_decay`"),
        ({"reads": torch.zeros(1)}, "`reads` needs `version`"),
        ({"histogram": torch.zeros(1)}, "`histogram` needs `reads`"),
    ],
)
def test_contradictions_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Attachments(**wrong)


@pytest.mark.parametrize(
    ("use", "attached", "message"),
    [
        ("muon", Attachments(drift_decay=0.5), "muon has no gradient transforms"),
        ("torch.optim.Adam", Attachments(staleness_power=1.0), "are for built-in optimizers, found torch.optim.Adam"),
        ("sgd", Attachments(atomic=True), "atomic updates need CUDA"),
        ("sgd", Attachments(spike=True), "spike compensation is for the velocity of sgd, found sgd with momentum: 0.0"),
    ],
)
def test_what_an_optimizer_cannot_do_is_refused(use: str, attached: Attachments, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_optimizer(OptimizerSpec(use, LR), new_arena(), attached)


def test_fused_rule_refuses_spike_compensation_without_momentum_and_atomic_half_precision() -> None:
    with pytest.raises(UsageError, match="spike compensation is for the velocity"):
        FusedRule(new_arena(), "adam", {}, Attachments(spike=True))
    half = Arena.of([("a", nn.Parameter(torch.zeros(3).bfloat16()))])
    with pytest.raises(UsageError, match="atomic: expected weights or a master copy in float32"):
        FusedRule(half, "sgd", {}, Attachments(atomic=True))


def test_fused_rule_refuses_master_copies_that_private_weights_would_hide() -> None:
    half = Arena.of([("a", nn.Parameter(torch.zeros(3).bfloat16()))])
    with pytest.raises(UsageError, match="`precision: master` with private weights: updates begin from these"):
        FusedRule(half, "sgd", {}, Attachments(private=half.clone()), precision="master")
    arena = new_arena()
    assert FusedRule(arena, "sgd", {}, Attachments(private=arena.clone()), precision="master").state_bytes == 0


def test_arena_of_another_layout_is_a_bug_of_the_caller() -> None:
    attached = Attachments(ahead=Arena.of([("x", nn.Parameter(torch.zeros(3)))]))
    with pytest.raises(InternalError, match="ahead: expected an arena of the parameters' layout"):
        make_optimizer(OptimizerSpec("sgd", LR), new_arena(), attached)


def test_state_without_its_drift_is_refused() -> None:
    arena = new_arena()
    attached = Attachments(drift_decay=0.5)
    for rule in (FusedRule(arena, "sgd", {}, attached), AttachedRule(arena, "sgd", {}, "default", attached)):
        with pytest.raises(CheckpointError, match=r"optimizer state of a: expected .*'drift'"):
            rule.load_parameter_states([{"step": 1}] * 3)


def test_both_measure_the_same_norm_as_torch() -> None:
    """The bound of `clip_norm` holds for the whole stage."""
    arena = new_arena(mixed=True)
    before = [view.clone() for view in arena.views]
    StageOptimizer(arena, FusedRule(arena, "sgd", {}, Attachments(transforms={"clip_norm": 0.5}))).step(
        gradients(arena, 0), 1.0
    )
    given = [gradient for gradient in gradients(arena, 0) if gradient is not None]
    for old, new, clipped in zip(before, arena.views, transforms.clip_norm(given, 0.5), strict=True):
        assert_close(new, old - clipped)
