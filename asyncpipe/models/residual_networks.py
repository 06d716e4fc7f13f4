"""Residual networks as specs: He et al. 2015 (arXiv 1512.03385), Zagoruyko and Komodakis 2016 (arXiv 1605.07146).

Convolutions before a batch norm have no bias. A residual block is one child, so that no stage ends inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asyncpipe.models.initial import FanInUniform, HeNormal
from asyncpipe.models.specs import (
    BatchNorm,
    Block,
    Convolution,
    Dropout,
    GlobalAveragePool,
    Linear,
    MaxPool,
    ModuleSpec,
    Relu,
    Residual,
    Subsample,
)
from asyncpipe.models.task import LARGE_IMAGE, Task, image_of
from asyncpipe.options import Boolean, Choice, Integer, Real, option

__all__ = [
    "CifarResnetOptions",
    "ResnetOptions",
    "WideResnet2810Options",
    "WideResnetOptions",
    "cifar_resnet",
    "resnet18",
    "resnet50",
    "wide_resnet",
    "wide_resnet_28_10",
]

Named = tuple[str, ModuleSpec]


@dataclass(frozen=True)
class ResnetOptions:
    """The layers before the blocks, and whether each block begins as its shortcut (arXiv 1706.02677, section 5.1)."""

    stem: str = option("auto", Choice(("auto", "cifar", "imagenet")))
    zero_init: bool = option(False, Boolean())


@dataclass(frozen=True)
class CifarResnetOptions:
    """Layers, 6n + 2 of them; where the width changes, the shortcut pads with zeros (A) or projects (B)."""

    depth: int = option(20, Integer(8, 1202))
    shortcut: str = option("pad", Choice(("pad", "projection")))
    zero_init: bool = option(False, Boolean())


@dataclass(frozen=True)
class WideResnetOptions:
    """Layers, 6n + 4 of them; channels as a multiple of 16; dropout between the convolutions of a block."""

    depth: int = option(28, Integer(10, 1204))
    width: int = option(10, Integer(1, 64))
    dropout: float = option(0.0, Real(0, 1))


@dataclass(frozen=True)
class WideResnet2810Options:
    """Dropout between the convolutions of a block; the paper tries 0 and 0.3."""

    dropout: float = option(0.0, Real(0, 1))


class Place(NamedTuple):
    """Where a block stands: what comes in, its own channels, and its stride."""

    inputs: int
    channels: int
    stride: int


def resnet18(options: ResnetOptions, task: Task) -> Block:
    """Basic blocks; ImageNet: 11.7 M parameters, 1.8 GMACs."""
    return _resnet(options, task, (2, 2, 2, 2), 1, _basic_body)


def resnet50(options: ResnetOptions, task: Task) -> Block:
    """Bottleneck blocks with their stride in the 3x3 convolution; ImageNet: 25.6 M parameters, 4.1 GMACs."""
    return _resnet(options, task, (3, 4, 6, 3), 4, _bottleneck_body)


def _resnet(
    options: ResnetOptions,
    task: Task,
    counts: Sequence[int],
    expansion: int,
    body: Callable[[Place, bool], tuple[Named, ...]],
) -> Block:
    def block(place: Place) -> Block:
        shortcut = _projection(place._replace(channels=place.channels * expansion))
        return _after_sum(Block(body(place, options.zero_init)), shortcut)

    places = _places(64, [64 << index for index in range(len(counts))], counts, expansion)
    return _network(_stem(options.stem, image_of(task)), [block(p) for p in places], 512 * expansion, task.classes)


def cifar_resnet(options: CifarResnetOptions, task: Task) -> Block:
    """Three groups of basic blocks with 16, 32 and 64 channels (section 4.2)."""
    blocks = _per_group(task, options.depth, 2)
    shortcut = _padding if options.shortcut == "pad" else _projection
    body = [
        _after_sum(Block(_basic_body(place, options.zero_init)), shortcut(place))
        for place in _places(16, (16, 32, 64), (blocks,) * 3)
    ]
    return _network(_small_stem(image_of(task)[0], 16), body, 64, task.classes)


def wide_resnet(options: WideResnetOptions, task: Task) -> Block:
    """Three groups of blocks that normalise before they convolve, 16, 32 and 64 channels times `width`."""
    image = image_of(task)
    blocks = _per_group(task, options.depth, 4)
    channels = [size * options.width for size in (16, 32, 64)]
    body = [_wide_block(place, options.dropout) for place in _places(16, channels, (blocks,) * 3)]
    output = Block((*_norm_relu(channels[-1]), *_output(channels[-1], task.classes)))
    return Block((("stem", _convolution(image[0], 16)), *_numbered(body), ("output", output)))


def wide_resnet_28_10(options: WideResnet2810Options, task: Task) -> Block:
    """The paper's largest for CIFAR: 36.5 M parameters."""
    return wide_resnet(WideResnetOptions(28, 10, options.dropout), task)


def _per_group(task: Task, depth: int, others: int) -> int:
    """Blocks of each of three groups, where `others` layers stand outside and a block has two."""
    blocks, rest = divmod(depth - others, 6)
    if rest:
        near = (6 * blocks + others, 6 * blocks + 6 + others)
        raise task.refusal(f"needs a depth of 6n + {others}, found {depth}", f"take {near[0]} or {near[1]}")
    return blocks


def _places(first: int, channels: Sequence[int], counts: Sequence[int], expansion: int = 1) -> list[Place]:
    """One place for each block; the first block of every group but the first halves the image."""
    own = [(size, index) for size, count in zip(channels, counts, strict=True) for index in range(count)]
    inputs = [first, *(size * expansion for size, _ in own)]
    return [
        Place(before, size, 2 if index == 0 and size != channels[0] else 1)
        for before, (size, index) in zip(inputs[:-1], own, strict=True)
    ]


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Convolution:
    return Convolution(inputs, outputs, False, kernel, stride, kernel // 2, initial=HeNormal())


def _convolution_norm(place: Place, number: int, kernel: int, zero: bool = False) -> tuple[Named, Named]:
    convolution = _convolution(place.inputs, place.channels, kernel, place.stride)
    return (f"convolution{number}", convolution), (f"norm{number}", BatchNorm(place.channels, zero))


def _basic_body(place: Place, zero: bool) -> tuple[Named, ...]:
    second = Place(place.channels, place.channels, 1)
    return (*_convolution_norm(place, 0, 3), ("relu0", Relu()), *_convolution_norm(second, 1, 3, zero))


def _bottleneck_body(place: Place, zero: bool) -> tuple[Named, ...]:
    size = place.channels
    return (
        *_convolution_norm(Place(place.inputs, size, 1), 0, 1),
        ("relu0", Relu()),
        *_convolution_norm(Place(size, size, place.stride), 1, 3),
        ("relu1", Relu()),
        *_convolution_norm(Place(size, 4 * size, 1), 2, 1, zero),
    )


def _projection(place: Place) -> ModuleSpec | None:
    """Option B: a 1x1 convolution where the shape changes."""
    return Block(_convolution_norm(place, 0, 1)) if _changes(place) else None


def _padding(place: Place) -> ModuleSpec | None:
    """Option A: no parameters."""
    return Subsample(place.inputs, place.channels) if _changes(place) else None


def _changes(place: Place) -> bool:
    return place.stride > 1 or place.inputs != place.channels


def _after_sum(body: Block, shortcut: ModuleSpec | None) -> Block:
    return Block((("sum", Residual(body, shortcut)), ("relu", Relu())))


def _wide_block(place: Place, dropout: float) -> Block:
    """Where the shape changes, norm and ReLU come before the shortcut too (the authors' code)."""
    body = Block((
        ("convolution0", _convolution(place.inputs, place.channels, 3, place.stride)),
        ("norm", BatchNorm(place.channels)),
        ("relu", Relu()),
        *((("dropout", Dropout(dropout)),) if dropout else ()),
        ("convolution1", _convolution(place.channels, place.channels)),
    ))  # fmt: skip
    before = _norm_relu(place.inputs)
    if _changes(place):
        return Block((*before, ("sum", Residual(body, _convolution(place.inputs, place.channels, 1, place.stride)))))
    return Block((("sum", Residual(Block((*before, ("body", body))))),))


def _norm_relu(channels: int) -> tuple[Named, Named]:
    return ("norm", BatchNorm(channels)), ("relu", Relu())


def _stem(kind: str, image: tuple[int, ...]) -> Block:
    large = min(image[1:]) >= LARGE_IMAGE if kind == "auto" else kind == "imagenet"
    if not large:
        return _small_stem(image[0], 64)
    convolution = _convolution(image[0], 64, 7, 2)
    return Block((("convolution", convolution), *_norm_relu(64), ("pool", MaxPool(3, 2, 1))))


def _small_stem(channels: int, width: int) -> Block:
    return Block((("convolution", _convolution(channels, width)), *_norm_relu(width)))


def _network(stem: Block, blocks: Sequence[Block], features: int, classes: int) -> Block:
    return Block((("stem", stem), *_numbered(blocks), ("output", Block(_output(features, classes)))))


def _numbered(blocks: Sequence[Block]) -> list[Named]:
    return [(f"block{index}", block) for index, block in enumerate(blocks)]


def _output(features: int, classes: int) -> tuple[Named, Named]:
    return ("pool", GlobalAveragePool()), ("linear", Linear(features, classes, initial=FanInUniform()))
