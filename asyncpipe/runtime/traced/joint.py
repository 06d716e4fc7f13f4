"""The joint graph of a stage: its forward and all its gradients as one functional graph of ATen operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from asyncpipe.errors import UserCodeError
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.nodes import ancestors, is_view, parts_of
from asyncpipe.runtime.traced.simplify import simplify
from asyncpipe.runtime.traced.stage_code import StageCode
from asyncpipe.runtime.traced.torch_tracing import Fakes, functional_graph
from asyncpipe.runtime.traced.user_run import Ran, UserRun
from asyncpipe.runtime.traced.writes import NoWrites

__all__ = ["Call", "Joint", "Strides", "trace"]

Nodes = tuple[fx.Node, ...]
Gradients = tuple[fx.Node | None, ...]
Strides = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class Joint:
    """Nodes of `graph` by what they are; a gradient is None where autograd gives none.

    seeds: for each result, the node of its gradient, or None where it has none or the stage begins at its own loss.
    updated: the new value of each buffer; the buffer's own node where it stays.
    """

    graph: fx.GraphModule = field(repr=False)
    inputs: Nodes
    targets: Nodes
    parameters: Nodes
    buffers: Nodes
    seeds: Gradients
    results: Nodes
    updated: Nodes
    input_gradients: Gradients
    parameter_gradients: Gradients
    gives_tuple: bool

    @property
    def placeholders(self) -> list[fx.Node]:
        return self.graph.graph.find_nodes(op="placeholder")

    @property
    def changed(self) -> tuple[int, ...]:
        """The buffers that a forward changes."""
        return tuple(i for i, (old, new) in enumerate(zip(self.buffers, self.updated, strict=True)) if old is not new)

    @property
    def computed_forward(self) -> set[fx.Node]:
        """What a forward computes for its results and buffers, with all parts of operations that have several."""
        found = ancestors([*self.results, *self.updated])
        return {*found, *(part for node in found for part in parts_of(node))}

    @property
    def is_seeded(self) -> bool:
        """Whether its backward begins at gradients of its results, not at its own loss."""
        return any(seed is not None for seed in self.seeds)

    @property
    def gradients(self) -> Gradients:
        """Of the inputs, then of the parameters."""
        return (*self.input_gradients, *self.parameter_gradients)


def trace(
    code: StageCode,
    call: Call,
    wanted: Sequence[bool],
    parameters: Sequence[Tensor],
    buffers: Sequence[Tensor],
    strides: Strides,
) -> Joint:
    """The joint graph for tensors like these; `wanted`: the inputs that get gradients. Raises what the code raises.

    strides: of the gradients of some results, by the result's number; default those of the result.
    """
    fakes = Fakes()
    run = UserRun(code, call, tuple(wanted))
    arguments = fakes.of([*call.inputs, *call.target_tensors, *parameters, *buffers])
    first = fakes.run(_without_writes(run, code), arguments)
    pairs = enumerate(zip(first.results, first.seeded, strict=True))
    seeds = [_like(fakes, y, strides.get(i, y.stride())) for i, (y, seeded) in pairs if seeded]
    graph = functional_graph(run.joint, [*arguments, *seeds])
    simplify(graph, len(call.inputs))
    joint = _by_role(graph, run)
    _refuse_other_buffers(code, joint)
    _keep_old_values(joint)
    return joint


def _without_writes(run: UserRun, code: StageCode) -> Callable[..., Ran]:
    """The forward; it raises where it writes into a parameter."""
    names = [names[0] for names in code.parameters]

    def forward(*arguments: Tensor) -> Ran:
        with NoWrites(names, run.split(arguments)[2]):
            return run.forward(*arguments)

    return forward


def _like(fakes: Fakes, tensor: Tensor, stride: tuple[int, ...]) -> Tensor:
    def empty() -> Tensor:
        return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype, device=tensor.device)

    seed: Tensor = fakes.run(empty, [])
    return seed


def _by_role(graph: fx.GraphModule, run: UserRun) -> Joint:
    """Placeholders come in the order of the arguments; the outputs of `joint` are the last ones."""
    inputs, targets, parameters, buffers, seeds = run.split(graph.graph.find_nodes(op="placeholder"))
    outputs = graph.graph.output_node().args[0]
    ran, rest = run.ran, iter(seeds)
    count = len(ran.results) + len(buffers) + sum(ran.found)
    own = iter(outputs[len(outputs) - count :])  # type: ignore[arg-type, index]
    results = tuple(next(own) for _ in ran.results)
    updated = tuple(next(own) for _ in buffers)
    found = iter([next(own) if there else None for there in ran.found])
    return Joint(
        graph=graph,
        inputs=tuple(inputs),
        targets=tuple(targets),
        parameters=tuple(parameters),
        buffers=tuple(buffers),
        seeds=tuple(next(rest) if seeded else None for seeded in ran.seeded),
        results=results,
        updated=updated,
        input_gradients=tuple(next(found) if want else None for want in run.wanted),
        parameter_gradients=tuple(next(found) if want else None for want in run.code.trainable),
        gives_tuple=ran.gives_tuple,
    )


def _keep_old_values(joint: Joint) -> None:
    """What a backward reads of a buffer that its forward changes is a copy from before."""
    computed = joint.computed_forward
    read = ancestors(joint.gradients, stop=lambda node: node in computed and not is_view(node))
    graph = joint.graph.graph
    for buffer in (joint.buffers[i] for i in joint.changed):
        if buffer in read:
            with graph.inserting_after(joint.placeholders[-1]):
                copied = graph.call_function(torch.ops.aten.clone.default, (buffer,))
            copied.meta = dict(buffer.meta)
            for user in list(buffer.users):
                if user is not copied:
                    user.replace_input_with(buffer, copied)


def _refuse_other_buffers(code: StageCode, joint: Joint) -> None:
    """UserCodeError for a buffer that a forward replaces by one of another shape or type."""
    for i in joint.changed:
        old, new = joint.buffers[i].meta["val"], joint.updated[i].meta["val"]
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise UserCodeError(
                f"buffer {code.buffers[i][0]} is {tuple(old.shape)} of {old.dtype} before the forward, and"
                f" {tuple(new.shape)} of {new.dtype} after it",
                "let buffers keep their shape and type, or use --backend threads",
            )
