"""The probe of the gradient, on a quadratic whose constants are known, and on networks that it must leave alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import Trainer
from asyncpipe.training.gradient_bias import gradient_summary, probe
from asyncpipe.training.gradient_probe import GradientProbe
from tests.networks import batches, built

CURVATURES = torch.tensor([0.5, 4.0, 2.0])


class Quadratic(nn.Module):
    """1/2 sum_i c_i (theta_i - x_i)^2 for the input x: its gradient is c (theta - x)."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return (CURVATURES * (self.theta - x) ** 2).sum() / 2


def the_output(output: Tensor, target: Tensor) -> Tensor:
    return output


def pairs(*inputs: list[float]) -> list[tuple[Tensor, Tensor]]:
    return [(torch.tensor(values), torch.zeros(1)) for values in inputs]


def test_constants_of_a_quadratic_are_found() -> None:
    data = pairs([0.0, 0.0, 0.0], [0.0, 0.0, 2.0])
    moves = [[torch.tensor([0.0, 0.5, 0.0])], [torch.tensor([0.0, 0.0, -1.0])]]
    found = GradientProbe(Quadratic(), the_output).constants(data, moves, 0.25)
    assert found is not None
    # The gradients are (.5, 8, 6) and (.5, 8, 2); those moves change them by (0, 2, 0) and (0, 0, -2).
    assert found.gradient == pytest.approx(math.sqrt(0.25 + 64 + 16))
    assert found.sigma_sgd == pytest.approx(math.sqrt(8), rel=1e-4)
    assert found.sigma_stale == pytest.approx(2.0, rel=1e-4)
    assert 3.9 < found.lipschitz <= 4.0 + 1e-5
    assert (found.batches, found.distance) == (2, 0.25)


def test_a_vanishing_gradient_has_no_direction() -> None:
    assert GradientProbe(Quadratic(), the_output).constants(pairs([1, 2, 3], [1, 2, 3]), []) is None


@pytest.mark.parametrize("name", ["convnet", "dropout"])
def test_probing_leaves_weights_buffers_and_random_numbers_alone(name: str) -> None:
    model = built(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    first = GradientProbe(model, cross_entropy).constants(batches(4), [])
    assert first is not None
    assert first == GradientProbe(model, cross_entropy).constants(batches(4), [])
    assert first.sigma_stale is None
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_frozen_parameters_are_left_out() -> None:
    model = built("mlp")
    next(model.parameters()).requires_grad_(False)
    trainer = Trainer(model, "async-lu", backend="serial", stages=2, measure_every=2)
    trainer.fit(batches(12))
    assert probe(trainer, batches(4)) is not None


def test_bounds_of_a_run_follow_from_its_constants() -> None:
    trainer = Trainer(
        built("mlp"), "async-lu", optimizer={"use": "sgd", "lr": 1e-4}, backend="serial", stages=3, measure_every=1
    )
    trainer.fit(batches(30))
    constants = probe(trainer, batches(4))
    assert constants is not None
    found = gradient_summary([constants], trainer.divergence)
    assert found is not None
    x = found["lipschitz"] * 1e-4 * 2
    assert found["bias_bound"] == pytest.approx(found["norm_max"] * x / (1 - x))
    # The weights moved at most two steps of lr G, so the second bound is the sharper one.
    assert 0 < found["bias_from_divergence"] < found["bias_bound"]
    assert 0 < found["sigma_stale_over_sgd"] < 0.1


def test_local_losses_are_not_probed() -> None:
    trainer = Trainer(built("mlp"), "dgl", backend="serial", measure_every=1)
    trainer.fit(batches(12))
    assert probe(trainer, batches(4)) is None
    assert gradient_summary([], trainer.divergence) is None
