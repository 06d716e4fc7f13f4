"""The rule of CUDA against the rule of the CPU, with the kernels in Triton's interpreter."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import CheckpointError, UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.builtin_rule import BuiltinRule
from asyncpipe.runtime.fused_options import RULE_OF
from asyncpipe.runtime.fused_rule import FusedRule
from asyncpipe.runtime.optimizers import FUSED_ON_CUDA, StageOptimizer
from asyncpipe.runtime.update_rule import ParameterState
from tests.kernels.fused.conftest import rounding_to_nearest_bfloat16
from tests.runtime.test_optimizers import CASES, label

__all__ = ["rounding_to_nearest_bfloat16"]  # a fixture for every test here

LR = 0.02
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-7, torch.bfloat16: 2**-6}
"""nadam's product of momenta is in single precision on the CPU, of double parameters too."""

Gradients = list[Tensor | None]


def new_arena(dtypes: Sequence[torch.dtype] = (torch.float32,)) -> Arena:
    """Parameters of odd sizes, one of them frozen, one in another memory format, one under two names."""
    generator = torch.Generator().manual_seed(1)
    named: list[tuple[str, Tensor]] = []
    for dtype in dtypes:
        for name, shape in {"matrix": (33, 5), "frozen": (7,), "filters": (4, 3, 2, 2), "scalar": ()}.items():
            value = torch.randn(shape, generator=generator).to(dtype)
            if name == "filters":
                value = value.to(memory_format=torch.channels_last)
            named.append((f"{name} {dtype}", nn.Parameter(value, requires_grad=name != "frozen")))
    return Arena.of([*named, ("tied", named[0][1])])


def gradients(arena: Arena, seed: int, missing: Sequence[int] = ()) -> Gradients:
    generator = torch.Generator().manual_seed(100 + seed)
    found: Gradients = []
    for i, (view, place) in enumerate(zip(arena.views, arena.layout.places, strict=True)):
        gradient = torch.randn(view.shape, generator=generator).to(view.dtype)
        found.append(gradient if place.trainable and i not in missing else None)
    return found


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Relative to the largest element: sums that nearly cancel keep the error of their parts."""
    assert found.shape == expected.shape
    if expected.is_complex():
        assert torch.equal(found, expected)  # it was frozen
        return
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    assert torch.allclose(found.double(), expected.double(), rtol=0, atol=TOLERANCE[expected.dtype] * scale)


def assert_same_weights(found: Arena, expected: Arena) -> None:
    for one, other in zip(found.views, expected.views, strict=True):
        assert_close(one, other)


def pair(use: str, options: Mapping[str, Any], arena: Arena) -> tuple[Arena, StageOptimizer, Arena, StageOptimizer]:
    """A fused rule and a plain one over equal parameters."""
    ours, theirs = copy.deepcopy(arena), copy.deepcopy(arena)
    fused = StageOptimizer(ours, FusedRule(ours, use, options))
    return ours, fused, theirs, StageOptimizer(theirs, BuiltinRule(theirs, use, options, "default"))


@pytest.mark.parametrize(("use", "options"), [case for case in CASES if case[0] in FUSED_ON_CUDA], ids=label)
def test_every_option_means_the_same_as_on_the_cpu(use: str, options: dict[str, Any]) -> None:
    ours, fused, theirs, plain = pair(use, options, new_arena())
    for step in range(3):
        for arena, optimizer in ((ours, fused), (theirs, plain)):
            optimizer.step(gradients(arena, step), LR / (1 + step // 2))
    assert_same_weights(ours, theirs)
    assert fused.state_bytes <= plain.state_bytes  # nadam's products are counters here


MOMENTUM = {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}
TYPICAL: list[tuple[str, dict[str, Any]]] = [
    ("sgd", MOMENTUM),
    ("adam", {"amsgrad": True}),
    ("adamw", {}),
    ("nadam", {"weight_decay": 0.1}),
    ("lion", {}),
]


def test_every_optimizer_with_a_kernel_is_chosen_on_cuda() -> None:
    assert set(FUSED_ON_CUDA) == set(RULE_OF) == {use for use, _ in TYPICAL}


@pytest.mark.parametrize(("use", "options"), TYPICAL[:4], ids=label)
def test_dtypes_of_one_arena_are_updated_together(use: str, options: dict[str, Any]) -> None:
    ours, fused, theirs, plain = pair(use, options, Arena.of(mixed_parameters()))
    for step in range(3):
        for arena, optimizer in ((ours, fused), (theirs, plain)):
            optimizer.step(gradients(arena, step), LR)
    assert_same_weights(ours, theirs)


def mixed_parameters() -> list[tuple[str, Tensor]]:
    values = {"single": torch.randn(37), "half": torch.randn(19).bfloat16(), "double": torch.randn(5).double()}
    named = [(name, nn.Parameter(value)) for name, value in values.items()]
    frozen = nn.Parameter(torch.zeros(3, dtype=torch.complex64), requires_grad=False)
    return [*named, ("empty", nn.Parameter(torch.empty(0))), ("frozen", frozen)]


MISSING: list[Sequence[int]] = [(), (0,), (0,), (2, 3), (0, 2, 3), (), (3,)]


@pytest.mark.parametrize(("use", "options"), TYPICAL, ids=label)
def test_steps_are_counted_for_each_parameter(use: str, options: dict[str, Any]) -> None:
    """Whatever gradients are missing, and whenever that changes, bias corrections and first steps are exact."""
    ours, fused, theirs, plain = pair(use, options, new_arena())
    for step, missing in enumerate(MISSING):
        for arena, optimizer in ((ours, fused), (theirs, plain)):
            optimizer.step(gradients(arena, step, missing), LR)
        assert_same_weights(ours, theirs)
    found, expected = (optimizer.state()["parameters"] for optimizer in (fused, plain))
    assert {name: state.get("step") for name, state in found.items()} == {
        name: state.get("step") for name, state in expected.items()
    }


def test_view_without_a_gradient_from_the_start_has_no_state() -> None:
    arena = new_arena()
    optimizer = StageOptimizer(arena, FusedRule(arena, "adam", {}))
    before = arena.views[2].clone()
    for step in range(2):
        optimizer.step(gradients(arena, step, missing=(2,)), LR)
    states = list(optimizer.state()["parameters"].values())
    assert [bool(state) for state in states] == [True, False, False, True]
    assert torch.equal(arena.views[2], before)


@pytest.mark.parametrize("from_fused", [True, False])
@pytest.mark.parametrize(("use", "options"), TYPICAL, ids=label)
def test_checkpoint_of_one_rule_continues_in_the_other(use: str, options: dict[str, Any], from_fused: bool) -> None:
    ours, fused, theirs, plain = pair(use, options, new_arena())
    whole_arena, _, _, _ = pair(use, options, new_arena())
    whole = StageOptimizer(whole_arena, BuiltinRule(whole_arena, use, options, "default"))
    first, second = ((ours, fused), (theirs, plain)) if from_fused else ((theirs, plain), (ours, fused))
    for step, missing in enumerate(MISSING):
        whole.step(gradients(whole_arena, step, missing), LR)
        if step == 3:
            second[1].step(gradients(ours, 50), LR)  # must be forgotten
            second[0].copy_from(first[0])
            second[1].load_state(first[1].state())
        arena, optimizer = first if step < 3 else second
        optimizer.step(gradients(arena, step, missing), LR)
    assert_same_weights(second[0], whole_arena)
    assert shapes(second[1]) == shapes(whole)


def shapes(optimizer: StageOptimizer) -> dict[str, dict[str, tuple[int, ...]]]:
    states = optimizer.state()["parameters"]
    return {
        name: {key: tuple(torch.as_tensor(value).shape) for key, value in sorted(state.items())}
        for name, state in states.items()
    }


def test_state_of_another_optimizer_is_refused_and_changes_nothing() -> None:
    arena = new_arena()
    adam, sgd = (StageOptimizer(arena, FusedRule(arena, use, {})) for use in ("adam", "sgd"))
    for optimizer in (adam, sgd):
        optimizer.step(gradients(arena, 0), LR)
    with pytest.raises(CheckpointError, match=r"optimizer state of matrix .*: expected entries of shapes"):
        adam.load_state(sgd.state())
    assert all(state == {} or state["step"] == 1 for state in adam.state()["parameters"].values())


def test_gradients_inside_other_tensors_are_copied() -> None:
    """Also those that torch stores with the other sign."""
    named = [("vector", nn.Parameter(torch.randn(5))), ("scalar", nn.Parameter(torch.randn(())))]
    ours, fused, theirs, plain = pair("sgd", {}, Arena.of(named))
    inside, scalar = torch.randn(7)[1:6], torch.tensor(1 + 2j).conj().imag
    assert inside.data_ptr() % 16 != 0
    assert scalar.is_neg()
    fused.step([inside, scalar], LR)
    plain.step([inside, scalar], LR)
    assert_same_weights(ours, theirs)


def test_stage_without_anything_to_train_has_nothing_to_do() -> None:
    for parameters in ([], [("a", nn.Parameter(torch.ones(3), requires_grad=False))]):
        arena = Arena.of(parameters)
        optimizer = StageOptimizer(arena, FusedRule(arena, "adam", {}))
        optimizer.step([None] * len(arena.views), LR)
        optimizer.load_state(optimizer.state())
        assert optimizer.state_bytes == 0


def test_state_bytes_are_those_of_the_arenas() -> None:
    arena = Arena.of([("a", nn.Parameter(torch.zeros(3))), ("b", nn.Parameter(torch.zeros(40).bfloat16()))])
    single, half = (flat.nbytes for flat in arena.flat.values())

    def state_bytes(use: str, precision: Any = "plain", **options: object) -> int:
        return FusedRule(arena, use, options, precision=precision).state_bytes

    assert state_bytes("sgd") == 0
    assert state_bytes("sgd", momentum=0.9) == single + half
    assert state_bytes("adam", amsgrad=True) == 3 * (single + half)
    assert state_bytes("lion", "stochastic") == single + 2 * half
    assert state_bytes("lion", "master") == single + 4 * half


def test_updates_are_concurrent_on_cuda_only() -> None:
    """Triton's interpreter runs one kernel at a time."""
    arena = new_arena()
    assert not StageOptimizer(arena, FusedRule(arena, "sgd", {})).concurrent


def half_arena(value: float = 1.0) -> Arena:
    return Arena.of([("half", nn.Parameter(torch.full((64,), value).bfloat16())), ("one", nn.Parameter(torch.ones(3)))])


@pytest.mark.parametrize(("precision", "moved"), [("plain", False), ("master", True), ("stochastic", True)])
def test_small_updates_of_half_precision_weights_are_lost_only_if_plain(precision: Any, moved: bool) -> None:
    """Each update is a sixteenth of the distance to the next bfloat16 below 1, which is 1/256."""
    arena = half_arena()
    optimizer = StageOptimizer(arena, FusedRule(arena, "sgd", {}, precision=precision))
    for _ in range(32):
        optimizer.step([torch.full((64,), 2.0**-12).bfloat16(), None], 1.0)
    mean = float(arena.views[0].double().mean())
    # Of 64 elements, each two steps on average of variance below 2 in units of 1/256.
    spread = 5 * (2 / 64) ** 0.5 / 256 if precision == "stochastic" else 0.0
    assert mean == pytest.approx(1 - 32 * 2.0**-12 if moved else 1.0, abs=spread)


@pytest.mark.parametrize("use", ["sgd", "adamw"])
def test_master_copies_train_as_single_precision_does(use: str) -> None:
    ours, wide = half_arena(), Arena.of([("half", nn.Parameter(torch.ones(64))), ("one", nn.Parameter(torch.ones(3)))])
    masters = StageOptimizer(ours, FusedRule(ours, use, {}, precision="master"))
    plain = StageOptimizer(wide, BuiltinRule(wide, use, {}, "default"))
    for step in range(5):
        found = gradients(ours, step)
        masters.step(found, LR)
        plain.step([None if g is None else g.float() for g in found], LR)
    assert torch.equal(ours.views[0], wide.views[0].bfloat16())
    assert_close(torch.as_tensor(masters.state()["parameters"]["half"]["master"]), wide.views[0])


def test_master_copies_travel_in_checkpoints_or_start_from_the_weights() -> None:
    first, second = half_arena(), half_arena(3.0)
    saved = StageOptimizer(first, FusedRule(first, "sgd", {}, precision="master"))
    resumed = StageOptimizer(second, FusedRule(second, "sgd", {}, precision="master"))
    small: Gradients = [torch.full((64,), 2.0**-12).bfloat16(), None]
    for _ in range(3):
        saved.step(small, 1.0)
        resumed.step(small, 1.0)
    second.copy_from(first)
    resumed.load_state(saved.state())
    assert master_of(resumed) == 1 - 3 * 2.0**-12
    without = saved.state()
    del without["parameters"]["half"]["master"]
    resumed.load_state(without)
    resumed.step(small, 1.0)
    assert master_of(resumed) == float(first.views[0][0]) - 2.0**-12


def test_what_somebody_else_writes_replaces_the_master_copy() -> None:
    arena = half_arena()
    optimizer = StageOptimizer(arena, FusedRule(arena, "sgd", {}, precision="master"))
    small: Gradients = [torch.full((64,), 2.0**-12).bfloat16(), None]
    optimizer.step(small, 1.0)
    arena.views[0].fill_(3.0)
    optimizer.step(small, 1.0)
    assert master_of(optimizer) == 3 - 2.0**-12


def master_of(optimizer: StageOptimizer) -> float:
    return float(torch.as_tensor(optimizer.state()["parameters"]["half"]["master"])[0])


def test_plain_rule_refuses_master_copies() -> None:
    arena = half_arena()
    saved = StageOptimizer(arena, FusedRule(arena, "sgd", {}, precision="master"))
    saved.step([torch.ones(64).bfloat16(), None], LR)
    with pytest.raises(CheckpointError, match=r"optimizer state of half: expected .* 'master'"):
        StageOptimizer(arena, FusedRule(arena, "sgd", {})).load_state(saved.state())


@pytest.mark.parametrize(
    ("dtype", "precision", "message"),
    [
        (
            torch.complex64,
            "plain",
            r"updates on CUDA need parameters of torch.float32, .*, found a \(torch.complex64\)",
        ),
        (torch.float8_e4m3fn, "plain", r"found a \(torch.float8_e4m3fn\)"),
        (torch.float16, "stochastic", "stochastic rounding is for bfloat16, found float16 parameters a"),
    ],
)
def test_unsuitable_parameters_are_refused(dtype: torch.dtype, precision: Any, message: str) -> None:
    arena = Arena.of([("a", nn.Parameter(torch.zeros(3).to(dtype)))])
    with pytest.raises(UsageError, match=message):
        FusedRule(arena, "adam", {}, precision=precision)


def test_each_thread_has_numbers_of_its_own() -> None:
    """One thread must not rely on a rate that another one wrote on another stream."""
    ours, fused, theirs, plain = pair("adam", {}, new_arena())
    for step, rate in enumerate([LR, LR, 2 * LR, LR]):
        found = gradients(ours, step)
        worker = threading.Thread(target=fused.step, args=(found, rate))
        worker.start()
        worker.join()
        fused.step(found, LR)
        plain.step(found, rate)
        plain.step(found, LR)
    assert_same_weights(ours, theirs)


def test_rules_over_one_arena_have_states_of_their_own() -> None:
    """The second has taken no step yet."""
    arena = new_arena()
    one, other = FusedRule(arena, "adam", {}), FusedRule(arena, "adam", {})
    one.apply(gradients(arena, 0), LR)

    def steps(states: Sequence[ParameterState]) -> list[object]:
        return [state.get("step") for state in states]

    assert steps(one.parameter_states()) == [1, None, 1, 1]
    assert steps(other.parameter_states()) == [None] * 4


def test_a_rate_is_written_again_after_one_from_the_device() -> None:
    """A captured update copies its rate to the lane at each replay, which no code of the host sees."""
    arena = new_arena()
    rule = FusedRule(arena, "sgd", {})
    optimizer = StageOptimizer(arena, rule)
    optimizer.step(gradients(arena, 0), 0.5)
    on_device: Any = torch.tensor(0.25, dtype=torch.float64)
    optimizer.step(gradients(arena, 1), on_device)
    on_device.fill_(0.125)
    (lane,) = rule._lanes._found.values()
    lane.scalars.view("lr").copy_(on_device)  # what a replay does
    before = [view.clone() for view in arena.views]
    found = gradients(arena, 2)
    optimizer.step(found, 0.5)
    for view, old, gradient in zip(arena.views, before, found, strict=True):
        torch.testing.assert_close(view, old if gradient is None else old - 0.5 * gradient)
