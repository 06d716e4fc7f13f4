"""A joint graph divided into what forwards and backwards run, and what is kept in between.

A backward reads parameters and buffers as they are then. What else a forward computed is saved as it was, as autograd
would; but views are made again, those of parameters from the parameters themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, fx

from asyncpipe.runtime.traced.compiled import Compile, Run, uncompiled
from asyncpipe.runtime.traced.extract import extract
from asyncpipe.runtime.traced.in_place import update_in_place
from asyncpipe.runtime.traced.joint import Joint
from asyncpipe.runtime.traced.nodes import ancestors, draws_numbers, is_view, parts_of

__all__ = ["Backward", "Division", "Forward"]

Indices = tuple[int, ...]


@dataclass(frozen=True)
class Forward:
    """From inputs, targets, parameters and buffers to results, new values of the buffers `updated`, and what is kept.

    The other buffers that change are written by the graph itself.
    """

    graph: fx.GraphModule
    function: Run
    updated: Indices
    results: int

    def run(self, arguments: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """(results, new values of buffers, kept)."""
        found = self.function(*arguments)
        first = self.results + len(self.updated)
        return found[: self.results], found[self.results : first], found[first:]


@dataclass(frozen=True)
class Backward:
    """Gradients from a choice of parameters, buffers, saved values and gradients of the results, by index."""

    graph: fx.GraphModule
    function: Run
    parameters: Indices
    buffers: Indices
    saved: Indices
    seeds: Indices
    reached: tuple[frozenset[int] | None, ...]
    """For each gradient, the seeds it depends on; None where there is no gradient."""

    def run(
        self,
        parameters: Sequence[Tensor],
        buffers: Sequence[Tensor],
        saved: Sequence[Tensor],
        seeds: Sequence[Tensor | None],
    ) -> tuple[Tensor | None, ...]:
        found = self.function(
            *[parameters[i] for i in self.parameters],
            *[buffers[i] for i in self.buffers],
            *[saved[i] for i in self.saved],
            *[seeds[i] for i in self.seeds],
        )
        return tuple(found)


class Division:
    """The functions of one joint graph; each is made, and compiled, when it is first wanted."""

    def __init__(self, joint: Joint, make: Compile = uncompiled) -> None:
        self.joint = joint
        self._make = make
        self._nodes = list(joint.graph.graph.nodes)
        self._forward = joint.computed_forward
        self._arguments_of_backward = {*joint.parameters, *joint.buffers, *joint.seeds}
        read = ancestors(joint.gradients, stop=self._is_saved)
        self.saved = tuple(node for node in self._nodes if node in read and self._is_saved(node))

    def _is_saved(self, node: fx.Node) -> bool:
        """Whether a backward takes it from its forward."""
        if node in self._arguments_of_backward or node.op == "get_attr" or is_view(node):
            return False
        return node.op == "placeholder" or node in self._forward

    @property
    def _arguments(self) -> dict[fx.Node, str]:
        joint = self.joint
        return _named(input=joint.inputs, target=joint.targets, parameter=joint.parameters, buffer=joint.buffers)

    @cached_property
    def forward(self) -> Forward:
        """Keeps what a backward needs."""
        return self._make_forward("Forward", self.saved)

    @cached_property
    def draws(self) -> tuple[fx.Node, ...]:
        """What came from a generator, where another forward is to repeat it."""
        random = [node for node in self._nodes if node in self._forward and draws_numbers(node)]
        return tuple(one for node in random for one in parts_of(node) or [node])

    @cached_property
    def first_forward(self) -> Forward:
        """Keeps nothing but its draws."""
        return self._make_forward("FirstForward", self.draws)

    def _make_forward(self, name: str, kept: Sequence[fx.Node]) -> Forward:
        joint = self.joint
        outputs = [*joint.results, *(joint.updated[i] for i in joint.changed), *kept]
        graph = extract(joint.graph, self._arguments, outputs, name)
        left = update_in_place(graph, len(joint.results), {i: f"buffer_{i}" for i in joint.changed})
        return Forward(graph, self._make(graph), tuple(left), len(joint.results))

    @cached_property
    def second_forward(self) -> Forward:
        """Takes the draws of the first after its other arguments; moves no buffer, gives no result."""
        arguments = self._arguments | _named(draw=self.draws)
        graph = extract(self.joint.graph, arguments, self.saved, "SecondForward")
        return Forward(graph, self._make(graph), (), 0)

    @cached_property
    def reread_buffers(self) -> Indices:
        """Those that a forward changes and that a second one must find as they were."""
        needed = ancestors(self.saved)
        return tuple(i for i in self.joint.changed if self.joint.buffers[i] in needed)

    @cached_property
    def backward(self) -> Backward:
        """Gradients of the inputs, then of the parameters."""
        return self._make_backward("Backward", self.joint.gradients)

    @cached_property
    def input_gradient(self) -> Backward:
        return self._make_backward("InputGradient", self.joint.input_gradients)

    @cached_property
    def weight_gradient(self) -> Backward:
        return self._make_backward("WeightGradient", self.joint.parameter_gradients)

    @property
    def computed_twice(self) -> int:
        """The gradients inside the stage that both halves of a split backward compute."""
        halves = self.joint.input_gradients, self.joint.parameter_gradients
        first, second = (ancestors(half, stop=self._is_saved) for half in halves)
        common = [node for node in first if node in second and node.op == "call_function"]
        return sum(not (self._is_saved(node) or is_view(node) or parts_of(node)) for node in common)

    def _make_backward(self, name: str, gradients: Sequence[fx.Node | None]) -> Backward:
        joint = self.joint
        read = ancestors(gradients, stop=self._is_saved)
        sources = (joint.parameters, joint.buffers, self.saved, joint.seeds)
        chosen = [{i: node for i, node in enumerate(nodes) if node is not None and node in read} for nodes in sources]
        kinds = ("parameter", "buffer", "saved", "seed")
        arguments = {
            node: f"{kind}_{i}" for kind, nodes in zip(kinds, chosen, strict=True) for i, node in nodes.items()
        }
        graph = extract(joint.graph, arguments, gradients, name)
        parameters, buffers, saved, seeds = map(tuple, chosen)
        reached = tuple(map(self._reached, gradients))
        return Backward(graph, self._make(graph), parameters, buffers, saved, seeds, reached)

    def _reached(self, gradient: fx.Node | None) -> frozenset[int] | None:
        if gradient is None:
            return None
        read = ancestors([gradient], stop=self._is_saved)
        return frozenset(i for i, seed in enumerate(self.joint.seeds) if seed in read)


def _named(**nodes: Sequence[fx.Node]) -> dict[fx.Node, str]:
    return {node: f"{kind}_{number}" for kind, several in nodes.items() for number, node in enumerate(several)}
