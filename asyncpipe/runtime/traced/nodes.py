"""Questions about nodes of a traced graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx

import asyncpipe.runtime.traced.cudnn_recurrent  # noqa: F401 - defines the operation
from asyncpipe.runtime.traced.torch_tracing import operation_arguments, operation_results

__all__ = ["ancestors", "draws_numbers", "is_view", "parts_of", "schema_argument"]


def is_view(node: fx.Node) -> bool:
    """Whether the node gives the same memory in another shape: a view, or one of several.

    Weights in cuDNN's order count: only there are they made, from the parameters themselves.
    """
    if node.target is operator.getitem:
        return is_view(node.args[0])  # type: ignore[arg-type]
    if node.target is torch.ops.asyncpipe.cudnn_weights.default:
        return True
    returned = operation_results(node.target)
    return bool(returned) and all(one.alias_info is not None and not one.alias_info.is_write for one in returned)


def parts_of(node: fx.Node) -> list[fx.Node]:
    """Of an operation with several results, those that something reads."""
    return [user for user in node.users if user.target is operator.getitem]


def draws_numbers(node: fx.Node) -> bool:
    """Whether the node takes numbers from a generator; attention does so only with dropout."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    return bool(schema_argument(node, "dropout_p", default=1.0) != 0.0)


def schema_argument(node: fx.Node, name: str, default: Any) -> Any:
    """An argument as the call or its operation's default has it; `default` where there is none of that name."""
    for position, argument in enumerate(operation_arguments(node.target)):
        if argument.name == name:
            if position < len(node.args):
                return node.args[position]
            return node.kwargs.get(name, argument.default_value)
    return default


def ancestors(
    nodes: Iterable[fx.Node | None], stop: Callable[[fx.Node], bool] = lambda node: False
) -> dict[fx.Node, None]:
    """All that `nodes` are computed from, themselves included; not what lies before a node where it stops."""
    found: dict[fx.Node, None] = {}
    left = [node for node in nodes if node is not None]
    while left:
        node = left.pop()
        if node not in found:
            found[node] = None
            left += () if stop(node) else node.all_input_nodes
    return found
