"""How many bytes the graphs of a stage take, from the shapes in their traces: nothing is run or allocated."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from asyncpipe.runtime.traced.divide import Division
from asyncpipe.runtime.traced.nodes import is_view
from asyncpipe.runtime.traced.torch_tracing import flatten

__all__ = ["Footprint", "footprint", "most_at_once"]

BLOCK = 512
"""The caching allocator gives memory out in multiples of it."""
_RECURRENT = torch.ops.asyncpipe.cudnn_recurrent.default


@dataclass(frozen=True)
class Footprint:
    """Bytes of one stage, for one kind of input.

    kept: of one microbatch from its forward to its backward, its input included. inputs, outputs, gradients: of the
    input, the results, and the gradients of the parameters. forward, backward: what is held besides while they run.
    calls: kernels and other nodes of both. unknown: what the shapes do not tell.
    """

    kept: int
    inputs: int
    outputs: int
    gradients: int
    forward: int
    backward: int
    calls: int
    unknown: tuple[str, ...] = field(default=())


def footprint(division: Division, recompute: str, split: bool) -> Footprint:
    """`recompute`: none, full or invert. split: whether a backward runs as I and W, and keeps its seeds in between."""
    joint = division.joint
    again = recompute != "none"
    forward = division.first_forward if again else division.forward
    backwards = [division.input_gradient, division.weight_gradient] if split else [division.backward]
    saved = division.draws if again else division.saved
    seeds = _bytes_of(seed for seed in joint.seeds if seed is not None) if split else 0
    given = () if recompute == "invert" else (*joint.inputs, *joint.targets)
    temporary = max(_besides_outputs(part.graph) for part in backwards)
    second = division.second_forward.graph if again else None
    graphs = [forward.graph.graph, *(part.graph.graph for part in backwards)]
    return Footprint(
        kept=_bytes_of([*saved, *given]) + seeds,
        inputs=_bytes_of(joint.inputs),
        outputs=_bytes_of(joint.results),
        gradients=_bytes_of(one for one in joint.parameter_gradients if one is not None),
        forward=_besides_outputs(forward.graph),
        backward=temporary + (most_at_once(second.graph) if second else 0),
        calls=sum(map(_calls, graphs)) + (_calls(second.graph) if second else 0),
        unknown=("cuDNN's reserve",) if joint.graph.graph.find_nodes(op="call_function", target=_RECURRENT) else (),
    )


def _calls(graph: fx.Graph) -> int:
    """Nodes that launch something."""
    nodes = (node for node in graph.nodes if node.op == "call_function")
    return sum(node.target is not operator.getitem and not is_view(node) for node in nodes)


def _besides_outputs(graph: fx.GraphModule) -> int:
    outputs = [node for node in graph.graph.output_node().all_input_nodes if _memory(node).op == "call_function"]
    return max(0, most_at_once(graph.graph) - _bytes_of(outputs))


def most_at_once(graph: fx.Graph) -> int:
    """The most bytes that the results in a graph take at once as it runs, its arguments not counted.

    A result lives until its last reader, also by way of views, has been called.
    """
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        for read in node.all_input_nodes:
            last[_memory(read)] = node
    ends: dict[fx.Node, list[fx.Node]] = {}
    for memory, reader in last.items():
        ends.setdefault(reader, []).append(memory)
    held = most = 0
    for node in graph.nodes:
        if node.op == "call_function" and _memory(node) is node:
            held += _size(node)
            most = max(most, held)
        held -= sum(_size(memory) for memory in ends.get(node, ()) if memory.op == "call_function")
        if node.op == "call_function" and _memory(node) is node and node not in last:
            held -= _size(node)
    return most


def _memory(node: fx.Node) -> fx.Node:
    """The node that made the memory of a result: its own, or that of what it is a view or a part of."""
    while node.op == "call_function" and node.all_input_nodes and (node.target is operator.getitem or is_view(node)):
        node = node.all_input_nodes[0]
    return node


def _bytes_of(nodes: Iterable[fx.Node]) -> int:
    """Of their memory, each counted once; parts of one result count by themselves."""
    return sum(_size(node) for node in dict.fromkeys(map(_own, nodes)))


def _own(node: fx.Node) -> fx.Node:
    """As `_memory`, but parts of a result with several stay apart."""
    while node.target is not operator.getitem and node.op == "call_function" and node.all_input_nodes and is_view(node):
        node = node.all_input_nodes[0]
    return node


def _size(node: fx.Node) -> int:
    leaves: Sequence[object] = flatten(node.meta.get("val"))[0]
    return sum(-(-_nbytes(leaf) // BLOCK) * BLOCK for leaf in leaves if isinstance(leaf, Tensor))


def _nbytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
