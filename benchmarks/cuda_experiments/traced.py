"""A residual block's forward and backward as two plain functions, traced once, without the autograd engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["TracedBlock"]


def block(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return x + torch.nn.functional.gelu(x @ first) @ second


@dataclass(frozen=True)
class TracedBlock:
    """Serves every layer of these shapes."""

    forward_graph: Callable[..., Any]
    backward_graph: Callable[..., Any]

    @classmethod
    def trace(cls, x: Tensor, weights: list[Tensor]) -> TracedBlock:
        from functorch.compile import aot_function, default_partition, make_boxed_func

        found: dict[str, Callable[..., Any]] = {}

        def keep(name: str) -> Callable[..., Any]:
            def compiler(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
                found[name] = graph
                return make_boxed_func(graph.forward)  # type: ignore[no-any-return]

            return compiler

        leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, *weights)]
        traced = aot_function(block, keep("forward"), keep("backward"), partition_fn=default_partition)
        y = traced(*leaves)
        torch.autograd.grad(y, leaves, torch.ones_like(y))
        return cls(found["forward"], found["backward"])

    def forward(self, x: Tensor, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The output, and what the backward needs; some of it may be the weights themselves."""
        with torch.no_grad():
            y, *saved = self.forward_graph(x, *weights)
        return y, saved

    def backward(self, saved: list[Tensor], gradient: Tensor) -> list[Tensor]:
        """Gradients of the input and of both weights."""
        with torch.no_grad():
            return list(self.backward_graph(*saved, gradient))
