"""A model whose parts lie on several devices, called as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["called_where_it_lies", "moved_to"]


@contextmanager
def called_where_it_lies(model: nn.Module) -> Iterator[None]:
    """Within it every module gets its inputs on the device of its first parameter."""
    hooks = []
    if len({parameter.device for parameter in model.parameters()}) > 1:
        modules = [module for module in model.modules() if next(module.parameters(), None) is not None]
        hooks = [module.register_forward_pre_hook(_bring, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _bring(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    found: tuple[Any, Any] = tree_map_only(Tensor, _to(next(module.parameters()).device), (args, kwargs))
    return found


def moved_to(like: Any, values: Any) -> Any:
    """The tensors in `values` where the first tensor in `like` is."""
    first = next((leaf for leaf in tree_leaves(like) if isinstance(leaf, Tensor)), None)
    return values if first is None else tree_map_only(Tensor, _to(first.device), values)


def _to(device: torch.device) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.to(device)
