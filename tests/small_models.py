"""Every built-in model, as small as it gets, with the samples that it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe import models
from asyncpipe.models.describe import LayerCost, describe


@dataclass(frozen=True)
class Small:
    """A model with its options and one sample of its data."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (1, 8, 8)
    classes: int = 10
    vocabulary: int | None = None
    target_shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    def build(self) -> nn.Sequential:
        return models.build(self.name, self.options, self.shape, self.classes, self.vocabulary, self.target_shape)

    def describe(self, batch: int) -> tuple[LayerCost, ...]:
        return describe(self.name, self.options, self.shape, self.classes, batch, self.vocabulary, self.target_shape)

    def samples(self, batch: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.vocabulary is None:
            return torch.rand(batch, *self.shape, generator=generator)
        return torch.randint(self.vocabulary, (batch, *self.shape), generator=generator)

    def targets(self, batch: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(self.classes, (batch, *self.target_shape), generator=generator)


def tokens(name: str, options: dict[str, Any], steps: int = 6, ids: int = 11, every_step: bool = True) -> Small:
    """Token ids with the next ones as targets, or with one of three classes."""
    return Small(name, options, (steps,), ids if every_step else 3, ids, (steps,) if every_step else ())


GPT = {"layers": 2, "heads": 2, "width": 8}
VIT = {"layers": 2, "heads": 3, "width": 12}
MIXER = {"layers": 2, "width": 12, "token_hidden": 6, "channel_hidden": 20, "zero_init": False}

PLAIN = [Small("mlp"), Small("convnet"), Small("deep-narrow", {"layers": 5})]
RECURRENT = [
    Small("lstm", {"hidden": 20}),
    tokens("lstm", {"hidden": 9, "embedding": 6}, every_step=False),
    tokens("lstm", {"hidden": 8, "layers": 1}),
]
RESIDUAL = [
    Small("resnet", {"depth": 14}, (3, 9, 8)),
    Small("resnet", {"depth": 8, "shortcut": "projection", "zero_init": True}),
    Small("wrn", {"depth": 16, "width": 1}, (3, 9, 8)),
    Small("wrn", {"depth": 10, "width": 2, "dropout": 0.3}),
    Small("revnet", {"channels": 4, "blocks": [1, 2]}),
]
LARGE = [
    Small("resnet18", {"zero_init": True}, (3, 8, 8)),
    Small("resnet18", {"stem": "imagenet"}, (3, 33, 35)),
    Small("resnet50", {"stem": "cifar"}, (1, 8, 6)),
    Small("wrn-28-10", {}, (3, 8, 8)),
]
"""Too large to be built again and again; most tests take them on the meta device, where nothing is allocated."""

TRANSFORMERS = [
    tokens("gpt", GPT),
    tokens("gpt", {**GPT, "context": 9, "vocabulary": 16, "dropout": 0.0}),
    tokens("gpt", {**GPT, "tied": True}),
    Small("vit-tiny", VIT),
    Small("vit-tiny", {**VIT, "patch": 3, "dropout": 0.1}, (3, 9, 12)),
    Small("mixer", MIXER),
    Small("mixer", {**MIXER, "patch": 2}, (3, 6, 8)),
]
SMALL = [*PLAIN, *RECURRENT, *RESIDUAL, *TRANSFORMERS]
