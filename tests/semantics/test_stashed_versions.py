"""Each stage at an age of its own, with a stash: autograd through the versions that the papers read, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from asyncpipe.schedule import load
from tests.semantics.plain import (
    MOMENTUM,
    Batch,
    Rule,
    Versions,
    assert_same,
    batches,
    by_torch,
    network,
    reduced,
    sgd,
    trained,
    whole_gradients,
)

STAGES = 3
NADAM: dict[str, Any] = {"use": "nadam", "lr": 0.01, "betas": (0.99, 0.999)}


def with_stash(
    versions: Versions, data: list[Batch], read: Callable[[int, int], int], every: int = 1, reduce: str = "mean"
) -> Versions:
    """Microbatch m reads version `read(e, m)` of the stage with e stages above it, and its gradient is taken there."""
    for first in range(0, len(data), every):
        parts = []
        for m in range(first, min(first + every, len(data))):
            weights = [versions.read(k, read(versions.last - k, m)) for k in range(versions.last + 1)]
            parts.append(whole_gradients(weights, *data[m]))
        for k in range(versions.last + 1):
            versions.step(k, reduced([part[k] for part in parts], reduce))
    return versions


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("pipedream", MOMENTUM, sgd()),
        ("nesterov-pp", NADAM, by_torch(lambda p: torch.optim.NAdam(p, lr=0.01, betas=(0.99, 0.999)))),
        ("ddg", MOMENTUM, sgd()),
    ],
)
def test_a_pipeline_of_one_update_for_each_stage_above(name: str, options: Any, rule: Rule) -> None:
    """W_k(m+1) = W_k(m) - lr * gradient(W_0(m - (K-1)), ..., W_(K-1)(m)): the formula of PipeDream and of DDG."""
    model, reference, data = network(STAGES), network(STAGES), batches(10)
    trained(model, name, data, options)
    assert_same(model, with_stash(Versions(reference, rule), data, lambda e, m: m - e).live)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_accumulated_decoupled_learning_sums_gradients_of_falling_age(every: int) -> None:
    """ADL: microbatch m meets floor((m - 2 (K-1-k)) / M) updates, and its gradient is added, not averaged."""
    model, reference, data = network(STAGES), network(STAGES), batches(12)
    trained(model, load("adl", [f"update.every={every}"]), data)
    expected = with_stash(Versions(reference, sgd()), data, lambda e, m: (m - 2 * e) // every, every, "sum")
    assert_same(model, expected.live)


def test_layer_wise_updates_read_each_layer_at_its_age() -> None:
    """Async LU with 6 equal stages: ceil(3 (K-k) / K) - 1 updates, as the paper's staleness says."""
    stages, data = 6, batches(12)
    model, reference = network(stages), network(stages)
    trained(model, load("async-lu", ["weights.backward=same"]), data)
    expected = with_stash(Versions(reference, sgd()), data, lambda e, m: m - (-(-3 * (e + 1) // stages) - 1))
    assert_same(model, expected.live)
