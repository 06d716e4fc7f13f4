"""Passes over a traced graph before anything else looks at it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from asyncpipe.runtime.traced.effects import without_effects
from asyncpipe.runtime.traced.nodes import ancestors, draws_numbers, is_view
from asyncpipe.runtime.traced.recurrent import keep_workspace

__all__ = ["simplify"]

_aten = torch.ops.aten


def simplify(module: fx.GraphModule, inputs: int) -> None:
    """`inputs`: how many of the arguments, from the first, are the stage's inputs."""
    without_effects(module.graph)
    _without_detach(module.graph)
    _without_copies(module.graph, inputs)
    _without_unread_statistics(module.graph)
    keep_workspace(module.graph)
    _fold_constants(module)
    module.graph.eliminate_dead_code()
    module.recompile()


def _without_detach(graph: fx.Graph) -> None:
    """Nothing here knows autograd: a detached tensor is the tensor."""
    for node in list(graph.nodes):
        if node.target in (_aten.detach.default, _aten.alias.default):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _without_copies(graph: fx.Graph, inputs: int) -> None:
    """Of inputs, which nothing writes to; a parameter or a buffer changes while a copy of it is in use."""
    for argument in graph.find_nodes(op="placeholder")[:inputs]:
        for node in list(argument.users):
            if node.target is _aten.clone.default and node.meta["val"].stride() == argument.meta["val"].stride():
                node.replace_all_uses_with(argument)
                graph.erase_node(node)


def _without_unread_statistics(graph: fx.Graph) -> None:
    """Batch norm goes back through the statistics of its batch; the running ones it is given for nothing."""
    for node in graph.find_nodes(op="call_function", target=_aten.native_batch_norm_backward.default):
        if node.args[7]:
            for place in (3, 4):
                node.update_arg(place, None)


def _fold_constants(module: fx.GraphModule) -> None:
    """Computes once what depends on no argument and on no generator: masks, positions, tensors of user code.

    A graph then creates no tensor on the CPU and copies none from there, which a CUDA graph could not capture. What
    leaves the graph is computed each time: its reader may keep it or write to it.
    """
    graph = module.graph
    folded = _Folding(module).values
    for node in _leaving(graph.output_node()):
        folded.pop(node, None)
    for number, (node, value) in enumerate(folded.items()):
        if all(user in folded for user in node.users):
            continue
        module.register_buffer(f"_folded{number}", value, persistent=False)
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.get_attr(f"_folded{number}"))


def _leaving(output: fx.Node) -> dict[fx.Node, None]:
    """Outputs, and what they are views of."""
    return ancestors(output.all_input_nodes, stop=lambda node: not is_view(node))


class _Folding(fx.Interpreter):
    """Evaluates the nodes of a graph that need no argument."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Any] = {}
        with torch.no_grad():
            for node in module.graph.nodes:
                if self._is_constant(node):
                    self.env[node] = self.run_node(node)
                    if node.op == "call_function" and isinstance(self.env[node], Tensor):
                        self.values[node] = self.env[node]

    def _is_constant(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            return True
        if node.op != "call_function" or draws_numbers(node):
            return False
        return all(before in self.env for before in node.all_input_nodes)
