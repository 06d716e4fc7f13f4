"""The tensors of one microbatch in flight at a traced stage: taken out, and put back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.traced.joint import Call
from asyncpipe.runtime.traced.slot import Slot

__all__ = ["carried", "carry_on"]


def carried(own: Slot) -> dict[str, Any]:
    """In nested lists, with the weights that the backward reads."""
    call = own.call
    return {
        "inputs": [] if call is None else list(call.inputs),
        "targets": [] if call is None else call.target_tensors,
        "outputs": list(own.outputs),
        "saved": list(own.saved),
        "draws": list(own.draws),
        "seeds": list(own.seeds),
        "buffers": dict(own.buffers),
        "read": None if own.read is None else list(own.read.flat.values()),
    }


def carry_on(own: Slot, state: dict[str, Any]) -> None:
    """The same with other tensors of the same kinds."""
    own.outputs, own.saved = tuple(state["outputs"]), list(state["saved"])
    own.draws, own.seeds, own.buffers = list(state["draws"]), list(state["seeds"]), dict(state["buffers"])
    if own.call is not None:
        own.call = _called_with(own.call, state["inputs"], state["targets"])
    if own.read is not None:
        own.read = Arena.over(own.read.layout, dict(zip(own.read.flat, state["read"], strict=True)))


def _called_with(call: Call, inputs: list[Tensor], targets: list[Tensor]) -> Call:
    rest = iter(targets)
    target = tuple(next(rest) if isinstance(leaf, Tensor) else leaf for leaf in call.target)
    return replace(call, inputs=tuple(inputs), target=target)
