"""Memory per stage: bytes counted by hand, and those of real stages and optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import Report
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizers import OptimizerSpec, make_optimizer
from asyncpipe.runtime.stage import Stage
from asyncpipe.schedule import load
from asyncpipe.schedule.job import read_job
from asyncpipe.tools.fit import Asked, Subject, fit, read_subject
from asyncpipe.tools.fit.memory import Microbatch, other_optimizers, stage_memory
from asyncpipe.training import Trainer

NOTHING = Microbatch(0, 0)


def subject_of(model: nn.Module, sample: Tensor, loss: Any = None) -> Subject:
    spec = OptimizerSpec("sgd", 0.1)
    return Subject("a model", model, sample, lambda _: None, loss or (lambda y, _: y.sum()), spec, "tests")


def activations(subject: Subject, stages: int) -> list[int]:
    found = fit(subject, Asked(load("async-lu"), stages=stages))
    return [stage.activations for stage in found.examined.memory]


def test_activations_are_those_counted_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh())
    # Each stage has its input; of the first the ReLU's output besides, of the second what tanh gave.
    assert activations(subject_of(model, torch.randn(3, 4)), 2) == [4 * 3 * (4 + 8), 4 * 3 * (8 + 2)]
    # In one stage the ReLU's output and the second layer's input are one tensor.
    assert activations(subject_of(model, torch.randn(3, 4)), 1) == [4 * 3 * (4 + 8 + 2)]


def test_activations_are_those_that_real_stages_save() -> None:
    spec = read_job("digits", Report())
    assert spec is not None
    subject = read_subject(spec, ())
    found = fit(subject, Asked(load("pipedream"), stages=3)).examined
    value: Any = subject.sample
    target = subject.target_of(None)
    for number, module in enumerate(found.layers.modules(found.cut)):
        stage = Stage(number, module, 1, False, subject.loss if number == 2 else None)
        stage.forward(0, value, target)  # the first one looks whether the module writes into its input
        value, saved = _saved(stage, value, target)
        assert found.memory[number].activations == saved


def _saved(stage: Stage, value: Any, target: Any) -> tuple[Any, int]:
    """Bytes of the storages that autograd keeps, without parameters, and of the input."""
    kept: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        result = stage.forward(0, value, target)
    kept[stage.inputs(0)[0].untyped_storage().data_ptr()] = stage.inputs(0)[0]
    own = {flat.untyped_storage().data_ptr() for flat in stage.arena.flat.values()}
    own |= {buffer.untyped_storage().data_ptr() for buffer in stage.module.buffers()}
    size = sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in own)
    return result.detach(), size


@pytest.mark.slow
def test_a_large_microbatch_follows_from_a_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = read_job("digits", Report())
    assert spec is not None
    whole = fit(read_subject(spec, ()), Asked(load("pipedream"), stages=3)).examined
    monkeypatch.setattr("asyncpipe.tools.fit.layers._MOST_FLOPS", 0)
    few = fit(read_subject(spec, ()), Asked(load("pipedream"), stages=3)).examined
    assert (len(whole.layers.sample), len(few.layers.sample)) == (32, 4)
    assert few.layers.costs == whole.layers.costs
    assert few.memory == whole.memory


@pytest.mark.parametrize("use", ["sgd", "adam", "nadam", "lion", "muon", "torch.optim.Adam", "torch.optim.Adagrad"])
def test_optimizer_state_is_that_of_a_real_one(use: str) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    spec = OptimizerSpec(use, 0.1, {"momentum": 0.9} if use == "sgd" else {})
    found = stage_memory(compile_schedule(load("sgd"), 1), [model], [NOTHING], spec, cuda=False)[0]
    optimizer = make_optimizer(spec, Arena.of(model.named_parameters()))
    optimizer.step([torch.ones_like(p) for p in model.parameters()], 0.1)
    kept = optimizer.state()["parameters"].values()
    tensors = [value for state in kept for value in state.values() if isinstance(value, Tensor)]
    assert found.optimizer == sum(tensor.nbytes for tensor in tensors)


def test_optimizers_are_compared_for_the_model() -> None:
    found = other_optimizers(nn.Linear(9, 10))
    size = 4 * (9 * 10 + 10)
    assert found["sgd"] == 0
    assert found["sgd with momentum"] == found["lion"] == size
    assert found["adam"] == 2 * size


SCHEDULES = ("async-lu", "pipedream", "pipedream-2bw", "spectrain", "pipemare", "pd-asgd-devices", "ddg")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_copies_are_those_of_a_trainer(schedule: str) -> None:
    layers = [nn.Linear(16, 16, bias=False) for _ in range(3)]
    compiled = compile_schedule(load(schedule), 3)
    modules = [nn.Sequential(layer) for layer in layers]
    found = stage_memory(compiled, modules, [NOTHING] * 3, OptimizerSpec("sgd", 0.1), cuda=False)
    trainer = Trainer(nn.Sequential(*layers), schedule, nn.functional.mse_loss, backend="serial", stages=3)
    trainer.prepare(torch.zeros(2, 16))
    replica = trainer.replicas[0]
    for stage, part in enumerate(replica.parts):
        assert isinstance(part, Stage)
        weights = replica.weights[stage]
        kept = [slot.weights for slot in part._slots]
        kept += [*weights.past, weights.ahead, weights.corrected, *weights.private.values()]
        kept += [replica.updates[stage].read]
        assert found[stage].copies == sum(arena.bytes for arena in kept if arena is not None)
        assert found[stage].parameters == part.arena.bytes


def test_cuda_needs_no_copy_for_each_slot_unless_backwards_read_old_weights() -> None:
    module = nn.Sequential(nn.Linear(16, 16, bias=False))
    for schedule, on_cuda, on_cpu in (("pipemare", 1, 4), ("pipedream", 3, 3)):
        compiled = compile_schedule(load(schedule), 3)
        spec = OptimizerSpec("sgd", 0.1)
        copies = [stage_memory(compiled, [module] * 3, [NOTHING] * 3, spec, cuda)[0].copies for cuda in (True, False)]
        assert copies == [on_cuda * 1024, on_cpu * 1024]


@pytest.mark.parametrize(
    ("schedule", "held"), [("gpipe", 8 * 1000), ("gpipe-recompute", 8 * 100 + 1000), ("petra", 1000)]
)
def test_recomputed_stages_hold_their_inputs(schedule: str, held: int) -> None:
    compiled = compile_schedule(load(schedule), 2)
    modules = [nn.Sequential(nn.Linear(4, 4)) for _ in range(2)]
    found = stage_memory(compiled, modules, [Microbatch(1000, 100)] * 2, OptimizerSpec("sgd", 0.1), cuda=False)[0]
    assert found.held == held
