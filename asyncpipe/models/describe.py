"""What each layer of a built-in model costs, from its options alone: no torch, no allocation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from asyncpipe.errors import UsageError
from asyncpipe.models.plan import plan
from asyncpipe.models.specs import Block, Shape

__all__ = ["LayerCost", "describe", "group_layers"]

FLOAT_BYTES = 4

Module = TypeVar("Module")
Named = tuple[str, Module]


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer for one microbatch."""

    name: str
    forward_flops: int
    """Matrix products and convolutions only; a multiply-add is 2."""
    parameters: int
    parameter_bytes: int
    activation_bytes: int
    """Bytes of the layer's output; what autograd keeps besides is not in it."""
    operations: int
    """Launches of one forward, roughly; views launch nothing."""


def describe(
    name: str,
    options: Mapping[str, object],
    sample_shape: Shape,
    classes: int,
    batch: int,
    vocabulary: int | None = None,
    target_shape: Shape | None = None,
) -> tuple[LayerCost, ...]:
    """Costs of the layers that `build` makes of the same arguments, in float32, for `batch` samples."""
    if batch < 1:
        raise UsageError(f"expected a batch of at least 1 sample, found {batch}")
    shape = tuple(sample_shape)
    costs = []
    children = plan(name, options, shape, classes, vocabulary, target_shape).children
    for layer, parts in group_layers(children, lambda child: child.parameters() > 0):
        block = Block(parts)
        costs.append(_cost(layer, block, shape, batch))
        shape = block.output_shape(shape)
    return tuple(costs)


def group_layers(
    children: Sequence[Named[Module]], has_parameters: Callable[[Module], bool]
) -> tuple[tuple[str, tuple[Named[Module], ...]], ...]:
    """Cut children into layers: one with parameters, which names it, and the parameter-free ones after it.

    Parameter-free children before the first of these belong to it.
    """
    layers: list[tuple[str, list[Named[Module]]]] = []
    leading: list[Named[Module]] = []
    for name, module in children:
        if has_parameters(module):
            layers.append((name, [*leading, (name, module)]))
            leading = []
        else:
            (layers[-1][1] if layers else leading).append((name, module))
    if leading:
        layers.append((leading[0][0], leading))
    return tuple((name, tuple(parts)) for name, parts in layers)


def _cost(name: str, block: Block, shape: Shape, batch: int) -> LayerCost:
    return LayerCost(
        name=name,
        forward_flops=batch * block.flops(shape),
        parameters=block.parameters(),
        parameter_bytes=FLOAT_BYTES * block.parameters(),
        activation_bytes=FLOAT_BYTES * batch * math.prod(block.output_shape(shape)),
        operations=block.operations(shape),
    )
