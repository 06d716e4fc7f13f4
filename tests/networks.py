"""Small real networks with their data, and the plain PyTorch loop that they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe import models
from asyncpipe.models.reversible import ChannelPadding, Coupling, SpaceToDepth

Batch = tuple[Tensor, Tensor]


def mlp() -> nn.Sequential:
    return models.build("mlp", {"hidden": [24, 17, 9]}, (1, 8, 8), 10)


def convnet() -> nn.Sequential:
    return models.build("convnet", {"channels": [6, 8], "hidden": 16, "norm": "batch"}, (1, 8, 8), 10)


def lstm() -> nn.Sequential:
    return models.build("lstm", {"hidden": 20}, (1, 8, 8), 10)


def dropout() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(32, 10))


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {"mlp": mlp, "convnet": convnet, "lstm": lstm, "dropout": dropout}


def batches(count: int, size: int = 7, seed: int = 1) -> list[Batch]:
    """Images of 8 x 8 with classes; the last batch of an odd count is a sample short."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number in range(count):
        rows = size - (number == count - 1 and count % 2)
        x = torch.randn(rows, 1, 8, 8, generator=generator)
        made.append((x, torch.randint(10, (rows,), generator=generator)))
    return made


def built(name: str) -> nn.Sequential:
    torch.manual_seed(3)
    return NETWORKS[name]()


def plain_loop(model: nn.Module, data: list[Batch], optimizer: Callable[[Any], torch.optim.Optimizer]) -> list[float]:
    """What a newcomer writes: the reference for every exact schedule."""
    torch.manual_seed(5)
    made = optimizer(model.parameters())
    losses = []
    for x, y in data:
        made.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        made.step()
        losses.append(loss.item())
    return losses


def assert_same_state(ours: nn.Module, reference: nn.Module) -> None:
    """Every parameter and buffer, bit for bit."""
    expected = reference.state_dict()
    found = ours.state_dict()
    assert found.keys() == expected.keys()
    different = [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])]
    assert different == []


def reversible(classes: int = 10) -> nn.Sequential:
    """Images of 8 x 8: all but the last two modules have an inverse."""
    blocks = [Coupling(_branch(8), _branch(8)) for _ in range(3)]
    return nn.Sequential(SpaceToDepth(2), ChannelPadding(4, 16), *blocks, nn.Flatten(), nn.Linear(256, classes))


def _branch(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.Tanh())
