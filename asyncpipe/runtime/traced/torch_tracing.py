"""The private torch functions that tracing needs, each behind one name, for torch 2.11 and newer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._inductor
from functorch.compile import aot_function  # type: ignore[import-untyped]
from torch import Tensor, fx
from torch._subclasses import FakeTensorMode
from torch.utils import _pytree as pytree

__all__ = [
    "Fakes",
    "compile_graph",
    "flatten",
    "functional_graph",
    "onednn_is_enabled",
    "operation_arguments",
    "operation_results",
    "pack_for_cudnn",
    "unflatten",
    "without_autocast",
    "without_data",
]

_INDUCTOR = {"triton.cudagraphs": False, "fallback_random": True, "keep_output_stride": True}
"""What leaves a graph keeps the strides that the trace says: graphs of the same trace read it."""


class _Found(Exception):
    """Leaves aot_function as soon as it has the graph: nothing is executed."""


class Fakes:
    """Tensors without data, on the devices and with the strides of real ones.

    Tensors that a module or a loss only closes over become constants of the graph.
    """

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [self.mode.from_tensor(tensor.detach()) for tensor in tensors]

    def run(self, function: Callable[..., Any], arguments: Sequence[Tensor]) -> Any:
        with self.mode:
            return function(*arguments)


def without_data(tensor: Tensor, device: torch.device) -> Tensor:
    """One of this shape, these strides and this type, as if on `device`."""
    with FakeTensorMode():
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def functional_graph(function: Callable[..., Any], arguments: Sequence[Tensor]) -> fx.GraphModule:
    """ATen operations of `function` on fake tensors: no mutations, no autograd; gradients inside are spelt out.

    Its outputs end with what `function` returns; before them come new values of arguments that it mutates.
    """
    found: list[fx.GraphModule] = []

    def keep(graph: fx.GraphModule, _: object) -> Any:
        found.append(graph)
        raise _Found

    with torch.no_grad(), contextlib.suppress(_Found):
        aot_function(function, fw_compiler=keep)(*arguments)
    return found[0]


def compile_graph(graph: fx.GraphModule) -> Callable[..., Sequence[Any]]:
    """By Inductor, for arguments like those of the trace; raises what Inductor does."""
    arguments = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
    with torch.no_grad():
        compiled: Callable[..., Sequence[Any]] = torch._inductor.compile(graph, arguments, options=_INDUCTOR)
    return compiled


def without_autocast() -> contextlib.AbstractContextManager[None]:
    """For graphs, where every cast is spelt out, and those that the user's code switched off are none."""
    guard: contextlib.AbstractContextManager[None] = torch._C._DisableAutocast()
    return guard


def flatten(value: Any) -> tuple[list[Any], Any]:
    """The leaves of nested tuples, lists and dicts, and what puts them together again."""
    return pytree.tree_flatten(value)


def unflatten(leaves: Sequence[Any], structure: Any) -> Any:
    return pytree.tree_unflatten(list(leaves), structure)


def operation_arguments(target: Any) -> Sequence[Any]:
    """(name, default_value, ...) of each, in order; nothing where a node calls no ATen or custom operation."""
    return target._schema.arguments if isinstance(target, torch._ops.OpOverload) else ()


def operation_results(target: Any) -> Sequence[Any]:
    """(alias_info, ...) of each, in order; nothing where a node calls no ATen or custom operation."""
    return target._schema.returns if isinstance(target, torch._ops.OpOverload) else ()


def onednn_is_enabled() -> bool:
    return bool(torch._C._get_mkldnn_enabled())


def pack_for_cudnn(weights: list[Tensor], *arguments: Any) -> Tensor:
    """Weights of recurrent layers in one tensor, in cuDNN's order, whose views the given tensors become."""
    packed: Tensor = torch._cudnn_rnn_flatten_weight(weights, *arguments)
    return packed
