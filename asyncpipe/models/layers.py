"""Torch modules of the built-in models that torch itself does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

__all__ = [
    "Attention",
    "ClassToken",
    "GlobalAveragePool",
    "MeanStep",
    "OneStep",
    "PatchTokens",
    "Positions",
    "Recurrent",
    "Residual",
    "Rows",
    "Subsample",
    "Transposed",
]


class Rows(nn.Module):
    """Images as sequences of rows: (batch, channels, height, width) -> (batch, height, channels * width)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.transpose(1, 2).flatten(2)


class Recurrent(nn.Module):
    """One LSTM layer from zero state: (batch, steps, inputs) -> (batch, steps, hidden), the outputs only."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)

    def forward(self, sequence: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(sequence)[0]
        return outputs


class OneStep(nn.Module):
    """(batch, steps, features) -> (batch, features), for the step at `index`."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, sequence: Tensor) -> Tensor:
        return sequence[:, self.index]


class MeanStep(nn.Module):
    """(batch, steps, features) -> (batch, features)."""

    def forward(self, sequence: Tensor) -> Tensor:
        return sequence.mean(1)


class Residual(nn.Module):
    """shortcut(x) + body(x), where no shortcut is x itself."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return (x if self.shortcut is None else self.shortcut(x)) + y


class GlobalAveragePool(nn.Module):
    """(batch, channels, height, width) -> (batch, channels)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((-2, -1))


class Subsample(nn.Module):
    """Every second pixel, with `channels` new channels of zeros after the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        return pad(images[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.channels))


class PatchTokens(nn.Module):
    """(batch, channels, height, width) -> (batch, height * width, channels)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(2).transpose(1, 2).contiguous()


class Transposed(nn.Module):
    """The body sees (batch, features, steps) of (batch, steps, features)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, sequence: Tensor) -> Tensor:
        y: Tensor = self.body(sequence.transpose(1, 2).contiguous())
        return y.transpose(1, 2)


class Positions(nn.Module):
    """Adds a learned vector to each step: (batch, up to `context` steps, features)."""

    def __init__(self, context: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(context, features))

    def forward(self, sequence: Tensor) -> Tensor:
        return sequence + self.weight[: sequence.shape[1]]


class ClassToken(nn.Module):
    """(batch, steps, features) -> (batch, 1 + steps, features)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features))

    def forward(self, sequence: Tensor) -> Tensor:
        return torch.cat([self.weight.expand(len(sequence), 1, -1), sequence], dim=1)


class Attention(nn.Module):
    """Scaled dot products: (batch, steps, 3 * width) -> (batch, steps, width), queries, keys and values in order."""

    def __init__(self, heads: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.dropout = dropout

    def forward(self, projected: Tensor) -> Tensor:
        query, key, value = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.causal)
        return mixed.transpose(1, 2).flatten(2)
