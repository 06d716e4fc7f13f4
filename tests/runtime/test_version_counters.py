"""Updates and their staleness counted in device memory, by the kernels and in plain torch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.builtin_rule import BuiltinRule
from asyncpipe.runtime.fused_rule import FusedRule
from asyncpipe.runtime.optimizers import StageOptimizer
from asyncpipe.runtime.version_counters import BINS, VersionCounters, counts_in

CPU = torch.device("cpu")
SGD = {"momentum": 0.9}


def arena(*dtypes: torch.dtype) -> Arena:
    return Arena.of((str(dtype), nn.Parameter(torch.ones(5, dtype=dtype))) for dtype in dtypes)


def optimizer(kind: str, dtypes: tuple[torch.dtype, ...], counters: VersionCounters) -> tuple[StageOptimizer, Arena]:
    weights = arena(*dtypes)
    if kind == "kernels":
        rule = FusedRule(weights, "sgd", SGD, Attachments(counters=counters))
        return StageOptimizer(weights, rule, counters), weights
    return StageOptimizer(weights, BuiltinRule(weights, "sgd", SGD, "default"), counters), weights


def together(*found: Tensor) -> Tensor:
    return torch.cat(found)


@pytest.mark.parametrize("kind", ["kernels", "plain torch"])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.bfloat16)], ids=["one", "two launches"])
def test_each_update_measures_the_versions_since_its_forwards(kind: str, dtypes: tuple[torch.dtype, ...]) -> None:
    counters = VersionCounters.on(CPU)
    step, weights = optimizer(kind, dtypes, counters)
    gradients = [torch.ones_like(view) for view in weights.views]
    first, second = counters.found(None), counters.found(None)
    step.step(gradients, 0.1, first)
    third = counters.found(None)
    step.step(gradients, 0.1, together(second, third))
    step.step([None for _ in gradients], 0.1, third)
    assert int(counters.version) == 3
    assert counts_in(counters.histogram.tolist()) == Counter({0: 2, 1: 2})


def test_the_last_bin_takes_all_that_is_longer() -> None:
    counters = VersionCounters.on(CPU)
    counters.version.fill_(10_000)
    counters.count(torch.tensor([0, 9_999]))
    assert counts_in(counters.histogram.tolist()) == Counter({BINS - 1: 1, 1: 1})


def test_old_weights_keep_their_version() -> None:
    counters = VersionCounters.on(CPU, past=2)
    found = []
    for version in range(4):
        counters.keep(version % 2)
        found.append(int(counters.found((version + 1) % 2)))
        counters.version.add_(1)
    assert found == [0, 0, 1, 2]


def test_counting_leaves_the_rate_to_the_plan() -> None:
    """Of PipeMare's T1 the delay is the planned one, on every back end."""
    gradients, found = [torch.ones(5)], []
    for counters in (VersionCounters.on(CPU), None):
        weights = arena(torch.float32)
        attachments = Attachments(staleness=4.0, staleness_power=1.0, counters=counters)
        rule = FusedRule(weights, "sgd", SGD, attachments)
        for _ in range(2):
            StageOptimizer(weights, rule).step(gradients, 0.4, None if counters is None else counters.found(None))
        found.append(weights.views[0].clone())
    torch.testing.assert_close(*found)
    torch.testing.assert_close(found[0], torch.full((5,), 1 - 0.1 - 0.19))
