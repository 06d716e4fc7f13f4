"""The built-in models as specs, from their options: what `build` makes real and `describe` prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from asyncpipe.errors import UsageError
from asyncpipe.models.options import Boolean, Choice, Integer, Integers, option, read_options, suggestion
from asyncpipe.models.specs import (
    BatchNorm,
    Block,
    Convolution,
    Embedding,
    Flatten,
    LastStep,
    LayerNorm,
    Linear,
    MaxPool,
    ModuleSpec,
    Recurrent,
    Relu,
    Residual,
    Rows,
    Shape,
)

__all__ = ["NAMES", "ConvnetOptions", "DeepNarrowOptions", "LstmOptions", "MlpOptions", "plan"]

WIDTH = Integer(1, 65536)


@dataclass(frozen=True)
class MlpOptions:
    """Widths of the hidden layers."""

    hidden: tuple[int, ...] = option((128, 128), Integers(WIDTH, 1, 256))


@dataclass(frozen=True)
class ConvnetOptions:
    """Channels of each 3x3 convolution, width of the linear layer after them, norm after each convolution."""

    channels: tuple[int, ...] = option((32, 64, 64), Integers(Integer(1, 8192), 1, 16))
    hidden: int = option(128, WIDTH)
    norm: str = option("batch", Choice(("batch", "none")))


@dataclass(frozen=True)
class LstmOptions:
    """Recurrent layers and their width; with `vocabulary`, samples are token ids (`embedding`: `hidden`)."""

    layers: int = option(2, Integer(1, 64))
    hidden: int = option(256, WIDTH)
    vocabulary: int | None = option(None, Integer(1, 10_000_000))
    embedding: int | None = option(None, WIDTH)


@dataclass(frozen=True)
class DeepNarrowOptions:
    """How many hidden layers, their width, and whether each but the first adds its input to its output.

    Without `residual` forty layers map all samples to nearly one point, and do not train.
    """

    layers: int = option(40, Integer(1, 1000))
    width: int = option(128, WIDTH)
    residual: bool = option(True, Boolean())


def plan(name: str, options: Mapping[str, object], sample_shape: Shape, classes: int) -> Block:
    """The model `name` for samples of `sample_shape`; UsageError for what it cannot take."""
    if name not in _MODELS:
        known = ", ".join(NAMES)
        raise UsageError(f"no built-in model is called {name!r}{suggestion(name, NAMES)}", f"models: {known}")
    if not sample_shape or min(sample_shape) < 1 or classes < 1:
        raise UsageError(f"model {name} takes positive sizes, found samples {sample_shape}, {classes} classes")
    kind, make = _MODELS[name]
    return make(read_options(kind, f"model {name}", options), tuple(sample_shape), classes)


def _mlp(options: MlpOptions, shape: Shape, classes: int) -> Block:
    widths = Flatten().output_shape(shape) + options.hidden
    hidden = [
        (f"hidden{index}", Block((("linear", Linear(inputs, outputs)), ("relu", Relu()))))
        for index, (inputs, outputs) in enumerate(pairwise(widths))
    ]
    return Block((("flatten", Flatten()), *hidden, ("output", Linear(widths[-1], classes))))


def _deep_narrow(options: DeepNarrowOptions, shape: Shape, classes: int) -> Block:
    width = options.width
    (features,) = Flatten().output_shape(shape)
    later = _narrow_block(width, width)
    blocks: list[ModuleSpec] = [_narrow_block(features, width)]
    blocks += [Residual(later) if options.residual else later] * (options.layers - 1)
    hidden = [(f"hidden{index}", block) for index, block in enumerate(blocks)]
    return Block((("flatten", Flatten()), *hidden, ("output", Linear(width, classes))))


def _narrow_block(inputs: int, width: int) -> Block:
    return Block((("linear", Linear(inputs, width)), ("norm", LayerNorm(width)), ("relu", Relu())))


def _convnet(options: ConvnetOptions, shape: Shape, classes: int) -> Block:
    _check_image("convnet", shape, smallest=2 ** (len(options.channels) - 1))
    channels = shape[:1] + options.channels
    blocks = [
        (f"block{index}", _convolution_block(inputs, outputs, norm=options.norm == "batch", pool=index > 0))
        for index, (inputs, outputs) in enumerate(pairwise(channels))
    ]
    body = (*blocks, ("flatten", Flatten()))
    (features,) = Block(body).output_shape(shape)
    hidden = Block((("linear", Linear(features, options.hidden)), ("relu", Relu())))
    return Block((*body, ("hidden", hidden), ("output", Linear(options.hidden, classes))))


def _convolution_block(inputs: int, outputs: int, norm: bool, pool: bool) -> Block:
    # A batch norm subtracts the mean, so that a bias before it would have no gradient.
    children: list[tuple[str, ModuleSpec]] = [("convolution", Convolution(inputs, outputs, bias=not norm))]
    if norm:
        children.append(("norm", BatchNorm(outputs)))
    children.append(("relu", Relu()))
    if pool:
        children.append(("pool", MaxPool()))
    return Block(tuple(children))


def _lstm(options: LstmOptions, shape: Shape, classes: int) -> Block:
    name, first = _sequence(options, shape)
    _, features = first.output_shape(shape)
    inputs = (features,) + (options.hidden,) * (options.layers - 1)
    recurrent = [(f"recurrent{index}", Recurrent(size, options.hidden)) for index, size in enumerate(inputs)]
    output = Linear(options.hidden, classes)
    return Block(((name, first), *recurrent, ("last", LastStep()), ("output", output)))


def _sequence(options: LstmOptions, shape: Shape) -> tuple[str, ModuleSpec]:
    if options.vocabulary is not None:
        if len(shape) != 1:
            raise UsageError(
                f"model lstm with a vocabulary takes token ids of shape (steps,), found samples {shape}",
                "leave 'vocabulary' out for images",
            )
        return "embedding", Embedding(options.vocabulary, options.embedding or options.hidden)
    if options.embedding is not None:
        raise UsageError("model lstm: option 'embedding' needs 'vocabulary'", "give both or neither")
    _check_image("lstm", shape, smallest=1)
    return "rows", Rows()


def _check_image(name: str, shape: Shape, smallest: int) -> None:
    if len(shape) != 3:
        raise UsageError(
            f"model {name} takes images of shape (channels, height, width), found samples {shape}",
            "take another model (mlp and deep-narrow accept any shape) or other data",
        )
    if min(shape[1:]) < smallest:
        raise UsageError(
            f"model {name}: every convolution but the first halves the image, so that it needs at least "
            f"{smallest} x {smallest} pixels, found samples {shape}",
            "give 'channels' fewer entries",
        )


_MODELS: dict[str, tuple[type[Any], Callable[[Any, Shape, int], Block]]] = {
    "mlp": (MlpOptions, _mlp),
    "convnet": (ConvnetOptions, _convnet),
    "lstm": (LstmOptions, _lstm),
    "deep-narrow": (DeepNarrowOptions, _deep_narrow),
}

NAMES = tuple(_MODELS)
