"""Transformers and MLP-Mixer as specs. A block of the paper is one child, so that no stage ends inside it."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from asyncpipe.models.initial import Initial, LecunNormal, Normal, TruncatedNormal, Zeros
from asyncpipe.models.networks import VOCABULARY, WIDTH
from asyncpipe.models.sequence_specs import (
    Attention,
    ClassToken,
    Embedding,
    FirstStep,
    MeanStep,
    PatchTokens,
    Positions,
    Transposed,
)
from asyncpipe.models.specs import (
    Block,
    Convolution,
    Dropout,
    Gelu,
    LayerNorm,
    Linear,
    ModuleSpec,
    Residual,
    Tied,
)
from asyncpipe.models.task import Task, divided, embedded_ids, patches_of
from asyncpipe.options import Boolean, Integer, Real, option

__all__ = ["GptOptions", "MixerOptions", "VitOptions", "gpt", "mixer", "vit_tiny"]

Named = tuple[str, ModuleSpec]


@dataclass(frozen=True)
class GptOptions:
    """GPT-2 small; `context` is the samples' steps and `vocabulary` their token ids where they are left out.

    `tied` shares the embedding with the output, and makes the model one layer: a shared weight has one stage.
    """

    layers: int = option(12, Integer(1, 1000))
    heads: int = option(12, Integer(1, 1024))
    width: int = option(768, WIDTH)
    context: int | None = option(None, Integer(1, 1_000_000))
    vocabulary: int | None = option(None, VOCABULARY)
    dropout: float = option(0.1, Real(0, 1))
    tied: bool = option(False, Boolean())


@dataclass(frozen=True)
class VitOptions:
    """ViT-Ti; patches of 16 x 16 pixels from 128 pixels on, else of 4 x 4."""

    layers: int = option(12, Integer(1, 1000))
    heads: int = option(3, Integer(1, 1024))
    width: int = option(192, WIDTH)
    patch: int | None = option(None, Integer(1, 1024))
    dropout: float = option(0.0, Real(0, 1))


@dataclass(frozen=True)
class MixerOptions:
    """Mixer-S; widths of the hidden layers along tokens and channels, patches as for ViT.

    `zero_init` begins the output at zero, as the authors do.
    """

    layers: int = option(8, Integer(1, 1000))
    width: int = option(512, WIDTH)
    token_hidden: int = option(256, WIDTH)
    channel_hidden: int = option(2048, WIDTH)
    patch: int | None = option(None, Integer(1, 1024))
    zero_init: bool = option(True, Boolean())


@dataclass(frozen=True)
class Style:
    """What the blocks of one transformer have in common."""

    width: int
    heads: int
    dropout: float
    causal: bool
    tanh: bool
    eps: float
    initial: Initial
    last: Initial
    """Of the weights whose products are added to the residual stream."""


def gpt(options: GptOptions, task: Task) -> Block:
    """(steps,) token ids -> (steps, vocabulary) (Radford et al. 2019); 124 M parameters when tied.

    Weights: the authors' code, standard deviation 0.02, for positions 0.01, and in front of the 2 * layers sums
    0.02 / sqrt(2 * layers) (section 2.3).
    """
    context = _context(options, task)
    ids = embedded_ids(task, options.vocabulary, max(task.vocabulary or 1, task.classes))
    divided(task, options.width, options.heads)
    width, weights = options.width, Normal(0.02)
    summed = Normal(0.02 / sqrt(2 * options.layers))
    style = Style(width, options.heads, options.dropout, True, True, 1e-5, weights, summed)
    embedding = Block((
        ("tokens", Embedding(ids, width, initial=weights)),
        ("positions", Positions(context, width, initial=Normal(0.01))),
        *_dropout(options.dropout),
    ))  # fmt: skip
    output = Block((("norm", LayerNorm(width)), ("linear", Linear(width, ids, bias=False, initial=weights))))
    body = Block((("embedding", embedding), *_blocks(options.layers, style), ("output", output)))
    if not options.tied:
        return body
    return Block((("tied", Tied(body, "embedding.tokens", "output.linear", ids * width)),))


def _context(options: GptOptions, task: Task) -> int:
    if len(task.sample_shape) != 1:
        raise task.refusal(f"takes token ids of shape (steps,), found samples {task.sample_shape}")
    if task.target_shape is not None and not task.every_step:
        raise task.refusal(
            f"gives a class for each step, found targets of shape {task.target_shape} for {task.sample_shape}",
            "take lstm, or data whose targets are the next tokens",
        )
    (steps,) = task.sample_shape
    if options.context is not None and options.context < steps:
        raise task.refusal(
            f"has a 'context' of {options.context}, but the samples have {steps} steps",
            "make 'context' larger, or the data's samples shorter",
        )
    return options.context or steps


def vit_tiny(options: VitOptions, task: Task) -> Block:
    """ViT-Ti of DeiT (arXiv 2012.12877) on arXiv 2010.11929: 5.7 M parameters and 1.26 GMACs at 224 pixels."""
    patch, patches = patches_of(task, options.patch)
    divided(task, options.width, options.heads)
    width, weights = options.width, TruncatedNormal(0.02)
    style = Style(width, options.heads, options.dropout, False, False, 1e-6, weights, weights)
    embedding = Block((
        ("patches", _patches(task, patch, width)),
        ("token", ClassToken(width, initial=weights)),
        ("positions", Positions(patches + 1, width, initial=weights)),
        *_dropout(options.dropout),
    ))  # fmt: skip
    output = Block((
        ("first", FirstStep()),
        ("norm", LayerNorm(width, 1e-6)),
        ("linear", Linear(width, task.classes, initial=weights)),
    ))  # fmt: skip
    return Block((("embedding", embedding), *_blocks(options.layers, style), ("output", output)))


def mixer(options: MixerOptions, task: Task) -> Block:
    """Mixer-S (arXiv 2105.01601, appendix E for the weights): 18.5 M parameters at 224 pixels."""
    patch, patches = patches_of(task, options.patch)
    width = options.width
    tokens = _perceptron(patches, options.token_hidden)
    channels = _perceptron(width, options.channel_hidden)
    block = Block((
        ("tokens", Residual(Block((("norm", LayerNorm(width, 1e-6)), ("mixing", Transposed(tokens)))))),
        ("channels", Residual(Block((("norm", LayerNorm(width, 1e-6)), ("mixing", channels))))),
    ))  # fmt: skip
    output = Block((
        ("norm", LayerNorm(width, 1e-6)),
        ("mean", MeanStep()),
        ("linear", Linear(width, task.classes, initial=Zeros() if options.zero_init else LecunNormal())),
    ))  # fmt: skip
    blocks = [(f"block{index}", block) for index in range(options.layers)]
    return Block((("patches", _patches(task, patch, width)), *blocks, ("output", output)))


def _patches(task: Task, patch: int, width: int) -> Block:
    """Each patch as one step: (channels, height, width) -> (patches, width)."""
    channels = task.sample_shape[0]
    convolution = Convolution(channels, width, True, patch, patch, 0, initial=LecunNormal())
    return Block((("convolution", convolution), ("tokens", PatchTokens())))


def _perceptron(size: int, hidden: int) -> Block:
    return Block((
        ("expand", Linear(size, hidden, initial=LecunNormal())),
        ("gelu", Gelu(tanh=True)),
        ("contract", Linear(hidden, size, initial=LecunNormal())),
    ))  # fmt: skip


def _blocks(layers: int, style: Style) -> list[Named]:
    block = Block((("attention", Residual(_attention(style))), ("perceptron", Residual(_feed_forward(style)))))
    return [(f"block{index}", block) for index in range(layers)]


def _attention(style: Style) -> Block:
    width = style.width
    return Block((
        ("norm", LayerNorm(width, style.eps)),
        ("projections", Linear(width, 3 * width, initial=style.initial)),
        ("heads", Attention(style.heads, style.causal, style.dropout)),
        ("output", Linear(width, width, initial=style.last)),
        *_dropout(style.dropout),
    ))  # fmt: skip


def _feed_forward(style: Style) -> Block:
    width = style.width
    return Block((
        ("norm", LayerNorm(width, style.eps)),
        ("expand", Linear(width, 4 * width, initial=style.initial)),
        ("gelu", Gelu(style.tanh)),
        ("contract", Linear(4 * width, width, initial=style.last)),
        *_dropout(style.dropout),
    ))  # fmt: skip


def _dropout(probability: float) -> tuple[Named, ...]:
    return (("dropout", Dropout(probability)),) if probability else ()
