"""Reversible residual networks as specs: every layer but the last has an inverse, so that no activation need be kept.

The blocks of RevNets (arXiv 1707.04585, section 3.2) with the downsampling of i-RevNets (arXiv 1802.07088), where
RevNets have blocks without an inverse, and copies of the image in place of a first convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.models.initial import FanInUniform, HeNormal
from asyncpipe.models.specs import (
    BatchNorm,
    Block,
    Convolution,
    GlobalAveragePool,
    Linear,
    ModuleSpec,
    Relu,
    Shape,
)
from asyncpipe.models.task import Task, image_of
from asyncpipe.options import Integer, Integers, option

__all__ = ["Coupling", "RepeatedChannels", "RevnetOptions", "SpaceToDepth", "revnet"]


@dataclass(frozen=True)
class Coupling(ModuleSpec):
    """y1 = x1 + f(x2), y2 = x2 + g(y1) for the halves of the channels."""

    f: Block
    g: Block

    def parameters(self) -> int:
        return self.f.parameters() + self.g.parameters()

    def flops(self, shape: Shape) -> int:
        half = _half(shape)
        return self.f.flops(half) + self.g.flops(half)

    def operations(self, shape: Shape) -> int:
        half = _half(shape)
        return self.f.operations(half) + self.g.operations(half) + 3


@dataclass(frozen=True)
class SpaceToDepth(ModuleSpec):
    """(channels, height, width) -> (4 channels, height / 2, width / 2)."""

    def output_shape(self, shape: Shape) -> Shape:
        return (4 * shape[0], shape[1] // 2, shape[2] // 2)


@dataclass(frozen=True)
class RepeatedChannels(ModuleSpec):
    """The input channels again and again."""

    inputs: int
    outputs: int

    def output_shape(self, shape: Shape) -> Shape:
        return (self.outputs, *shape[1:])


@dataclass(frozen=True)
class RevnetOptions:
    """Channels of the first group, an even number; blocks in each group, where every further group halves the image."""

    channels: int = option(16, Integer(2, 4096))
    blocks: tuple[int, ...] = option((3, 3, 3), Integers(Integer(1, 1000), 1, 8))


def revnet(options: RevnetOptions, task: Task) -> Block:
    """Groups of couplings of basic blocks with four times the channels in each; 1.9 M parameters for CIFAR."""
    image = image_of(task)
    _check(options, task, image)
    channels, count = options.channels, 0
    children: list[tuple[str, ModuleSpec]] = [("repeated", RepeatedChannels(image[0], channels))]
    for group, blocks in enumerate(options.blocks):
        if group:
            children.append((f"space{group}", SpaceToDepth()))
            channels *= 4
        for _ in range(blocks):
            children.append((f"block{count}", Coupling(_branch(channels // 2), _branch(channels // 2))))
            count += 1
    return Block((*children, ("output", _output(channels, task.classes))))


def _check(options: RevnetOptions, task: Task, image: Shape) -> None:
    """UsageError for what has no halves."""
    if options.channels % 2 or options.channels < image[0]:
        hint = "each half of them has a branch of its own, and the image must fit in"
        raise task.refusal(f"needs an even number of at least {image[0]} channels, found {options.channels}", hint)
    multiple = 2 ** (len(options.blocks) - 1)
    if any(pixels % multiple for pixels in image[1:]):
        hint = "give 'blocks' fewer entries"
        raise task.refusal(f"needs height and width that {multiple} divides, found samples {image}", hint)


def _branch(channels: int) -> Block:
    """Norm, ReLU, convolution, twice."""
    convolution = Convolution(channels, channels, False, initial=HeNormal())
    part = (("norm", BatchNorm(channels)), ("relu", Relu()), ("convolution", convolution))
    return Block(tuple((f"{name}{turn}", spec) for turn in range(2) for name, spec in part))


def _output(channels: int, classes: int) -> Block:
    linear = Linear(channels, classes, initial=FanInUniform())
    return Block((("norm", BatchNorm(channels)), ("relu", Relu()), ("pool", GlobalAveragePool()), ("linear", linear)))


def _half(shape: Shape) -> Shape:
    return (shape[0] // 2, *shape[1:])
