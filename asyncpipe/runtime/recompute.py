"""Forwards that keep no graph, and are run again for the backward: on the kept input, or on one found by inversion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError
from asyncpipe.ir import Kind, Op, Program
from asyncpipe.runtime.buffers import buffer_places
from asyncpipe.runtime.randomness import Draw, RecordedDraws, RepeatedDraws

__all__ = [
    "FirstForward",
    "Recompute",
    "first_forward",
    "input_from_output",
    "recompute_of",
    "require_inverse",
    "second_forward",
    "update_can_follow_recompute",
]

Recompute = Literal["none", "full", "invert"]


def recompute_of(program: Program, stage: int) -> Recompute:
    """What a stage keeps: all activations, its input (`full`) or nothing (`invert`)."""
    return program.recompute if stage in program.recomputed else "none"  # type: ignore[return-value]


@dataclass
class FirstForward:
    """What the second forward must find as the first found it, besides weights and input.

    buffers: by place, the value before the forward of each buffer that the forward changed.
    """

    draws: list[Draw] = field(default_factory=list)
    buffers: dict[int, Tensor | None] = field(default_factory=dict)


@contextmanager
def first_forward(module: nn.Module, inputs: Sequence[Tensor]) -> Iterator[FirstForward]:
    """Without a graph: nothing that it reads asks for gradients.

    Not under no_grad, where oneDNN takes other kernels for recurrent layers, whose last bits differ.
    """
    found = FirstForward()
    places = buffer_places(module)
    before = [owner._buffers[name] for owner, name in places]
    copies = _clones(before)
    with torch.enable_grad(), _frozen([*module.parameters(), *inputs]), RecordedDraws(found.draws):
        yield found
    for place, (owner, name) in enumerate(places):
        tensor = before[place]
        # Batch norm moves its statistics without a word to their version counters.
        if owner._buffers[name] is not tensor or (tensor is not None and not torch.equal(tensor, copies[place])):
            found.buffers[place] = copies[place]


@contextmanager
def _frozen(leaves: Sequence[Tensor]) -> Iterator[None]:
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    for leaf in asked:
        leaf.requires_grad_(False)
    try:
        yield
    finally:
        for leaf in asked:
            leaf.requires_grad_(True)


@contextmanager
def second_forward(module: nn.Module, first: FirstForward | None) -> Iterator[None]:
    """With a graph, on the random numbers and buffers of the first; the shared buffers do not move a second time.

    Without a first (an inverted stage keeps nothing) buffers begin as they are now.
    """
    places = buffer_places(module)
    shared = [owner._buffers[name] for owner, name in places]
    private = first.buffers if first else dict(enumerate(_clones(shared)))
    for place, value in private.items():
        setattr(*places[place], value)
    try:
        with torch.enable_grad(), RepeatedDraws(first.draws if first else []):
            yield
    finally:
        for (owner, name), value in zip(places, shared, strict=True):
            setattr(owner, name, value)


def _clones(tensors: Sequence[Tensor | None]) -> list[Any]:
    """A tensor that is there twice stays one."""
    made = {id(tensor): tensor.clone() for tensor in tensors if tensor is not None}
    return [made.get(id(tensor)) for tensor in tensors]


def input_from_output(module: nn.Module, output: Any) -> Any:
    """The input of a reversible module, by the `inverse` of its parts, the last one first."""
    if type(module) is not nn.Sequential:
        return module.inverse(output)  # type: ignore[operator]
    for child in reversed(module):
        output = input_from_output(child, output)
    return output


def require_inverse(stage: int, module: nn.Module, name: str = "") -> None:
    """UsageError that names the first module without `inverse`."""
    if type(module) is not nn.Sequential:
        if not callable(getattr(module, "inverse", None)):
            raise UsageError(
                f"recompute: invert: stage {stage} is not reversible: module {name} ({type(module).__name__}) has no"
                " method inverse(output)",
                "build the stage of reversible modules, such as asyncpipe.models.reversible.Coupling, or limit"
                " `recompute: {mode: invert, stages: ...}` to reversible stages; of the built-in jobs"
                " `--job digits-revnet` has such a model",
            )
        return
    for child_name, child in module.named_children():
        require_inverse(stage, child, f"{name}.{child_name}".lstrip("."))


def update_can_follow_recompute(program: Program, stage: int) -> bool:
    """Whether an update of the stage may come between R and the end of its backward: R must then keep a copy.

    Certain only where one stream runs all of them; its order repeats, so that three rounds show it.
    """
    streams: set[int] = set()
    begun: set[int] = set()
    for kind, stream, action in replace(program, iterations=3).instructions():
        if kind is not Kind.LAUNCH or action.stage != stage or action.op not in _FROM_RECOMPUTE_TO_UPDATE:
            continue
        streams.add(stream)
        if action.op is Op.R:
            begun.add(action.index)
        elif action.op in (Op.B, Op.W):
            begun.discard(action.index)
        elif action.op is Op.U and begun:
            return True
    return len(streams) > 1


_FROM_RECOMPUTE_TO_UPDATE = (Op.R, Op.B, Op.I, Op.W, Op.U)
