"""Buffers that a forward can write itself, without a copy of the new value: running statistics and counters."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import fx

__all__ = ["update_in_place"]

_aten = torch.ops.aten
_FUNCTIONAL = _aten._native_batch_norm_legit_functional.default
_IN_PLACE = _aten._native_batch_norm_legit.default
_STATISTICS = (3, 4)
"""Of functional batch norm: output 3 is the new value of argument 3, the running mean; 4 is the variance."""


def update_in_place(module: fx.GraphModule, results: int, updated: Mapping[int, str]) -> list[int]:
    """Rewrites the updates of the buffers `updated` (index: argument) that nothing else in the graph can see.

    The outputs of `module` are `results` results, the new values and others; the values that it now writes itself
    are outputs no more. Gives the indices of the rest.
    """
    graph = module.graph
    arguments = {node.target: node for node in graph.find_nodes(op="placeholder")}
    outputs = list(graph.output_node().args[0])  # type: ignore[arg-type]
    pairs = {i: (arguments[name], new) for (i, name), new in zip(updated.items(), outputs[results:], strict=False)}
    done = {i for i, (buffer, new) in pairs.items() if _is_counter(buffer, new)}
    done |= {i for norm in _batch_norms(graph) for i in _statistics_of(norm, pairs)}
    left = [i for i in updated if i not in done]
    outputs[results : results + len(updated)] = [pairs[i][1] for i in left]
    graph.output_node().args = (tuple(outputs),)
    for i in done:
        _rewrite(pairs[i][1])
    graph.lint()
    module.recompile()
    return left


def _is_hidden(buffer: fx.Node, new: fx.Node) -> bool:
    """Whether the operation that makes `new` is the only reader of the buffer, and the output the only one of `new`."""
    before, after = buffer.meta["val"], new.meta["val"]
    same = (before.shape, before.dtype) == (after.shape, after.dtype)
    return same and len(buffer.users) == 1 and len(new.users) == 1


def _is_counter(buffer: fx.Node, new: fx.Node) -> bool:
    return new.target is _aten.add.Tensor and new.args[0] is buffer and _is_hidden(buffer, new)


def _batch_norms(graph: fx.Graph) -> list[fx.Node]:
    return graph.find_nodes(op="call_function", target=_FUNCTIONAL)


def _statistics_of(norm: fx.Node, pairs: Mapping[int, tuple[fx.Node, fx.Node]]) -> list[int]:
    """The buffers of a batch norm, if it may write them: both or none."""
    outputs = {user.args[1]: user for user in norm.users if user.target is operator.getitem}
    found = [
        i
        for place in _STATISTICS
        for i, (buffer, new) in pairs.items()
        if norm.args[place] is buffer and outputs.get(place) is new and _is_hidden(buffer, new)
    ]
    return found if len(found) == len(_STATISTICS) else []


def _rewrite(new: fx.Node) -> None:
    """To the operation that writes its argument."""
    if new.target is _aten.add.Tensor:
        new.target = _aten.add_.Tensor
        return
    norm = new.args[0]
    assert isinstance(norm, fx.Node)
    norm.target = _IN_PLACE
    new.graph.erase_node(new)
