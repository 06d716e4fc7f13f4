"""Plain networks as specs: perceptrons, convolutions and LSTMs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from asyncpipe.errors import UsageError
from asyncpipe.models.sequence_specs import Embedding, LastStep, Recurrent, Rows
from asyncpipe.models.specs import (
    BatchNorm,
    Block,
    Convolution,
    Flatten,
    LayerNorm,
    Linear,
    MaxPool,
    ModuleSpec,
    Relu,
    Residual,
)
from asyncpipe.models.task import Task, embedded_ids, image_of, refuse_tokens
from asyncpipe.options import Boolean, Choice, Integer, Integers, option

__all__ = [
    "VOCABULARY",
    "WIDTH",
    "ConvnetOptions",
    "DeepNarrowOptions",
    "LstmOptions",
    "MlpOptions",
    "convnet",
    "deep_narrow",
    "lstm",
    "mlp",
]

WIDTH = Integer(1, 65536)
VOCABULARY = Integer(1, 10_000_000)


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
    """Recurrent layers and their width; with a vocabulary, samples are token ids (`embedding`: `hidden`)."""

    layers: int = option(2, Integer(1, 64))
    hidden: int = option(256, WIDTH)
    vocabulary: int | None = option(None, VOCABULARY)
    embedding: int | None = option(None, WIDTH)


@dataclass(frozen=True)
class DeepNarrowOptions:
    """How many hidden layers, their width, and whether each but the first adds its input to its output.

    Without `residual` forty layers map all samples to nearly one point, and do not train.
    """

    layers: int = option(40, Integer(1, 1000))
    width: int = option(128, WIDTH)
    residual: bool = option(True, Boolean())


def mlp(options: MlpOptions, task: Task) -> Block:
    refuse_tokens(task)
    widths = Flatten().output_shape(task.sample_shape) + options.hidden
    hidden = [
        (f"hidden{index}", Block((("linear", Linear(inputs, outputs)), ("relu", Relu()))))
        for index, (inputs, outputs) in enumerate(pairwise(widths))
    ]
    return Block((("flatten", Flatten()), *hidden, ("output", Linear(widths[-1], task.classes))))


def deep_narrow(options: DeepNarrowOptions, task: Task) -> Block:
    refuse_tokens(task)
    width = options.width
    (features,) = Flatten().output_shape(task.sample_shape)
    later = _narrow_block(width, width)
    blocks: list[ModuleSpec] = [_narrow_block(features, width)]
    blocks += [Residual(later) if options.residual else later] * (options.layers - 1)
    hidden = [(f"hidden{index}", block) for index, block in enumerate(blocks)]
    return Block((("flatten", Flatten()), *hidden, ("output", Linear(width, task.classes))))


def _narrow_block(inputs: int, width: int) -> Block:
    return Block((("linear", Linear(inputs, width)), ("norm", LayerNorm(width)), ("relu", Relu())))


def convnet(options: ConvnetOptions, task: Task) -> Block:
    shape = image_of(task)
    _check_pooled(task, smallest=2 ** (len(options.channels) - 1))
    channels = shape[:1] + options.channels
    blocks = [
        (f"block{index}", _convolution_block(inputs, outputs, norm=options.norm == "batch", pool=index > 0))
        for index, (inputs, outputs) in enumerate(pairwise(channels))
    ]
    body = (*blocks, ("flatten", Flatten()))
    (features,) = Block(body).output_shape(shape)
    hidden = Block((("linear", Linear(features, options.hidden)), ("relu", Relu())))
    return Block((*body, ("hidden", hidden), ("output", Linear(options.hidden, task.classes))))


def _convolution_block(inputs: int, outputs: int, norm: bool, pool: bool) -> Block:
    # A batch norm subtracts the mean, so that a bias before it would have no gradient.
    children: list[tuple[str, ModuleSpec]] = [("convolution", Convolution(inputs, outputs, bias=not norm))]
    if norm:
        children.append(("norm", BatchNorm(outputs)))
    children.append(("relu", Relu()))
    if pool:
        children.append(("pool", MaxPool()))
    return Block(tuple(children))


def _check_pooled(task: Task, smallest: int) -> None:
    if min(task.sample_shape[1:]) < smallest:
        raise UsageError(
            f"model {task.model}: every convolution but the first halves the image, so that it needs at least "
            f"{smallest} x {smallest} pixels, found samples {task.sample_shape}",
            "give 'channels' fewer entries",
        )


def lstm(options: LstmOptions, task: Task) -> Block:
    """Rows of an image, or token ids. One class from the last step, or one from each where the targets have it."""
    name, first = _sequence(options, task)
    _, features = first.output_shape(task.sample_shape)
    inputs = (features,) + (options.hidden,) * (options.layers - 1)
    recurrent = [(f"recurrent{index}", Recurrent(size, options.hidden)) for index, size in enumerate(inputs)]
    last = [] if task.every_step else [("last", LastStep())]
    return Block(((name, first), *recurrent, *last, ("output", Linear(options.hidden, task.classes))))


def _sequence(options: LstmOptions, task: Task) -> tuple[str, ModuleSpec]:
    if options.vocabulary is not None or task.vocabulary is not None:
        if len(task.sample_shape) != 1:
            raise UsageError(
                f"model lstm with a vocabulary takes token ids of shape (steps,), found samples {task.sample_shape}",
                "leave 'vocabulary' out for images",
            )
        ids = embedded_ids(task, options.vocabulary, task.vocabulary or 1)
        return "embedding", Embedding(ids, options.embedding or options.hidden)
    if options.embedding is not None:
        raise UsageError("model lstm: option 'embedding' needs 'vocabulary'", "give both or neither")
    image_of(task)
    return "rows", Rows()
