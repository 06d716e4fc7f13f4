"""Means against staleness: nothing where there is none to correct, else what their papers write.

In double precision to 1e-12: `Trainer` keeps the direction of a step apart, and so rounds elsewhere than torch.optim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe.schedule import Schedule, load
from tests.semantics.plain import (
    MOMENTUM,
    Batch,
    Rule,
    Versions,
    Weights,
    assert_near,
    batches,
    copied,
    network,
    parsed,
    sgd,
    stale_gradients,
    trained,
    whole_gradients,
)

STAGES = 3
SYNCHRONOUS = "streams: {main: {runs: [F, B, U]}}\nrules: ['F[0, m] after U[*, g-1]']\n"


def double(count: int) -> tuple[nn.Sequential, list[Batch]]:
    return network(STAGES, torch.float64), batches(count, torch.float64)


def ages(versions: Versions) -> range:
    """Of 1F1B without a flush, by stage."""
    return range(versions.last, -1, -1)


def synchronous(text: str) -> Schedule:
    return parsed(SYNCHRONOUS + text)


@pytest.mark.parametrize(
    "text",
    [
        "gradient: [{spike: true}]",
        "weights: {forward: predict}",
        "weights: {backward: ema(1/2)}",
        "gradient: [{delay_compensation: 1}]",
        "gradient: [{lr_over_staleness: 1}]",
        "gradient: [{clip_norm: 1000}]",
    ],
)
def test_without_delay_a_correction_leaves_momentum_sgd(text: str) -> None:
    model, data = double(6)
    versions = Versions(model, sgd())
    for x, y in data:
        for k, gradient in enumerate(whole_gradients([versions.newest(k) for k in range(STAGES)], x, y)):
            versions.step(k, gradient)
    trained(model, synchronous(text), data)
    assert_near(model, versions.live)


@pytest.mark.parametrize("name", ["async-lu", "dc-asgd"])
def test_compensation_of_strength_zero_changes_nothing(name: str) -> None:
    models = []
    for gradient in ("[]", "[{delay_compensation: 0}]"):
        model, data = double(12)
        trained(model, load(name, [f"gradient={gradient}"]), data)
        models.append(model)
    assert_near(models[0], [list(models[1].parameters())])


@pytest.mark.parametrize("strength", ["1/25", "3"])
def test_dc_asgd_adds_the_curvature_along_what_others_did_meanwhile(strength: str) -> None:
    """Four workers pull the same weights w'; one after another applies g + lambda g g (w - w')."""
    model, data = double(12)
    versions, factor = Versions(model, sgd(momentum=0.0)), 0.04 if strength == "1/25" else 3.0
    for first in range(0, len(data), 4):
        pulled = [versions.newest(k) for k in range(STAGES)]
        for x, y in data[first : first + 4]:
            for k, gradient in enumerate(whole_gradients(pulled, x, y)):
                terms = zip(gradient, versions.newest(k), pulled[k], strict=True)
                versions.step(k, [g + factor * g * g * (w - w_pulled) for g, w, w_pulled in terms])
    trained(model, load("dc-asgd", [f"gradient=[{{delay_compensation: {strength}}}]"]), data, {"use": "sgd", "lr": 0.1})
    assert_near(model, versions.live)


@pytest.mark.parametrize("limit", [0.05, 0.4])
def test_norms_are_clipped_stage_by_stage(limit: float) -> None:
    model, data = double(6)
    reference = network(STAGES, torch.float64)
    layers = [layer for layer in reference if isinstance(layer, nn.Linear)]
    optimizer, clipped = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9), 0
    for x, y in data:
        optimizer.zero_grad()
        cross_entropy(reference(x), y).backward()
        clipped += sum(float(nn.utils.clip_grad_norm_(layer.parameters(), limit)) > limit for layer in layers)
        optimizer.step()
    assert clipped > len(data)
    trained(model, synchronous(f"gradient: [{{clip_norm: {limit}}}]"), data)
    assert_near(model, [list(reference.parameters())])


def by_age(power: float) -> Rule:
    """PipeMare T1: the learning rate of each stage over staleness ** power."""
    return lambda k, parameters: sgd(0.1 / max(1, STAGES - 1 - k) ** power)(k, parameters)


@pytest.mark.parametrize(("text", "power"), [("1", 1.0), ("1/2", 0.5)])
def test_the_learning_rate_is_divided_by_a_power_of_the_age(text: str, power: float) -> None:
    model, data = double(9)
    versions = Versions(model, by_age(power))
    for m, (x, y) in enumerate(data):
        read = [versions.read(k, m - age) for k, age in enumerate(ages(versions))]
        for k, gradient in enumerate(whole_gradients(read, x, y)):
            versions.step(k, gradient)
    trained(model, load("pipedream", [f"gradient=[{{lr_over_staleness: {text}}}]"]), data)
    assert_near(model, versions.live)


def without_stash(versions: Versions, data: list[Batch], at_forward: Read, at_backward: Read) -> None:
    """1F1B: F[k, m] is `age` updates behind B[k, m], which the update of microbatch m follows at once."""
    for m, (x, y) in enumerate(data):
        read = [at_forward(k, max(0, m - age)) for k, age in enumerate(ages(versions))]
        now = [at_backward(k, m) for k in range(versions.last + 1)]
        for k, gradient in enumerate(stale_gradients(read, now, x, y)):
            versions.step(k, gradient)


Read = Callable[[int, int], Weights]


def test_pipemare_goes_back_through_an_estimate_of_what_the_forward_read() -> None:
    """T2: delta <- gamma delta + (1 - gamma) (w_new - w_old); the backward reads w - age * delta. T1 beside it."""
    model, data = double(12)
    versions = Versions(model, by_age(1.0))

    def corrected(k: int, version: int) -> Weights:
        drift = [torch.zeros_like(w) for w in versions.read(k, 0)]
        for v in range(version):
            steps = zip(drift, versions.read(k, v + 1), versions.read(k, v), strict=True)
            drift = [0.5 * d + 0.5 * (new - old) for d, new, old in steps]
        return [w - (STAGES - 1 - k) * d for w, d in zip(versions.read(k, version), drift, strict=True)]

    without_stash(versions, data, versions.read, corrected)
    trained(model, "pipemare", data)
    assert_near(model, versions.live)


def with_velocities(kept: list[list[Weights]]) -> Rule:
    """Momentum SGD by hand; `kept[k][v]` is the velocity of stage k after v updates."""

    def rule(stage: int, parameters: list[nn.Parameter]) -> Callable[[Sequence[Tensor]], None]:
        kept.append([[torch.zeros_like(p.data) for p in parameters]])

        def apply(gradients: Sequence[Tensor]) -> None:
            velocity = [0.9 * v + g for v, g in zip(kept[stage][-1], gradients, strict=True)]
            kept[stage].append(copied(velocity))
            for parameter, v in zip(parameters, velocity, strict=True):
                parameter.data -= 0.1 * v

        return apply

    return rule


def test_spectrain_goes_forward_with_the_weights_that_momentum_promises() -> None:
    """w - lr * age * v, by the updates that are to come before its own; the backward reads the weights of now."""
    model, data = double(12)
    velocities: list[list[Weights]] = []
    versions = Versions(model, with_velocities(velocities))

    def ahead(k: int, version: int) -> Weights:
        pairs = zip(versions.read(k, version), velocities[k][version], strict=True)
        return [w - 0.1 * (STAGES - 1 - k) * v for w, v in pairs]

    without_stash(versions, data, ahead, versions.read)
    trained(model, "spectrain", data)
    assert_near(model, versions.live)


def test_weights_of_now_meet_stored_activations_in_one_forward_and_one_backward() -> None:
    """`latest` in 1F1B, stage by stage: PipeDream without its stash."""
    model, data = double(12)
    versions = Versions(model, sgd())
    without_stash(versions, data, versions.read, versions.read)
    trained(model, load("pipedream", ["weights.backward=latest"]), data, MOMENTUM)
    assert_near(model, versions.live)
