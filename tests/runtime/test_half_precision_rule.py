"""Half-precision weights on the CPU: float32 copies, stochastic rounding, and what both mean beside the fused rule."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import CheckpointError, UsageError
from asyncpipe.kernels.rounding import round_stochastically
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.builtin_rule import BuiltinRule
from asyncpipe.runtime.fused_rule import FusedRule
from asyncpipe.runtime.half_precision_rule import HalfPrecisionRule
from asyncpipe.runtime.optimizer_options import CHOICES
from asyncpipe.runtime.optimizers import OptimizerSpec, StageOptimizer, make_optimizer
from asyncpipe.runtime.update_rule import Arithmetic, Precision
from tests.kernels.fused.conftest import rounding_to_nearest_bfloat16

__all__ = ["rounding_to_nearest_bfloat16"]  # a fixture for every test here

LR = 0.02
SMALL = 2.0**-12
"""A sixteenth of the distance from 1 to the next bfloat16 below it."""


def new_arena(dtype: torch.dtype = torch.bfloat16) -> Arena:
    """Weights of two dtypes, one in another memory format, one frozen."""
    generator = torch.Generator().manual_seed(1)
    matrix, filters = torch.randn(33, 5, generator=generator), torch.randn(4, 3, 2, 2, generator=generator)
    return Arena.of(
        [
            ("matrix", nn.Parameter(matrix.to(dtype))),
            ("filters", nn.Parameter(filters.to(dtype, memory_format=torch.channels_last))),
            ("frozen", nn.Parameter(torch.ones(3, dtype=dtype), requires_grad=False)),
            ("norm", nn.Parameter(torch.ones(7))),
        ]
    )


def gradients(arena: Arena, seed: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randn(view.shape, generator=generator).to(view.dtype) for view in arena.views]
    return [
        torch.empty_like(view).copy_(g) if trainable else None
        for g, view, trainable in zip(found, arena.views, arena.trainable, strict=True)
    ]


def ones(n: int = 64) -> Arena:
    return Arena.of([("half", nn.Parameter(torch.ones(n).bfloat16()))])


def small(n: int = 64) -> list[Tensor | None]:
    return [torch.full((n,), SMALL).bfloat16()]


def master_of(optimizer: StageOptimizer) -> Tensor:
    return torch.as_tensor(optimizer.state()["parameters"]["half"]["master"])


def test_the_choices_of_a_job_are_those_of_the_types() -> None:
    assert {"arithmetic": get_args(Arithmetic), "precision": get_args(Precision)} == CHOICES


@pytest.mark.parametrize("use", ["sgd", "adam", "adamw", "nadam", "lion"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_master_copies_are_updated_as_by_the_fused_kernels(use: str, dtype: torch.dtype) -> None:
    ours, theirs = new_arena(dtype), new_arena(dtype)
    spec = OptimizerSpec(use, LR, precision="master")
    plain, fused = make_optimizer(spec, ours), StageOptimizer(theirs, FusedRule(theirs, use, {}, precision="master"))
    for step in range(4):
        for arena, optimizer in ((ours, plain), (theirs, fused)):
            optimizer.step(gradients(arena, step), LR)
    for name, expected in fused.state()["parameters"].items():
        found = plain.state()["parameters"][name]
        assert found.keys() == expected.keys()
        for key in ("master", "exp_avg"):
            one, other = (torch.as_tensor(state.get(key, 0.0)) for state in (found, expected))
            assert torch.allclose(one, other, atol=1e-6)
    for i, (one, other) in enumerate(zip(ours.views, theirs.views, strict=True)):
        assert torch.allclose(one.float(), other.float(), rtol=2.0**-7 if i < 2 else 1e-6)


@pytest.mark.parametrize(("precision", "moved"), [("plain", 0.0), ("master", 1.0), ("stochastic", 1.0)])
def test_small_updates_are_lost_only_if_plain(precision: Any, moved: float) -> None:
    arena = ones(1024)
    optimizer = make_optimizer(OptimizerSpec("sgd", 1.0, precision=precision), arena)
    for _ in range(32):
        optimizer.step(small(1024), 1.0)
    # Two steps on average of variance below 2, in units of 1/256.
    spread = 5 * (2 / 1024) ** 0.5 / 256 if precision == "stochastic" else 0.0
    assert float(arena.views[0].double().mean()) == pytest.approx(1 - moved * 32 * SMALL, abs=spread)


def test_muon_has_master_copies_too() -> None:
    ours, wide = new_arena(), new_arena(torch.float32)
    half = make_optimizer(OptimizerSpec("muon", LR, precision="master"), ours)
    single = make_optimizer(OptimizerSpec("muon", LR), wide)
    wide.views[0].copy_(ours.views[0])
    for step in range(3):
        found = gradients(ours, step)
        half.step(found, LR)
        single.step([None if g is None else g.float() for g in found], LR)
    assert torch.equal(ours.views[0], wide.views[0].bfloat16())


def test_what_somebody_else_writes_replaces_the_master_copy() -> None:
    arena = ones()
    optimizer = make_optimizer(OptimizerSpec("sgd", 1.0, precision="master"), arena)
    optimizer.step(small(), 1.0)
    arena.views[0][::2] = 3.0
    optimizer.step(small(), 1.0)
    assert master_of(optimizer)[:2].tolist() == [3 - SMALL, 1 - 2 * SMALL]


def test_master_copies_travel_in_checkpoints_or_start_from_the_weights() -> None:
    first, second = ones(), ones()
    saved, resumed = (make_optimizer(OptimizerSpec("sgd", 1.0, precision="master"), arena) for arena in (first, second))
    for _ in range(3):
        saved.step(small(), 1.0)
    resumed.load_state(saved.state())
    assert torch.equal(master_of(resumed), torch.full((64,), 1 - 3 * SMALL))
    without = saved.state()
    del without["parameters"]["half"]["master"]
    resumed.load_state(without)
    resumed.step(small(), 1.0)
    assert torch.equal(master_of(resumed), torch.full((64,), 1 - SMALL))


def test_checkpoints_of_other_shapes_or_precisions_are_refused() -> None:
    saved = make_optimizer(OptimizerSpec("sgd", 1.0, precision="master"), ones())
    saved.step(small(), 1.0)
    for precision, n in (("plain", 64), ("stochastic", 64), ("master", 32)):
        optimizer = make_optimizer(OptimizerSpec("sgd", 1.0, precision=precision), ones(n))  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match="optimizer state of half: expected entries of shapes"):
            optimizer.load_state(saved.state())


def test_two_stages_do_not_round_alike_and_a_run_repeats() -> None:
    def weights() -> list[Tensor]:
        torch.manual_seed(3)
        stages = [ones(), ones()]
        for optimizer in [make_optimizer(OptimizerSpec("sgd", 1.0, precision="stochastic"), arena) for arena in stages]:
            optimizer.step([torch.full((64,), 2.0**-9).bfloat16()], 1.0)
        return [arena.views[0] for arena in stages]

    first, second = weights()
    assert not torch.equal(first, second)
    assert torch.equal(torch.stack([first, second]), torch.stack(weights()))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rounding_is_up_with_the_probability_of_the_remainder(sign: float) -> None:
    n, step = 1 << 16, 2.0**-7
    found = round_stochastically(torch.full((n,), sign * (1 + 0.3 * step)), torch.Generator().manual_seed(0))
    up = (found.abs().double() - 1) / step
    assert set(up.tolist()) == {0.0, 1.0}
    assert abs(float(up.mean()) - 0.3) <= 4 * (0.3 * 0.7 / n) ** 0.5


def test_rounding_keeps_what_bfloat16_has_and_what_is_not_finite() -> None:
    values = torch.tensor([0.0, -0.0, 1.5, -(2.0**-130), torch.inf, -torch.inf, torch.nan])
    found = round_stochastically(values, torch.Generator().manual_seed(0))
    assert torch.equal(found[:6], values[:6].bfloat16())
    assert torch.equal(found[:2].signbit(), values[:2].signbit())
    assert found[6].isnan()


@pytest.mark.parametrize(
    ("spec", "attachments", "message"),
    [
        (
            OptimizerSpec("torch.optim.Adam", LR, precision="master"),
            Attachments(),
            "`precision: master` is for built-in optimizers, found torch.optim.Adam",
        ),
        (
            OptimizerSpec("adam", LR, precision="master"),
            Attachments({"shrink": 0.5}),
            "`precision: master` with gradient transforms, .* is for sgd, .* on CUDA, found adam on cpu",
        ),
        (
            OptimizerSpec("adam", LR, precision="exact"),  # type: ignore[arg-type]
            Attachments(),
            "optimizer precision must be plain or master or stochastic, found 'exact'",
        ),
        (OptimizerSpec("adan", LR, precision="master"), Attachments(), "no optimizer is called 'adan'"),
    ],
    ids=["torch", "transforms", "word", "name"],
)
def test_what_cannot_be_precise_is_refused(spec: OptimizerSpec, attachments: Attachments, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_optimizer(spec, ones(), attachments)


def test_stochastic_rounding_refuses_float16() -> None:
    with pytest.raises(UsageError, match="stochastic rounding is for bfloat16, found float16 parameters matrix, filt"):
        make_optimizer(OptimizerSpec("sgd", LR, precision="stochastic"), new_arena(torch.float16))


def test_updates_follow_one_another_since_they_share_the_copies() -> None:
    arena = ones()
    rule = HalfPrecisionRule(arena, lambda wide: BuiltinRule(wide, "sgd", {}, "default"), is_master=True)
    assert not rule.concurrent
