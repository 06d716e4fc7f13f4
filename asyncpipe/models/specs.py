"""Modules as data: shapes, parameters, FLOPs and operations of each, without torch.

Shapes are those of one sample, without the batch dimension. FLOPs count a multiply-add as two, and only
matrix products and convolutions, like `torch.utils.flop_counter`: biases, norms, activations and lookups
count nothing. Operations are launches of one forward in evaluation mode; views launch nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from asyncpipe.models.initial import Initial

__all__ = [
    "BatchNorm",
    "Block",
    "Convolution",
    "Dropout",
    "Flatten",
    "Gelu",
    "GlobalAveragePool",
    "LayerNorm",
    "Linear",
    "MaxPool",
    "ModuleSpec",
    "Relu",
    "Residual",
    "Shape",
    "Subsample",
    "Tied",
    "WeightedSpec",
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
class WeightedSpec(ModuleSpec):
    """A module with a weight, and perhaps a bias; `initial` None begins them as torch does."""

    initial: Initial | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Linear(WeightedSpec):
    """(..., inputs) -> (..., outputs)."""

    inputs: int
    outputs: int
    bias: bool = True

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.outputs)

    def parameters(self) -> int:
        return (self.inputs + self.bias) * self.outputs

    def flops(self, shape: Shape) -> int:
        return 2 * math.prod(shape) * self.outputs


@dataclass(frozen=True)
class Convolution(WeightedSpec):
    """(inputs, height, width) -> (outputs, ...), square kernels; by default 3x3 that keep the size."""

    inputs: int
    outputs: int
    bias: bool
    kernel: int = 3
    stride: int = 1
    padding: int = 1

    def output_shape(self, shape: Shape) -> Shape:
        return (self.outputs, *_window(shape[1:], self.kernel, self.stride, self.padding))

    def parameters(self) -> int:
        return (self.kernel**2 * self.inputs + self.bias) * self.outputs

    def flops(self, shape: Shape) -> int:
        return 2 * self.kernel**2 * self.inputs * math.prod(self.output_shape(shape))


@dataclass(frozen=True)
class BatchNorm(ModuleSpec):
    """Over the channels of (channels, height, width), with weight and bias; `zero` begins its weight at 0."""

    channels: int
    zero: bool = False

    def parameters(self) -> int:
        return 2 * self.channels


@dataclass(frozen=True)
class LayerNorm(ModuleSpec):
    """Over the last dimension, with weight and bias."""

    features: int
    eps: float = 1e-5

    def parameters(self) -> int:
        return 2 * self.features


@dataclass(frozen=True)
class Relu(ModuleSpec):
    """Out of place, so that a stage may end before or after it."""


@dataclass(frozen=True)
class Gelu(ModuleSpec):
    """x times the normal distribution function of x, or its approximation by tanh (arXiv 1606.08415)."""

    tanh: bool


@dataclass(frozen=True)
class Dropout(ModuleSpec):
    """In evaluation nothing happens."""

    probability: float

    def operations(self, shape: Shape) -> int:
        return 0


@dataclass(frozen=True)
class MaxPool(ModuleSpec):
    """Square windows; by default 2x2, which halves height and width, rounding down."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], *_window(shape[1:], self.kernel, self.stride, self.padding))


@dataclass(frozen=True)
class GlobalAveragePool(ModuleSpec):
    """(channels, height, width) -> (channels,)."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape[:1]


@dataclass(frozen=True)
class Subsample(ModuleSpec):
    """Every second pixel, and zeros for new channels: the shortcut A of He et al. (arXiv 1512.03385, section 3.3)."""

    inputs: int
    outputs: int

    def output_shape(self, shape: Shape) -> Shape:
        return (self.outputs, *_window(shape[1:], 1, 2, 0))


@dataclass(frozen=True)
class Flatten(ModuleSpec):
    """All dimensions of a sample into one."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

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
    """shortcut(x) + body(x); without `shortcut` x itself, for a body that keeps the shape (arXiv 1512.03385)."""

    body: Block
    shortcut: ModuleSpec | None = None

    def output_shape(self, shape: Shape) -> Shape:
        return self.body.output_shape(shape)

    def parameters(self) -> int:
        return sum(branch.parameters() for branch in self._branches())

    def flops(self, shape: Shape) -> int:
        return sum(branch.flops(shape) for branch in self._branches())

    def operations(self, shape: Shape) -> int:
        return sum(branch.operations(shape) for branch in self._branches()) + 1

    def _branches(self) -> tuple[ModuleSpec, ...]:
        return (self.body,) if self.shortcut is None else (self.body, self.shortcut)


@dataclass(frozen=True)
class Tied(ModuleSpec):
    """A block in which two modules, named by their paths, share a weight of `shared` numbers."""

    body: Block
    owner: str
    user: str
    shared: int

    def output_shape(self, shape: Shape) -> Shape:
        return self.body.output_shape(shape)

    def parameters(self) -> int:
        return self.body.parameters() - self.shared

    def flops(self, shape: Shape) -> int:
        return self.body.flops(shape)

    def operations(self, shape: Shape) -> int:
        return self.body.operations(shape)


def _window(size: Shape, kernel: int, stride: int, padding: int) -> Shape:
    """Height and width after windows of `kernel` pixels, `stride` apart."""
    return tuple((pixels + 2 * padding - kernel) // stride + 1 for pixels in size)
