"""Models that go wrong in a trial: one raises, one never ends, one asks for too much memory, one dies."""

from __future__ import annotations

import os
import signal
import time

import torch
from torch import Tensor, nn

__all__ = ["model"]


class Awkward(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.last = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        print("the author's own words")  # which must not disturb the result
        if self.training and self.kind != "fine":
            _GOES_WRONG[self.kind]()
        output: Tensor = self.last(images.flatten(1))
        return output


def _raise() -> None:
    raise RuntimeError("a shape that does not fit")


_GOES_WRONG = {
    "raises": _raise,
    "sleeps": lambda: time.sleep(1000),
    "allocates": lambda: torch.zeros(10**10),
    "dies": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def model(kind: str = "fine") -> nn.Module:
    return nn.Sequential(Awkward(kind))
