"""Types, autocast and memory format of a training: the numbers of the plain loop that does the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from asyncpipe.runtime.numerics import NUMERICS, Numerics, read_numerics
from asyncpipe.schedule import job
from tests.networks import assert_same_state, batches, built

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}
BF16 = torch.bfloat16


def autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", BF16)


def loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    take: Callable[[Tensor], Tensor] = torch.clone,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> list[float]:
    losses = []
    for x, y in batches(6):
        optimizer.zero_grad()
        with around():
            loss = cross_entropy(model(take(x)).float(), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def momentum(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, foreach=False)


def trained(
    model: nn.Module, schedule: str = "sgd", optimizer: Any = SGD, backend: str = "serial", **words: str
) -> Any:
    trainer = Trainer(model, schedule, cross_entropy, optimizer, backend, 2, intra_op_threads=1, numerics=words)
    return trainer, list(trainer.fit(batches(6)).losses)


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_autocast_is_that_of_the_plain_loop(backend: str) -> None:
    model, reference = built("convnet"), built("convnet")
    expected = loop(reference, momentum(reference), around=autocast)
    trainer, losses = trained(model, backend=backend, autocast="bf16")
    assert losses == expected
    assert_same_state(model, reference)
    with autocast(), torch.no_grad():
        reference.eval()
        found = sum(cross_entropy(reference(x), y).item() * len(y) for x, y in batches(4)) / 28
    assert trainer.evaluate(batches(4))["loss"] == found


def test_bfloat16_weights_with_master_copies_are_those_of_the_plain_loop() -> None:
    model, reference = built("mlp"), built("mlp").to(BF16)
    masters = [nn.Parameter(parameter.detach().float()) for parameter in reference.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.05, momentum=0.9, foreach=False)
    for x, y in batches(6):
        gradients = torch.autograd.grad(cross_entropy(reference(x.to(BF16)).float(), y), list(reference.parameters()))
        for master, gradient in zip(masters, gradients, strict=True):
            master.grad = gradient.float()
        optimizer.step()
        for parameter, master in zip(reference.parameters(), masters, strict=True):
            parameter.data.copy_(master.data)
    before = built("mlp").to(BF16)
    trainer, _ = trained(model, optimizer=SGD | {"precision": "master"}, dtype="bf16")
    assert_same_state(model, reference)
    assert {parameter.dtype for parameter in model.parameters()} == {BF16}
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before.parameters(), strict=True))
    assert trainer.evaluate(batches(4))["accuracy"] is not None


def test_plain_bfloat16_is_that_of_the_plain_loop() -> None:
    model, reference = built("convnet"), built("convnet").to(BF16)
    expected = loop(reference, momentum(reference), lambda x: x.to(BF16))
    assert trained(model, dtype="bf16")[1] == expected
    assert_same_state(model, reference)
    counters = [buffer for buffer in model.buffers() if not buffer.is_floating_point()]
    assert counters
    assert {buffer.dtype for buffer in counters} == {torch.int64}


@pytest.mark.parametrize("use", ["sgd", "adamw", "muon"])
def test_channels_last_is_that_of_the_plain_loop_and_stays(use: str) -> None:
    model, reference = built("convnet"), built("convnet")
    optimizer = SGD if use == "sgd" else {"use": use, "lr": 0.01}
    reference.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if use == "sgd":
        expected = loop(reference, momentum(reference), lambda x: x.contiguous(memory_format=torch.channels_last))
        _, losses = trained(model, memory_format="channels_last")
        assert losses == expected
        assert_same_state(model, reference)
    else:
        contiguous = built("convnet")
        _, expected = trained(contiguous, optimizer=optimizer)
        _, losses = trained(model, optimizer=optimizer, memory_format="channels_last")
        assert losses == pytest.approx(expected, rel=1e-4)
    weights = [p for p in model.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    assert [p.stride() for p in weights] == [p.stride() for p in reference.parameters() if p.dim() == 4]


@pytest.mark.parametrize("use", ["sgd", "adamw", "muon"])
def test_states_of_channels_last_weights_go_on_where_they_were(use: str) -> None:
    """What a checkpoint keeps: weights and states by name, whatever their order in memory."""
    optimizer = {"use": use, "lr": 0.01}
    first, _ = trained(built("convnet"), optimizer=optimizer, memory_format="channels_last")
    model = built("convnet")
    model.load_state_dict(copy.deepcopy(first.model.state_dict()))
    second = Trainer(model, "sgd", cross_entropy, optimizer, "serial", 2, intra_op_threads=1)
    second.prepare(batches(1)[0][0])
    for old, new in zip(first.replicas[0].updates, second.replicas[0].updates, strict=True):
        new.optimizers[None].load_state(old.optimizers[None].state())
    # The states came from the order of channels_last into that of contiguous weights.
    assert list(second.fit(batches(3)).losses) == pytest.approx(list(first.fit(batches(3)).losses), rel=1e-4)


def test_asynchronous_schedules_take_all_of_it_at_once() -> None:
    words = {"autocast": "bf16", "dtype": "bf16", "memory_format": "channels_last"}
    optimizer = {"use": "adamw", "lr": 0.01, "precision": "stochastic"}
    _, losses = trained(built("convnet"), "async-lu", optimizer, **words)
    assert losses == trained(built("convnet"), "async-lu", optimizer, **words)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"autocast": "fp16"}, "autocast must be none or bf16, found 'fp16'"),
        ({"autocats": "bf16"}, "numerics has no key 'autocats'"),
        ({"dtype": True}, "dtype must be preserve or bf16, found True"),
        (
            {"compile": "inductor"},
            "compile: inductor is for traced stages, and serial runs stages by the autograd engine",
        ),
        ("bf16", "numerics: expected a mapping, found str"),
    ],
)
def test_what_nobody_knows_is_refused(words: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Trainer(built("mlp"), "sgd", backend="serial", numerics=words)


def test_a_job_knows_the_same_words() -> None:
    assert job.NUMERICS == NUMERICS
    assert read_numerics(job.TrainSpec().numerics) == Numerics()
