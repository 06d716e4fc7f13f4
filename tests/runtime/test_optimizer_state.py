"""Optimizer states leave as plain values and come back, in another process as well."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import CheckpointError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizers import OptimizerSpec, OptimizerState, StageOptimizer, make_optimizer

LR = 0.1
SPECS = [
    OptimizerSpec("sgd", LR),
    OptimizerSpec("sgd", LR, {"momentum": 0.9}),
    OptimizerSpec("adam", LR, {"amsgrad": True}),
    OptimizerSpec("adamw", LR, {}, "fused"),
    OptimizerSpec("nadam", LR),
    OptimizerSpec("lion", LR),
    OptimizerSpec("muon", LR),
    OptimizerSpec("muon", LR, {}, "fused"),
    OptimizerSpec("torch.optim.Adagrad", LR),
    OptimizerSpec("torch.optim.RMSprop", LR, {"momentum": 0.9}),
]


def spec_label(spec: OptimizerSpec) -> str:
    return f"{spec.use}-{spec.arithmetic}-{len(spec.options)}"


def new_arena() -> Arena:
    generator = torch.Generator().manual_seed(1)
    shapes = {"weight": (5, 3), "bias": (5,), "unused": (2,)}
    return Arena.of((name, nn.Parameter(torch.randn(shape, generator=generator))) for name, shape in shapes.items())


def gradients(seed: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 3, generator=generator), torch.randn(5, generator=generator), None]


def take_steps(optimizer: StageOptimizer, seeds: range) -> None:
    for seed in seeds:
        optimizer.step(gradients(seed), LR)


def through_a_file(state: OptimizerState) -> OptimizerState:
    """Write and read with the loader that accepts plain values only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: OptimizerState = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("spec", SPECS, ids=spec_label)
def test_loaded_state_continues_as_if_never_interrupted(spec: OptimizerSpec) -> None:
    whole, parts, resumed = new_arena(), new_arena(), new_arena()
    take_steps(make_optimizer(spec, whole), range(6))
    before = make_optimizer(spec, parts)
    take_steps(before, range(3))
    after = make_optimizer(spec, resumed)
    take_steps(after, range(100, 102))  # what it did before must be forgotten
    resumed.copy_from(parts)
    after.load_state(through_a_file(before.state()))
    assert after.count == 3
    take_steps(after, range(3, 6))
    assert after.count == 6
    assert all(map(torch.equal, resumed.views, whole.views))


@pytest.mark.parametrize("spec", SPECS, ids=spec_label)
def test_state_of_the_beginning_can_be_loaded(spec: OptimizerSpec) -> None:
    fresh, restarted = new_arena(), new_arena()
    first = make_optimizer(spec, fresh)
    start = first.state()
    take_steps(first, range(2))
    second = make_optimizer(spec, restarted)
    take_steps(second, range(50, 53))
    second.load_state(start)
    restarted.copy_from(new_arena())
    take_steps(second, range(2))
    assert all(map(torch.equal, restarted.views, fresh.views))


@pytest.mark.parametrize("spec", SPECS, ids=spec_label)
def test_state_is_a_copy(spec: OptimizerSpec) -> None:
    arena = new_arena()
    optimizer = make_optimizer(spec, arena)
    take_steps(optimizer, range(2))
    saved, expected = optimizer.state(), through_a_file(optimizer.state())
    optimizer.load_state(saved)
    take_steps(optimizer, range(2, 4))
    assert saved["count"] == 2
    for name, kept in saved["parameters"].items():
        assert kept.keys() == expected["parameters"][name].keys()
        for key, value in kept.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(expected["parameters"][name][key]))


@pytest.mark.parametrize("use", ["sgd", "adam", "nadam"])
def test_entries_have_the_names_and_values_of_torch(use: str) -> None:
    options: dict[str, Any] = {"momentum": 0.9} if use == "sgd" else {}
    states = []
    for name in (
        use,
        {"sgd": "torch.optim.SGD", "adam": "torch.optim.Adam", "nadam": "torch.optim.NAdam"}[use],
    ):
        optimizer = make_optimizer(OptimizerSpec(name, LR, options), new_arena())
        take_steps(optimizer, range(3))
        states.append(optimizer.state())
    ours, theirs = states
    assert ours["parameters"]["unused"] == theirs["parameters"]["unused"] == {}
    for name in ("weight", "bias"):
        kept = ours["parameters"][name]
        assert kept["step"] == 3
        assert kept.keys() == theirs["parameters"][name].keys() | {"step"}  # SGD of torch keeps no step
        for key, value in theirs["parameters"][name].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(kept[key], dtype=torch.float32))


def test_muon_keeps_the_states_of_two_optimizers_of_torch() -> None:
    optimizer = make_optimizer(OptimizerSpec("muon", LR, {"adamw_lr_ratio": 0.5}), new_arena())
    take_steps(optimizer, range(3))
    kept = optimizer.state()["parameters"]
    assert kept["unused"] == {}
    for name, use, lr in (("weight", "torch.optim.Muon", LR), ("bias", "torch.optim.AdamW", LR / 2)):
        i = ["weight", "bias"].index(name)
        alone = make_optimizer(OptimizerSpec(use, lr), Arena.of([(name, nn.Parameter(new_arena().views[i]))]))
        for seed in range(3):
            alone.step([gradients(seed)[i]], lr)
        expected = alone.state()["parameters"][name] | {"step": 3}
        assert kept[name].keys() == expected.keys()
        assert all(torch.equal(torch.as_tensor(kept[name][key]), torch.as_tensor(expected[key])) for key in expected)


def test_state_of_a_matrix_does_not_fit_a_bias() -> None:
    state = make_optimizer(OptimizerSpec("muon", LR), new_arena()).state()
    optimizer = make_optimizer(OptimizerSpec("muon", LR), new_arena())
    take_steps(optimizer, range(1))
    state["parameters"]["bias"] = optimizer.state()["parameters"]["weight"]
    with pytest.raises(CheckpointError, match="optimizer state of bias: expected entries of shapes"):
        optimizer.load_state(state)


def test_state_of_other_parameters_is_refused() -> None:
    state = make_optimizer(SPECS[0], new_arena()).state()
    other = make_optimizer(SPECS[0], Arena.of(nn.Linear(3, 5).named_parameters()))
    with pytest.raises(CheckpointError, match=r"expected parameters \['weight', 'bias'\], found \['weight', 'bias', "):
        other.load_state(state)


def test_state_of_another_optimizer_is_refused_and_changes_nothing() -> None:
    adam = make_optimizer(OptimizerSpec("adam", LR), new_arena())
    take_steps(adam, range(1))
    sgd = make_optimizer(OptimizerSpec("sgd", LR, {"momentum": 0.9}), new_arena())
    take_steps(sgd, range(2))
    before = sgd.state()
    with pytest.raises(CheckpointError, match="optimizer state of weight: expected entries of shapes"):
        sgd.load_state(adam.state())
    after = sgd.state()
    assert after["count"] == before["count"]
    for name in ("weight", "bias"):
        one, other = (state["parameters"][name]["momentum_buffer"] for state in (before, after))
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


def test_state_of_another_shape_is_refused() -> None:
    spec = OptimizerSpec("sgd", LR, {"momentum": 0.9})
    small, large = (Arena.of([("weight", nn.Parameter(torch.zeros(size)))]) for size in (1, 5))
    optimizer = make_optimizer(spec, small)
    optimizer.step([torch.ones(1)], LR)
    with pytest.raises(CheckpointError, match="optimizer state of weight"):
        make_optimizer(spec, large).load_state(optimizer.state())


def test_state_bytes_are_those_of_the_arenas() -> None:
    arena = Arena.of([("a", nn.Parameter(torch.zeros(3))), ("b", nn.Parameter(torch.zeros(40)))])
    assert arena.bytes == 4 * (16 + 48)

    def state_bytes(use: str, **options: object) -> int:
        return make_optimizer(OptimizerSpec(use, LR, options), arena).state_bytes

    assert state_bytes("sgd") == 0
    assert state_bytes("sgd", momentum=0.9) == arena.bytes
    assert state_bytes("adam") == 2 * arena.bytes
    assert state_bytes("adam", amsgrad=True) == 3 * arena.bytes
    assert state_bytes("nadam") == 2 * arena.bytes + 2 * 4
    assert state_bytes("lion") == arena.bytes


def test_muon_keeps_one_tensor_for_a_matrix_and_two_for_another_parameter() -> None:
    parameters = {"matrix": torch.zeros(40, 3), "filters": torch.zeros(2, 2, 2, 2), "bias": torch.zeros(3)}
    arena = Arena.of((name, nn.Parameter(tensor)) for name, tensor in parameters.items())
    assert make_optimizer(OptimizerSpec("muon", LR), arena).state_bytes == 4 * (128 + 16 + 2 * 16)


def test_state_bytes_of_a_torch_class_are_those_of_its_tensors() -> None:
    arena = Arena.of([("a", nn.Parameter(torch.zeros(3)))])
    optimizer = make_optimizer(OptimizerSpec("torch.optim.RMSprop", LR), arena)
    assert optimizer.state_bytes == 0
    optimizer.step([torch.ones(3)], LR)
    assert optimizer.state_bytes == 3 * 4 + 4
