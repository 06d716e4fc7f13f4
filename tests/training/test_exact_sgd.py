"""A schedule without staleness gives the parameters of plain PyTorch bit for bit: same losses, same buffers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from asyncpipe import Trainer
from tests.networks import NETWORKS, assert_same_state, batches, built, plain_loop

SGD: list[tuple[dict[str, Any], Any]] = [
    ({"use": "sgd", "lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1)),
    (
        {"use": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    ),
]
OTHERS: list[tuple[dict[str, Any], Any]] = [
    ({"use": "adam", "lr": 1e-2}, lambda p: torch.optim.Adam(p, lr=1e-2)),
    ({"use": "adamw", "lr": 1e-2}, lambda p: torch.optim.AdamW(p, lr=1e-2)),
    ({"use": "nadam", "lr": 1e-2}, lambda p: torch.optim.NAdam(p, lr=1e-2)),
    ({"use": "torch.optim.Adagrad", "lr": 1e-2}, lambda p: torch.optim.Adagrad(p, lr=1e-2)),
    (
        {"use": "sgd", "lr": 0.05, "momentum": 0.9, "arithmetic": "fused"},
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    ),
]


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize(
    ("backend", "schedule"), [("serial", "sgd"), ("serial", "sgd-ready"), ("threads", "sgd"), ("threads", "sgd-ready")]
)
@pytest.mark.parametrize("optimizer", SGD, ids=["plain", "nesterov"])
@pytest.mark.parametrize("network", NETWORKS)
def test_parameters_equal_those_of_the_plain_loop(
    network: str, optimizer: tuple[dict[str, Any], Any], backend: str, schedule: str, stages: int
) -> None:
    if network == "dropout" and stages == 3:
        pytest.skip("the network with dropout has two layers")
    options, reference_optimizer = optimizer
    data = batches(9)
    reference, model = built(network), built(network)
    expected = plain_loop(reference, data, reference_optimizer)
    torch.manual_seed(5)
    report = Trainer(model, schedule, optimizer=options, backend=backend, stages=stages, intra_op_threads=1).fit(data)
    assert list(report.losses) == expected
    assert_same_state(model, reference)


@pytest.mark.parametrize(
    ("options", "reference_optimizer"), OTHERS, ids=lambda v: v["use"] if isinstance(v, dict) else ""
)
def test_other_optimizers_equal_torch_too(options: dict[str, Any], reference_optimizer: Any) -> None:
    data = batches(9)
    reference, model = built("convnet"), built("convnet")
    expected = plain_loop(reference, data, reference_optimizer)
    report = Trainer(model, "sgd-ready", optimizer=options, backend="serial", stages=3).fit(data)
    assert list(report.losses) == expected
    assert_same_state(model, reference)


def test_several_fits_equal_one_loop() -> None:
    data = batches(12)
    reference, model = built("convnet"), built("convnet")
    plain_loop(reference, data, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    trainer = Trainer(model, "sgd", optimizer={"use": "sgd", "lr": 0.05, "momentum": 0.9}, backend="threads", stages=2)
    trainer.intra_op_threads = 1
    for part in (data[:5], data[5:6], data[6:]):
        trainer.fit(part)
        trainer.evaluate(part)
    assert trainer.updates == 12
    assert_same_state(model, reference)


def test_a_split_backward_gives_the_same_gradients() -> None:
    """I and W halves: `sgd-overlap` in small."""
    data = batches(6)
    reference, model = built("convnet"), built("convnet")
    plain_loop(reference, data, lambda p: torch.optim.SGD(p, lr=0.05))
    schedule = load_schedule(
        "streams: {main: {runs: [F, I]}, side: {runs: [W, U]}}\nrules: ['F[s, m] after U[s, g-1]']"
    )
    Trainer(model, schedule, optimizer={"use": "sgd", "lr": 0.05}, backend="threads", stages=3, intra_op_threads=1).fit(
        data
    )
    assert_same_state(model, reference)


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_autocast_around_a_fit_sees_every_update(backend: str) -> None:
    """torch caches cast weights until the outermost autocast ends, here with the fit; threads do not inherit it."""
    data = batches(9)
    reference, model = built("mlp"), built("mlp")
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    expected = []
    for x, y in data:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(reference(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        options = {"use": "sgd", "lr": 0.1}
        trainer = Trainer(model, "sgd", optimizer=options, backend=backend, stages=3, intra_op_threads=1)
        report = trainer.fit(data)
    assert list(report.losses) == expected
    assert_same_state(model, reference)


def load_schedule(text: str) -> Any:
    from asyncpipe.schedule import load_text
    from asyncpipe.schedule.source import Report

    report = Report()
    schedule = load_text(f"asyncpipe: 1\n{text}\n", "inline.yaml", report)
    assert schedule is not None, report.diagnostics
    return schedule


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_accumulated_gradients_are_reduced_as_stated(reduce: str) -> None:
    """every: 3 over 8 microbatches: two full updates and a short one that divides by its own size."""
    data = batches(8)
    reference, model = built("mlp"), built("mlp")
    parameters = list(reference.parameters())
    for first in range(0, 8, 3):
        group = data[first : first + 3]
        parts = [torch.autograd.grad(torch.nn.functional.cross_entropy(reference(x), y), parameters) for x, y in group]
        for parameter, *gradients in zip(parameters, *parts, strict=True):
            total = gradients[0]
            for gradient in gradients[1:]:
                total = total + gradient
            parameter.data.add_(total / len(group) if reduce == "mean" and len(group) > 1 else total, alpha=-0.1)
    schedule = load_schedule(
        "streams: {main: {runs: [F, B, U]}}\nrules: ['F[0, m] after U[*, g-1]']\n"
        f"update: {{every: 3, reduce: {reduce}}}"
    )
    trainer = Trainer(model, schedule, optimizer={"use": "sgd", "lr": 0.1}, backend="serial", stages=2)
    trainer.fit(data)
    assert trainer.updates == 3
    assert_same_state(model, reference)
