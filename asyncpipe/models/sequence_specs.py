"""Modules of sequences and attention as data; `specs` tells what is counted. A sequence is (steps, features)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from asyncpipe.models.specs import Block, ModuleSpec, Shape, WeightedSpec

__all__ = [
    "Attention",
    "ClassToken",
    "Embedding",
    "FirstStep",
    "LastStep",
    "MeanStep",
    "PatchTokens",
    "Positions",
    "Recurrent",
    "Rows",
    "Transposed",
]


@dataclass(frozen=True)
class Rows(ModuleSpec):
    """An image as the sequence of its rows: (channels, height, width) -> (height, channels * width)."""

    def output_shape(self, shape: Shape) -> Shape:
        channels, height, width = shape
        return (height, channels * width)

    def operations(self, shape: Shape) -> int:
        return int(shape[0] > 1)


@dataclass(frozen=True)
class Embedding(WeightedSpec):
    """Token ids (steps,) -> (steps, features)."""

    vocabulary: int
    features: int

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape, self.features)

    def parameters(self) -> int:
        return self.vocabulary * self.features


@dataclass(frozen=True)
class Recurrent(ModuleSpec):
    """One LSTM layer: (steps, inputs) -> (steps, hidden); four gates, two biases (torch.nn.LSTM)."""

    inputs: int
    hidden: int

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], self.hidden)

    def parameters(self) -> int:
        return 4 * self.hidden * (self.inputs + self.hidden + 2)

    def flops(self, shape: Shape) -> int:
        return 2 * shape[0] * 4 * self.hidden * (self.inputs + self.hidden)

    def operations(self, shape: Shape) -> int:
        """One product for all inputs, a product and a pointwise kernel per step, as fused libraries do it,
        and four to make the first state and collect the last one."""
        return 5 + 2 * shape[0]


@dataclass(frozen=True)
class LastStep(ModuleSpec):
    """(steps, features) -> (features,)."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape[1:]

    def operations(self, shape: Shape) -> int:
        return 0


@dataclass(frozen=True)
class FirstStep(LastStep):
    """(steps, features) -> (features,)."""


@dataclass(frozen=True)
class MeanStep(ModuleSpec):
    """The mean over the steps: (steps, features) -> (features,)."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape[1:]


@dataclass(frozen=True)
class Positions(WeightedSpec):
    """Adds a learned vector to each step, the first `context` ones."""

    context: int
    features: int

    def parameters(self) -> int:
        return self.context * self.features


@dataclass(frozen=True)
class ClassToken(WeightedSpec):
    """Puts a learned step before the first: (steps, features) -> (steps + 1, features)."""

    features: int

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0] + 1, self.features)

    def parameters(self) -> int:
        return self.features


@dataclass(frozen=True)
class PatchTokens(ModuleSpec):
    """An image's pixels as steps: (channels, height, width) -> (height * width, channels), contiguous."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape[1:]), shape[0])

    def operations(self, shape: Shape) -> int:
        return _copies(self.output_shape(shape))


@dataclass(frozen=True)
class Transposed(ModuleSpec):
    """The body works along the steps: it sees (features, steps)."""

    body: Block

    def parameters(self) -> int:
        return self.body.parameters()

    def flops(self, shape: Shape) -> int:
        return self.body.flops(shape[::-1])

    def operations(self, shape: Shape) -> int:
        return _copies(shape) + self.body.operations(shape[::-1])


@dataclass(frozen=True)
class Attention(ModuleSpec):
    """Scaled dot products of `heads` (arXiv 1706.03762): (steps, queries + keys + values) -> (steps, width).

    FLOPs are those of all pairs of steps, as torch counts them, also where `causal` hides the later ones.
    """

    heads: int
    causal: bool
    dropout: float

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], shape[1] // 3)

    def flops(self, shape: Shape) -> int:
        steps, width = self.output_shape(shape)
        return 2 * 2 * steps * steps * width


def _copies(shape: Shape) -> int:
    """Transposing moves nothing where one side is 1."""
    return int(min(shape) > 1)
