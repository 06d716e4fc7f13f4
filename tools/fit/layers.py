"""The layers of a model as `run` cuts it, and what each costs."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError, UserCodeError
from asyncpipe.models.describe import LayerCost
from asyncpipe.models.measure import measure_layers
from asyncpipe.models.modules import split_layers

__all__ = ["Layer", "few_samples", "forward_seconds", "layers_of", "line_through", "measured", "stage_module"]

Layer = tuple[str, nn.Sequential]

_MOST_FLOPS = 2 * 10**10
"""Of a forward that is run here; of a larger microbatch `FEW` samples run, and the rest follows."""
FEW = 4
_REPEATS = 5


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """As the trainer has them: a subclass of nn.Sequential may do more than call its children, and so is one layer."""
    if type(model) is not nn.Sequential:
        return ((type(model).__name__, nn.Sequential(model)),)
    if not len(model):
        raise UsageError("the model is an empty nn.Sequential", "give it at least one module")
    return split_layers(model)


def stage_module(layers: Sequence[Layer], part: range) -> nn.Sequential:
    """The layers of a stage; children keep the names that they have in the model."""
    # named_children() skips repeats.
    children = (child for i in part for child in layers[i][1]._modules.items())
    return nn.Sequential(OrderedDict(children))


def few_samples(layers: Sequence[Layer], sample: Tensor) -> Tensor:
    """The microbatch, or its first samples where all of it would take long.

    Models for one number of samples only get all of them.
    """
    if len(sample) <= FEW:
        return sample
    few = sample[:FEW]
    try:
        flops = sum(cost.forward_flops for cost in _costs(layers, few))
    except UserCodeError:
        return sample
    return few if flops * len(sample) > _MOST_FLOPS * FEW else sample


def measured(layers: Sequence[Layer], sample: Tensor, samples: int) -> tuple[LayerCost, ...]:
    """Counts of each layer for a microbatch of `samples`, of which `sample` has all or some."""
    whole = _costs(layers, sample)
    if len(sample) == samples:
        return whole
    half = _costs(layers, sample[: len(sample) // 2])
    extend = line_through(len(sample) // 2, len(sample), samples)
    return tuple(
        replace(
            cost,
            forward_flops=extend(less.forward_flops, cost.forward_flops),
            activation_bytes=extend(less.activation_bytes, cost.activation_bytes),
        )
        for less, cost in zip(half, whole, strict=True)
    )


def line_through(few: int, more: int, wanted: int) -> Callable[[int, int], int]:
    """From a count with `few` samples and one with `more`, that of `wanted`: all here are linear in them."""
    return lambda first, second: second + (second - first) * (wanted - more) // (more - few)


def _costs(layers: Sequence[Layer], sample: Tensor) -> tuple[LayerCost, ...]:
    return measure_layers([module for _, module in layers], sample, [name for name, _ in layers])


def forward_seconds(layers: Sequence[Layer], sample: Tensor) -> list[float]:
    """The median time of each layer's forward, in training mode and without gradients, after one to warm up."""
    seconds = []
    value: Any = sample
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for _, layer in layers:
            times = []
            for _ in range(_REPEATS + 1):
                given = value.clone() if isinstance(value, Tensor) else value
                start = time.perf_counter()
                result = layer(given)
                times.append(time.perf_counter() - start)
            seconds.append(median(times[1:]))
            value = result
    return seconds
