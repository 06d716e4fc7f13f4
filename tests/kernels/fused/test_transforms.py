"""What is done to the gradient and to the learning rate in the pass of the update."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from asyncpipe.kernels.fused.buffers import Buffers
from asyncpipe.kernels.fused.grid import Grid
from asyncpipe.kernels.fused.options import TRANSFORMS, Options, Transform
from tests.kernels.fused.memory import SMALL, Memory, relative_error, same_bits
from tests.kernels.fused.reference import Reference
from tests.kernels.fused.variants import ADAPTIVE, MOMENTUM

ORDERS = [order for count in range(4) for order in itertools.permutations(TRANSFORMS, count)]
NUMBERS = MOMENTUM | {"scale": 0.25, "shrink": 0.5, "clip_norm": 0.5, "delay_compensation": 2.0}


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_transforms_are_applied_in_the_order_of_the_options(memory: Memory, order: tuple[Transform, ...]) -> None:
    options = Options(transforms=order, momentum=True)
    weights, read = memory.place(torch.randn(40)), memory.place(torch.randn(40))
    reference = Reference("sgd", options, NUMBERS, weights)
    update = memory.update("sgd", options, NUMBERS, Buffers(weights, read=read))
    for _ in range(2):
        gradient = memory.place(torch.randn(40))
        update.flat(gradient)
        reference.update(gradient, read)
    assert relative_error(weights, reference.weights) <= 1e-6


def test_all_orders_of_three_give_different_results() -> None:
    """Else the test above would show nothing."""
    values, read, gradient = (torch.randn(40) for _ in range(3))
    found = set()
    for order in itertools.permutations(TRANSFORMS):
        reference = Reference("sgd", Options(transforms=order), NUMBERS, values)
        reference.update(gradient, read)
        found.add(round(float(reference.weights.sum()), 6))
    assert len(found) == 6


@pytest.mark.parametrize(
    ("rule", "transforms"), [("sgd", ()), ("sgd", ("delay_compensation", "clip_norm")), ("nadam", ("shrink",))], ids=str
)
def test_maximize_follows_the_negative_gradient(memory: Memory, rule: str, transforms: tuple[Transform, ...]) -> None:
    numbers = NUMBERS | ADAPTIVE
    values, read, gradient = (torch.randn(20) for _ in range(3))
    found = []
    for sign, maximize in ((1.0, True), (-1.0, False)):
        weights = memory.place(values)
        options = Options(maximize=maximize, transforms=transforms)
        update = memory.update(rule, options, numbers, Buffers(weights, read=memory.place(read)))
        update.flat(memory.place(sign * gradient))
        found.append(weights)
    assert same_bits(*found)
    assert not torch.equal(found[0].cpu(), values)


@pytest.mark.parametrize("limit", [0.5, 1e3, math.inf])
def test_clip_is_that_of_torch(memory: Memory, limit: float) -> None:
    parameters = [torch.nn.Parameter(torch.randn(n)) for n in (48, 16, 36)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    weights = memory.place(torch.cat([parameter.detach() for parameter in parameters]))
    gradient = memory.place(torch.cat([parameter.grad for parameter in parameters if parameter.grad is not None]))
    memory.update("sgd", Options(transforms=("clip_norm",)), {"lr": 1.0, "clip_norm": limit}, weights).flat(gradient)
    torch.nn.utils.clip_grad_norm_(parameters, limit)
    torch.optim.SGD(parameters, lr=1.0).step()
    assert relative_error(weights, torch.cat([parameter.detach() for parameter in parameters])) <= 1e-6


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_clip_of_a_norm_that_is_not_finite_is_that_of_torch(memory: Memory, value: float) -> None:
    parameter = torch.nn.Parameter(torch.randn(40))
    parameter.grad = torch.randn(40)
    parameter.grad[21] = value
    weights = memory.place(parameter.detach())
    update = memory.update("sgd", Options(transforms=("clip_norm",)), {"lr": 1.0, "clip_norm": 1.0}, weights)
    update.flat(memory.place(parameter.grad))
    torch.nn.utils.clip_grad_norm_([parameter], 1.0)
    torch.optim.SGD([parameter], lr=1.0).step()
    torch.testing.assert_close(weights.cpu(), parameter.detach(), equal_nan=True)


def test_norm_of_65_537_elements(memory: Memory) -> None:
    gradient = torch.randn(65_537)
    options, numbers = Options(transforms=("shrink", "clip_norm")), {"shrink": 0.5, "clip_norm": 1.0}
    update = memory.update("sgd", options, numbers, memory.full(65_537, 0.0), grid=Grid(5, 8192))
    update.flat(memory.place(gradient))
    norm = update.counters.norm
    assert math.isclose(math.sqrt(norm.item()), 0.5 * float(gradient.double().norm()), rel_tol=1e-7)


@pytest.mark.parametrize("staleness", [0.0, 0.5, 1.0, 2.5, 64.0])
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_rate_is_divided_by_a_power_of_the_given_staleness(memory: Memory, staleness: float, power: float) -> None:
    numbers = ADAPTIVE | {"staleness": staleness, "staleness_power": power, "weight_decay": 5.0}
    options = Options(lr_over_staleness=True, decay="decoupled")
    weights, gradient = memory.place(torch.randn(16, dtype=torch.float64)), torch.randn(16, dtype=torch.float64)
    reference = Reference("lion", options, numbers, weights)
    memory.update("lion", options, numbers, weights).flat(memory.place(gradient))
    reference.update(gradient)
    assert relative_error(weights, reference.weights) <= 1e-14


@pytest.mark.parametrize(("version", "reads"), [(9, (2,)), (9, (9,)), (9, (1, 2, 4)), (3, (0, 3, 3, 2))])
def test_rate_is_divided_by_the_mean_staleness_that_was_measured(
    memory: Memory, version: int, reads: tuple[int, ...]
) -> None:
    """The scalar is then not read."""
    numbers = MOMENTUM | {"staleness": math.nan, "staleness_power": 1.0}
    options = Options(lr_over_staleness=True, momentum=True)
    weights, gradient = memory.place(torch.randn(16, dtype=torch.float64)), torch.randn(16, dtype=torch.float64)
    reference = Reference("sgd", options, numbers, weights)
    counters = {"version": memory.integers(version), "reads": memory.integers(*reads)}
    memory.update("sgd", options, numbers, weights, counters=counters).flat(memory.place(gradient))
    reference.update(gradient, staleness=version - sum(reads) / len(reads))
    assert relative_error(weights, reference.weights) <= 1e-14


def test_measured_staleness_falls_as_later_versions_are_read(memory: Memory) -> None:
    """With the same reads, each update is one version more stale than the one before it."""
    numbers = {"lr": 1.0, "staleness_power": 1.0}
    weights = memory.full(16, 0.0, torch.float64)
    counters = {"version": memory.integers(0), "reads": memory.integers(0)}
    update = memory.update("sgd", Options(lr_over_staleness=True), numbers, weights, counters=counters, grid=SMALL)
    for _ in range(4):
        update.flat(memory.full(16, -1.0, torch.float64))
    expected = torch.full((16,), 1 + 1 + 1 / 2 + 1 / 3, dtype=torch.float64)
    assert relative_error(weights, expected) <= 1e-14
