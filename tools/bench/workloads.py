"""What is trained: networks with batch, precision and optimizer, and a small size of each for `--smoke`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["CPU_WORKLOADS", "CUDA_WORKLOADS", "WORKLOADS", "Workload"]

IMAGE = (3, 32, 32)
SGD = {"use": "sgd", "momentum": 0.9}
ADAMW = {"use": "adamw"}


@dataclass(frozen=True)
class Workload:
    """`model`: a built-in one, or one of `networks`. `sample`: shape of one; token ids if there is a `vocabulary`.

    precision: `float32` (on CUDA with TF32 products) or `bf16`, autocast. every_step: a target for each token.
    alone: too large for two contenders in memory at once. unit: what a sample counts as, `items` of them.
    """

    name: str
    title: str
    model: str
    options: Mapping[str, Any]
    batch: int
    sample: tuple[int, ...]
    classes: int = 10
    vocabulary: int | None = None
    every_step: bool = False
    optimizer: Mapping[str, Any] = field(default_factory=lambda: SGD)
    lr: float = 1e-2
    precision: str = "float32"
    channels_last: bool = False
    alone: bool = False
    unit: str = "updates"
    small: Mapping[str, Any] = field(default_factory=dict)
    """What is smaller in a smoke run: fields of this class."""

    @property
    def items(self) -> int:
        """Of `unit`, in one update."""
        if self.unit == "updates":
            return 1
        return self.batch * (self.sample[0] if self.every_step else 1)

    def reduced(self) -> Workload:
        """The smoke size, which learns in fewer steps."""
        return replace(self, **{"lr": 5 * self.lr, **self.small})

    def enlarged(self, times: int) -> Workload:
        return replace(self, batch=self.batch * times)


def _gpt(tokens: int, alone: bool = False) -> Workload:
    """GPT-2 small (Radford et al. 2019), 1,024 tokens a sample."""
    return Workload(
        f"gpt2-{tokens // 1024}k",
        f"GPT-2 small (embeddings not tied), {tokens // 1024}k tokens a step, AdamW, bf16",
        "gpt",
        {"dropout": 0.0},
        tokens // 1024,
        (1024,),
        50257,
        50257,
        True,
        ADAMW,
        3e-4,
        "bf16",
        alone=alone,
        unit="tokens",
        small={
            "options": {"layers": 2, "heads": 2, "width": 16, "dropout": 0.0},
            "batch": 2,
            "sample": (16,),
            "classes": 64,
            "vocabulary": 64,
        },
    )


def _resnet18(batch: int, precision: str) -> Workload:
    low = precision == "bf16"
    return Workload(
        f"resnet18-b{batch}",
        f"ResNet-18, CIFAR stem, batch {batch}{', bf16, channels_last' if low else ''}",
        "resnet18",
        {"stem": "cifar"},
        batch,
        IMAGE,
        precision=precision,
        channels_last=low,
        unit="images",
        small={"lr": 2e-2, "model": "resnet", "options": {"depth": 8}, "batch": 4, "sample": (3, 8, 8)},
    )


_LSTM = {"layers": 2, "hidden": 8}
_PATCHES = {"batch": 2, "sample": (3, 8, 8)}

CUDA_WORKLOADS = (
    Workload(
        "deep-narrow-100",
        "deep narrow network, 100 x 256 with LayerNorm, batch 32",
        "deep-narrow",
        {"layers": 100, "width": 256},
        32,
        (784,),
        lr=1e-5,
        small={"lr": 1e-3, "options": {"layers": 6, "width": 8}, "batch": 4, "sample": (16,)},
    ),
    Workload(
        "lstm-cell",
        "LSTM cell of 256, unrolled over 28 steps in plain operations, batch 64",
        "lstm-cell",
        {"hidden": 256},
        64,
        (28, 28),
        small={"options": {"hidden": 8}, "batch": 4, "sample": (4, 6)},
    ),
    Workload(
        "gru-cell",
        "GRU cell of 256, unrolled over 28 steps in plain operations, batch 64",
        "gru-cell",
        {"hidden": 256},
        64,
        (28, 28),
        small={"options": {"hidden": 8}, "batch": 4, "sample": (4, 6)},
    ),
    Workload(
        "imdb-lstm",
        "LSTM 2 x 256 as for IMDb, 200 tokens of 10,000, batch 75",
        "lstm",
        {"layers": 2, "hidden": 256},
        75,
        (200,),
        2,
        10_000,
        small={"options": _LSTM, "batch": 8, "sample": (6,), "vocabulary": 50},
    ),
    Workload(
        "vit-tiny",
        "ViT-Ti with patches of 4 x 4 on 32 x 32 images, batch 64",
        "vit-tiny",
        {},
        64,
        IMAGE,
        optimizer=ADAMW,
        lr=1e-3,
        unit="images",
        small={"options": {"layers": 2, "heads": 2, "width": 8}, **_PATCHES},
    ),
    Workload(
        "mixer",
        "MLP-Mixer, 8 layers of 128, on 32 x 32 images, batch 64",
        "mixer",
        {"layers": 8, "width": 128, "token_hidden": 64, "channel_hidden": 512, "zero_init": False},
        64,
        IMAGE,
        optimizer=ADAMW,
        lr=1e-3,
        unit="images",
        small={
            "options": {"layers": 2, "width": 8, "token_hidden": 8, "channel_hidden": 8, "zero_init": False},
            **_PATCHES,
        },
    ),
    _resnet18(32, "float32"),
    _resnet18(128, "bf16"),
    _gpt(1024),
    _gpt(2048),
    _gpt(16384, alone=True),
    _gpt(65536, alone=True),
)

CPU_WORKLOADS = (
    Workload(
        "cpu-lstm",
        "LSTM 2 x 128, 50 steps, batch 32",
        "lstm",
        {"hidden": 128},
        32,
        (1, 50, 64),
        lr=2e-2,
        small={"options": _LSTM, "batch": 4, "sample": (1, 6, 8)},
    ),
    Workload(
        "cpu-mlp",
        "MLP 6 x 1024, batch 128",
        "mlp",
        {"hidden": [1024] * 5},
        128,
        (784,),
        small={"options": {"hidden": [16] * 5}, "batch": 8, "sample": (16,)},
    ),
    Workload(
        "cpu-convnet",
        "three convolutions on 32 x 32 images, batch 32",
        "three-convolutions",
        {},
        32,
        IMAGE,
        small={"batch": 4, "sample": (3, 8, 8)},
    ),
    Workload(
        "cpu-deep-narrow",
        "deep narrow network, 40 x 128 with LayerNorm, batch 32",
        "deep-narrow",
        {},
        32,
        (784,),
        lr=3e-5,
        small={"lr": 1e-3, "options": {"layers": 6, "width": 8}, "batch": 4, "sample": (16,)},
    ),
)
"""Those of benchmarks/cpu_throughput."""

WORKLOADS: Mapping[str, Workload] = {w.name: w for w in (*CUDA_WORKLOADS, *CPU_WORKLOADS)}
