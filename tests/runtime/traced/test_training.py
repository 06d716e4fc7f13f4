"""Whole runs on `serial` with traced stages: the numbers of the autograd engine, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from asyncpipe import Trainer
from asyncpipe.ir import Program
from asyncpipe.models.reversible import ChannelPadding, Coupling, SpaceToDepth
from asyncpipe.runtime.losses import cross_entropy
from asyncpipe.runtime.numerics import Numerics
from asyncpipe.runtime.platform import CpuPlatform, Platform
from asyncpipe.runtime.stage import Loss, StageOptions
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.schedule import load
from tests.networks import assert_same_state, batches, built
from tests.small_models import GPT, VIT, Small, tokens

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}
ONE_LAYER = {"layers": 1}
MODELS = [
    Small("resnet", {"depth": 8, "shortcut": "projection"}),
    tokens("gpt", GPT | ONE_LAYER),
    Small("vit-tiny", VIT | ONE_LAYER),
]
Data = list[tuple[Any, Any]]


class TracedPlatform(CpuPlatform):
    """Copies of weights only where a backward reads what its forward did."""

    def stage(
        self, program: Program, number: int, module: nn.Module, loss: Loss | None, options: StageOptions
    ) -> TracedStage:
        own_weights = program.backward_weights == "same"
        return TracedStage(number, module, program.slots[number], own_weights, loss, options)


def fit(platform: Platform, model: nn.Module, data: Data, schedule: str, stages: int) -> tuple[float, ...]:
    torch.manual_seed(5)
    trainer = Trainer(
        model,
        load(schedule),
        cross_entropy,
        SGD,
        backend="serial",
        stages=stages,
        intra_op_threads=1,
        numerics=platform.numerics.words,
    )
    trainer.platform = platform
    return trainer.fit(data).losses


def assert_traced_is_eager(model: nn.Module, data: Data, schedule: str, stages: int, **numerics: str) -> None:
    traced, form = copy.deepcopy(model), Numerics(**numerics)
    losses = fit(CpuPlatform(form), model, data, schedule, stages)
    assert fit(TracedPlatform(form), traced, data, schedule, stages) == losses
    assert_same_state(traced, model)


@pytest.mark.parametrize(
    ("network", "schedule", "stages"),
    [
        ("mlp", "pipedream-2bw", 3),
        ("convnet", "async-lu", 2),
        ("dropout", "zb-h1", 2),
        ("dropout", "gpipe-recompute", 2),
        ("dropout", "fr", 1),
        ("dropout", "dgl", 2),
        ("dropout", "dni", 2),
        ("lstm", "pipedream", 2),
        ("mlp", "pd-asgd-devices", 1),
    ],
)
def test_networks(network: str, schedule: str, stages: int) -> None:
    assert_traced_is_eager(built(network), batches(6), schedule, stages)


@pytest.mark.parametrize(
    ("schedule", "numerics"),
    [
        ("async-lu", {"autocast": "bf16", "memory_format": "channels_last"}),
        ("dni", {"autocast": "bf16"}),
        pytest.param("async-lu", {"dtype": "bf16"}, marks=pytest.mark.slow),
        pytest.param("gpipe-recompute", {"autocast": "bf16"}, marks=pytest.mark.slow),
    ],
)
def test_half_precision(schedule: str, numerics: dict[str, str]) -> None:
    """With dropout of one half, whose factor is exact; torch's eager dropout rounds others to the type of its input."""
    torch.manual_seed(3)
    head = [nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 10)]
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *head)
    assert_traced_is_eager(network, batches(4), schedule, 2, **numerics)


@pytest.mark.parametrize("small", MODELS, ids=str)
def test_residual_blocks_and_transformers_with_dropout(small: Small) -> None:
    torch.manual_seed(3)
    data = [(small.samples(3, seed), small.targets(3, seed)) for seed in range(4)]
    assert_traced_is_eager(small.build(), data, "async-lu", 1)


def test_inverted_stages() -> None:
    coupling = Coupling(nn.Conv2d(4, 4, 3, padding=1), nn.Sequential(nn.BatchNorm2d(4), nn.Tanh()))
    model = nn.Sequential(
        SpaceToDepth(2), ChannelPadding(4, 8), coupling, nn.Sequential(nn.Flatten(), nn.Linear(128, 10))
    )
    assert_traced_is_eager(model, batches(4), "petra", 2)


def test_a_short_last_batch_is_traced_by_itself() -> None:
    assert_traced_is_eager(built("mlp"), batches(5), "sgd", 2)
