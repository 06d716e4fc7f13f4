"""Models as users write them, each with something that asyncpipe, or a schedule, has to know of."""

from __future__ import annotations

import random
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Clamped(nn.Linear):
    """Keeps its weight small by writing into it."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.clamp_(-0.5, 0.5)
        return super().forward(x)


def clamped() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), Clamped(6, 4))


class Gate(nn.Module):
    """Counts its calls, decides by its data, and scales by a Python number."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.inner(x)
        if x.sum() > 0:
            x = 2 * x
        return x / x.abs().max().item()


def gated() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), Gate(), nn.Linear(6, 4))


def tied() -> nn.Module:
    """Embedding and output share their weight, as in many language models."""
    model = nn.Sequential(
        nn.Embedding(10, 6), nn.Flatten(), nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 10, bias=False), nn.Identity()
    )
    model[4].weight = model[0].weight
    return model


class Network(nn.Module):
    """A plain chain, with functions between its children and a child that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.head = nn.Linear(16, 4)
        self.forgotten = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.convolution(x))
        x = x.flatten(1)
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]


class Skipping(nn.Module):
    """A connection passes over two children; after the third one tensor passes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.third = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.third(x + self.second(self.first(x)))
        return self.head(x)  # type: ignore[no-any-return]


class Named(nn.Module):
    """Gives a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"hidden": self.layer(x), "input": x}


class Reader(nn.Module):
    """Takes a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, found: dict[str, Tensor]) -> Tensor:
        return self.layer(found["hidden"])  # type: ignore[no-any-return]


def dictionary() -> nn.Module:
    return nn.Sequential(Named(), Reader(), nn.Linear(4, 4))


class LastStep(nn.Module):
    """A recurrent layer that answers from its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1]  # type: ignore[no-any-return]


def recurrent() -> nn.Module:
    return nn.Sequential(LastStep(), nn.Dropout(0.5), nn.Linear(5, 4))


def normed() -> nn.Module:
    """A derived weight, a norm with statistics, and a stage that may begin with a write into its input."""
    weighted = nn.utils.parametrizations.weight_norm(nn.Linear(8, 6))
    return nn.Sequential(weighted, nn.BatchNorm1d(6), Doubled(), nn.Linear(6, 4))


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        x *= 2
        return x + self.shift


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 6)), nn.Linear(6, 4))


class Logarithm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x - x.max())


def infinite() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4), Logarithm())


class FourSamples(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(4, 8)


def fixed_batch() -> nn.Module:
    return nn.Sequential(FourSamples(), nn.Linear(8, 4))


class Overwriting(nn.Module):
    """Writes into what the backward of exp needs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.exp(self.layer(x))
        x += 1
        return x


def overwriting() -> nn.Module:
    return nn.Sequential(Overwriting(), nn.Linear(8, 4))


class Selecting(nn.Module):
    """How many samples leave depends on their values."""

    def forward(self, x: Tensor) -> Tensor:
        return x[x[:, 0] > x[:, 0].min()]


def selecting() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4), Selecting(), nn.Linear(4, 4))


class Jittered(nn.Sequential):
    """A subclass of nn.Sequential that does more than call its children."""

    def forward(self, input: Any) -> Any:
        return super().forward(input) * (1 + 0.01 * random.random())


def jittered() -> nn.Module:
    return Jittered(nn.Linear(8, 8), nn.Linear(8, 4))


def too_wide() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 4))


def frozen_and_sparse() -> nn.Module:
    model = nn.Sequential(nn.Embedding(10, 6, sparse=True), nn.Flatten(), nn.Linear(24, 6), nn.Linear(6, 4))
    model[2].requires_grad_(False)
    return model


class Narrow(nn.Module):
    """Computes in bfloat16 inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = self.layer(x)
        return y.float()  # type: ignore[no-any-return]


def narrow() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), Narrow(), nn.Linear(6, 4))


def deep() -> nn.Module:
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))


def named_digits() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def data() -> Any:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(40, 8, generator=generator)
    targets = torch.randint(8, (40,), generator=generator)
    return (inputs, targets), (inputs, targets)


def answers_with_a_dictionary() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), Named())


class Talking(nn.Linear):
    """Prints."""

    def __init__(self) -> None:
        super().__init__(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        print("forward of", len(x))
        return super().forward(x)


class Phases(nn.Module):
    """Complex weights, real outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.complex64) @ self.weight).abs()
