"""Gradient transforms against torch, closed forms, and the methods that they come from."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.kernels.sgd import sgd
from asyncpipe.kernels.transforms import (
    clip_norm,
    compensate_delay,
    corrected,
    drift,
    drift_decay,
    predict,
    shrink,
    spike_coefficients,
    staleness_rate,
)

SIZES = [1, 17, 1000]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def draw(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(size).to(dtype) for size in SIZES]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_new_lists_of_the_same_dtype_are_returned(dtype: torch.dtype) -> None:
    first, second, third = draw(dtype), draw(dtype), draw(dtype)
    before = [tensor.clone() for tensor in [*first, *second, *third]]
    results = [
        shrink(first, 0.5),
        clip_norm(first, 0.1),
        compensate_delay(first, second, third, 0.5),
        predict(first, second, 0.1, 2),
        corrected(first, second, 2),
    ]
    assert all(map(torch.equal, [*first, *second, *third], before))
    for result in results:
        assert [tensor.dtype for tensor in result] == [dtype] * len(SIZES)
        assert not any(map(torch.equal, result, first))


def test_empty_lists_stay_empty() -> None:
    drift([], [], [], 0.5)
    assert shrink([], 0.5) == clip_norm([], 1.0) == compensate_delay([], [], [], 1.0) == []
    assert predict([], [], 0.1, 1) == corrected([], [], 1) == []


def test_shrinking_multiplies() -> None:
    assert_close(shrink([torch.tensor([4.0, -2.0])], 0.25), [torch.tensor([1.0, -0.5])])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("limit", [0.1, 1e3])
def test_clipping_has_the_bits_of_torch(limit: float, dtype: torch.dtype) -> None:
    parameters = [nn.Parameter(tensor) for tensor in draw(dtype)]
    gradients = draw(dtype)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(parameters, limit)
    for parameter, result in zip(parameters, clip_norm(gradients, limit), strict=True):
        assert parameter.grad is not None
        assert torch.equal(result, parameter.grad)


def test_clipping_takes_one_norm_over_tensors_of_all_dtypes() -> None:
    found = clip_norm([torch.tensor([3.0]), torch.tensor([4.0], dtype=torch.float64)], 1.0)
    assert [tensor.dtype for tensor in found] == [torch.float32, torch.float64]
    assert [tensor.item() for tensor in found] == pytest.approx([0.6, 0.8], rel=1e-6)


def test_clipping_spreads_nan_as_torch_does() -> None:
    assert clip_norm([torch.tensor([math.nan]), torch.ones(2)], 1.0)[1].isnan().all()


def test_delay_compensation_is_the_gradient_at_the_live_weights_where_its_model_is_exact() -> None:
    """DC-ASGD takes g * g for the Hessian, as it is for the loss -log w: g = -1 / w, g' = 1 / w^2."""
    read = torch.linspace(1, 3, 9, dtype=torch.float64)
    live = read + 1e-4
    (found,) = compensate_delay([-1 / read], [live], [read], 1.0)
    assert (found + 1 / live).abs().max() < 1.1e-8 < (1 / live - 1 / read).abs().min()


def test_delay_compensation_follows_its_equation() -> None:
    gradients, weights, read = draw(), draw(), draw()
    found = compensate_delay(gradients, weights, read, 0.3)
    lists = zip(gradients, weights, read, strict=True)
    assert_close(found, [g + 0.3 * g.square() * (w - old) for g, w, old in lists])


@pytest.mark.parametrize(
    ("staleness", "power", "rate"),
    [(0, 1, 0.1), (1, 1, 0.1), (4, 1, 0.025), (4, 0.5, 0.05), (4, 0, 0.1), (0.5, 2, 0.1)],
)
def test_rate_falls_with_staleness_above_one(staleness: float, power: float, rate: float) -> None:
    assert staleness_rate(0.1, staleness, power) == pytest.approx(rate, rel=1e-15)


def test_spike_coefficients_sum_the_momentum_that_was_missed() -> None:
    """b = 1 + m + ... + m^(D-1), what a velocity of 1 that decays would have added in D updates; a is what is left."""
    for delay in range(6):
        kept, missed = spike_coefficients(0.9, delay)
        assert kept == 0.9**delay
        assert missed == pytest.approx(sum(0.9**past for past in range(delay)), rel=1e-14)
    assert spike_coefficients(0.0, 3) == (0.0, 1.0)


@pytest.mark.parametrize(("momentum", "delay"), [(1.0, 1.0), (-0.1, 1.0), (0.9, -1.0), (math.nan, 1.0)])
def test_spike_coefficients_of_no_meaning_are_refused(momentum: float, delay: float) -> None:
    with pytest.raises(ValueError, match=r"expected a momentum in \[0, 1\) and a delay of at least 0"):
        spike_coefficients(momentum, delay)


def test_prediction_is_exact_while_the_direction_stays() -> None:
    weights, velocity = draw(), draw()
    ahead = predict(weights, velocity, 0.1, 3)
    for _ in range(3):
        sgd(weights, velocity, [], [1] * len(SIZES), lr=0.1)
    assert_close(ahead, weights)


def test_drift_is_the_moving_average_of_the_changes() -> None:
    """From zero, after changes c1, c2, c3: (1 - decay) * (decay^2 c1 + decay c2 + c3)."""
    versions = [draw() for _ in range(4)]
    drifts = [torch.zeros_like(tensor) for tensor in versions[0]]
    for old, new in itertools.pairwise(versions):
        drift(drifts, old, new, 0.7)
    for found, w0, w1, w2, w3 in zip(drifts, *versions, strict=True):
        torch.testing.assert_close(
            found, 0.3 * (0.49 * (w1 - w0) + 0.7 * (w2 - w1) + (w3 - w2)), rtol=1e-13, atol=1e-15
        )


def test_correction_finds_the_weights_that_the_forward_read_while_the_drift_is_steady() -> None:
    """w moves by c in each update; once the average has settled at c, w - horizon * d is w of `horizon` ago."""
    change = torch.tensor([1.0, -0.5], dtype=torch.float64)
    weights = [number * change for number in range(101)]
    drifts = [torch.zeros_like(change)]
    for old, new in itertools.pairwise(weights):
        drift(drifts, [old], [new], drift_decay(5, 1))
    (found,) = corrected([weights[100]], drifts, 5 - 1)
    torch.testing.assert_close(found, weights[96], rtol=1e-10, atol=0)


def test_decay_of_the_drift_forgets_as_much_within_the_delay_at_every_stage() -> None:
    for gap in (0.25, 1, 7):
        assert drift_decay(gap + 2, 2) ** gap == pytest.approx(math.exp(-2), rel=1e-14)
        assert drift_decay(gap + 2, 2, base=0.3) ** gap == pytest.approx(0.3, rel=1e-14)
    assert drift_decay(2, 2) == 0.0


@pytest.mark.parametrize(("forward", "backward", "base"), [(1, 2, 0.1), (2, 1, 0.0), (2, 1, 1.0)])
def test_decay_of_the_drift_of_no_meaning_is_refused(forward: float, backward: float, base: float) -> None:
    with pytest.raises(ValueError, match=r"expected a base in \(0, 1\) and a forward delayed no less"):
        drift_decay(forward, backward, base)
