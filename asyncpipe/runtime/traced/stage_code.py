"""The user's part of a stage as tracing runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.errors import UserCodeError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.buffers import buffer_places

__all__ = ["StageCode", "refuse_new_buffers", "share_buffers", "stage_code"]


@dataclass(frozen=True)
class StageCode:
    """`module(value)`, and the loss on it if there is one.

    parameters, buffers: for each tensor, the names that it has in the module. autocast: what the forward computes in.
    """

    module: nn.Module
    loss: Callable[[Any, Any], Tensor] | None
    parameters: tuple[tuple[str, ...], ...]
    buffers: tuple[tuple[str, ...], ...]
    trainable: tuple[bool, ...]
    autocast: torch.dtype | None = None


def stage_code(
    module: nn.Module,
    loss: Callable[[Any, Any], Tensor] | None,
    arena: Arena,
    buffers: Sequence[Tensor],
    autocast: torch.dtype | None = None,
) -> StageCode:
    """Of a copy of the stage's module with the same buffers: tracing runs it several times, and it may count."""
    parameters: list[list[str]] = [[] for _ in arena.views]
    for name, index in arena.layout.index.items():
        parameters[index].append(name)
    named: dict[int, list[str]] = {id(buffer): [] for buffer in buffers}
    for name, buffer in module.named_buffers(remove_duplicate=False):
        named[id(buffer)].append(name)
    arena.alias(module.named_parameters(remove_duplicate=False))
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            # It would look for the addresses of weights that have none.
            part.flatten_parameters = _nothing  # type: ignore[method-assign]
    return StageCode(
        module, loss, tuple(map(tuple, parameters)), tuple(map(tuple, named.values())), tuple(arena.trainable), autocast
    )


def _nothing() -> None:
    return None


def share_buffers(source: nn.Module, copied: nn.Module) -> None:
    """The copy has the buffers of its source."""
    for (owner, name), (other, _) in zip(buffer_places(source), buffer_places(copied), strict=True):
        setattr(other, name, owner._buffers[name])


def refuse_new_buffers(code: StageCode) -> None:
    """UserCodeError for a buffer that was None before the forward and is a tensor after it."""
    known = {name for names in code.buffers for name in names}
    new = [name for name, _ in code.module.named_buffers(remove_duplicate=False) if name not in known]
    if new:
        raise UserCodeError(
            f"buffer {new[0]} is None before the first forward, and a tensor after it",
            "register it as a tensor of its final shape",
        )
