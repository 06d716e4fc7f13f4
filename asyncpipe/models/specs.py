"""Modules as data: shapes, parameters, FLOPs and operations of each, without torch.

Shapes are those of one sample, without the batch dimension. FLOPs count a multiply-add as two, and only
matrix products and convolutions, like `torch.utils.flop_counter`: biases, norms, activations and lookups
count nothing. Operations are launches of one forward in evaluation mode; views launch nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "BatchNorm",
    "Block",
    "Convolution",
    "Embedding",
    "Flatten",
    "LastStep",
    "LayerNorm",
    "Linear",
    "MaxPool",
    "ModuleSpec",
    "Recurrent",
    "Relu",
    "Residual",
    "Rows",
    "Shape",
]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ModuleSpec:
    """One module; by default free of parameters and FLOPs, keeping the shape, one operation."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def parameters(self) -> int:
        return 0

    def flops(self, shape: Shape) -> int:
        """FLOPs per sample of `shape`."""
        return 0

    def operations(self, shape: Shape) -> int:
        return 1


@dataclass(frozen=True)
class Linear(ModuleSpec):
    """(inputs,) -> (outputs,), with a bias."""

    inputs: int
    outputs: int

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.outputs)

    def parameters(self) -> int:
        return self.inputs * self.outputs + self.outputs

    def flops(self, shape: Shape) -> int:
        return 2 * math.prod(shape) * self.outputs


@dataclass(frozen=True)
class Convolution(ModuleSpec):
    """3x3 with padding 1: (inputs, height, width) -> (outputs, height, width)."""

    inputs: int
    outputs: int
    bias: bool

    def output_shape(self, shape: Shape) -> Shape:
        return (self.outputs, *shape[1:])

    def parameters(self) -> int:
        return 9 * self.inputs * self.outputs + self.bias * self.outputs

    def flops(self, shape: Shape) -> int:
        return 2 * 9 * math.prod(shape) * self.outputs


@dataclass(frozen=True)
class BatchNorm(ModuleSpec):
    """Over the channels of (channels, height, width), with weight and bias."""

    channels: int

    def parameters(self) -> int:
        return 2 * self.channels


@dataclass(frozen=True)
class LayerNorm(ModuleSpec):
    """Over the last dimension, with weight and bias."""

    features: int

    def parameters(self) -> int:
        return 2 * self.features


@dataclass(frozen=True)
class Relu(ModuleSpec):
    """Out of place, so that a stage may end before or after it."""


@dataclass(frozen=True)
class MaxPool(ModuleSpec):
    """2x2, halves height and width, rounding down."""

    def output_shape(self, shape: Shape) -> Shape:
        channels, height, width = shape
        return (channels, height // 2, width // 2)


@dataclass(frozen=True)
class Flatten(ModuleSpec):
    """All dimensions of a sample into one."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def operations(self, shape: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Rows(ModuleSpec):
    """An image as the sequence of its rows: (channels, height, width) -> (height, channels * width)."""

    def output_shape(self, shape: Shape) -> Shape:
        channels, height, width = shape
        return (height, channels * width)

    def operations(self, shape: Shape) -> int:
        return int(shape[0] > 1)


@dataclass(frozen=True)
class Embedding(ModuleSpec):
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
class Block(ModuleSpec):
    """Named modules, one after another: an `nn.Sequential`."""

    children: tuple[tuple[str, ModuleSpec], ...]

    def output_shape(self, shape: Shape) -> Shape:
        for _, child in self.children:
            shape = child.output_shape(shape)
        return shape

    def parameters(self) -> int:
        return sum(child.parameters() for _, child in self.children)

    def flops(self, shape: Shape) -> int:
        return sum(child.flops(at) for child, at in self._placed(shape))

    def operations(self, shape: Shape) -> int:
        return sum(child.operations(at) for child, at in self._placed(shape))

    def _placed(self, shape: Shape) -> Iterator[tuple[ModuleSpec, Shape]]:
        for _, child in self.children:
            yield child, shape
            shape = child.output_shape(shape)


@dataclass(frozen=True)
class Residual(ModuleSpec):
    """x + body(x), for a body that keeps the shape (He et al. 2016, arXiv 1512.03385)."""

    body: Block

    def parameters(self) -> int:
        return self.body.parameters()

    def flops(self, shape: Shape) -> int:
        return self.body.flops(shape)

    def operations(self, shape: Shape) -> int:
        return self.body.operations(shape) + 1
