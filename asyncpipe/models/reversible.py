"""Modules with an `inverse`, of which stages under `recompute: invert` are built (PETRA, arXiv 2406.02052)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from asyncpipe.errors import UsageError

__all__ = ["ChannelPadding", "Coupling", "RepeatedChannels", "SpaceToDepth"]


class Coupling(nn.Module):
    """y1 = x1 + f(x2), y2 = x2 + g(y1) for the halves of dimension 1 (RevNet, arXiv 1707.04585, equation 8).

    f and g keep the shape of a half. The inverse (equation 9) is exact up to rounding.
    """

    def __init__(self, f: nn.Module, g: nn.Module) -> None:
        super().__init__()
        self.f = f
        self.g = g

    def forward(self, value: Tensor) -> Tensor:
        x1, x2 = _halves(value)
        y1 = x1 + self.f(x2)
        return torch.cat((y1, x2 + self.g(y1)), 1)

    def inverse(self, output: Tensor) -> Tensor:
        y1, y2 = _halves(output)
        x2 = y2 - self.g(y1)
        return torch.cat((y1 - self.f(x2), x2), 1)


class SpaceToDepth(nn.Module):
    """(batch, c, h, w) -> (batch, c * n * n, h / n, w / n): a lower resolution without loss (arXiv 1802.07088)."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return pixel_unshuffle(images, self.factor)

    def inverse(self, output: Tensor) -> Tensor:
        return pixel_shuffle(output, self.factor)


class ChannelPadding(nn.Module):
    """Zeros up to `outputs` channels, or features, in dimension 1: injective, as in arXiv 1802.07088, section 3.2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, value: Tensor) -> Tensor:
        zeros = (self.outputs - self.inputs, *value.shape[2:])
        return torch.cat((value, value.new_zeros(len(value), *zeros)), 1)

    def inverse(self, output: Tensor) -> Tensor:
        return output[:, : self.inputs]


class RepeatedChannels(nn.Module):
    """Output channel c is input channel c % inputs, so that both halves of a first `Coupling` see the image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, images: Tensor) -> Tensor:
        return images.repeat(1, -(-self.outputs // self.inputs), 1, 1)[:, : self.outputs]

    def inverse(self, output: Tensor) -> Tensor:
        return output[:, : self.inputs]


def _halves(value: Tensor) -> tuple[Tensor, Tensor]:
    if value.dim() < 2 or value.shape[1] % 2:
        raise UsageError(
            f"Coupling: expected an even size of dimension 1, found a tensor of {tuple(value.shape)}",
            "put a ChannelPadding or SpaceToDepth before it",
        )
    first, second = value.chunk(2, 1)
    return first, second
