"""A part of a joint graph as a function of its own."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from torch import fx

from asyncpipe.runtime.traced.nodes import ancestors
from asyncpipe.runtime.traced.torch_tracing import operation_arguments

__all__ = ["extract"]


def extract(
    graph: fx.GraphModule,
    inputs: Mapping[fx.Node, str],
    outputs: Sequence[fx.Node | None],
    name: str,
) -> fx.GraphModule:
    """`outputs` as a function of `inputs` (node: name of the argument); operations keep their order."""
    part, copies = fx.Graph(), {}
    for node, argument in inputs.items():
        copies[node] = part.placeholder(argument)
        copies[node].meta = dict(node.meta)
    needed = ancestors(outputs, stop=copies.__contains__)
    for node in graph.graph.nodes:
        if node in needed and node not in copies:
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(tuple(None if node is None else copies[node] for node in outputs))
    _narrow_masks(part)
    part.lint()
    return fx.GraphModule(graph, part, name)


def _narrow_masks(graph: fx.Graph) -> None:
    """Operations with several gradients compute those that something reads."""
    for node in graph.nodes:
        position = _mask_position(node)
        if position is not None and all(user.target is operator.getitem for user in node.users):
            read = {user.args[1] for user in node.users}
            mask = [wanted and index in read for index, wanted in enumerate(node.args[position])]
            node.update_arg(position, mask)


def _mask_position(node: fx.Node) -> int | None:
    names = [argument.name for argument in operation_arguments(node.target)]
    if "output_mask" not in names or names.index("output_mask") >= len(node.args):
        return None
    return names.index("output_mask")
