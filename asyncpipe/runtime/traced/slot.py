"""One microbatch in flight at a traced stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from asyncpipe.errors import InternalError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.divide import Division

__all__ = ["Slot"]


@dataclass
class Slot:
    """What a forward left for its backward. `weights`, if any, are the slot's own and stay.

    read: the weights that the backward reads; holds: whether they are a copy of this microbatch alone. draws, buffers:
    what the first of two forwards drew, and buffers as it found them. seeds: gradients of the results, between I and W;
    given: which of them there are.
    """

    weights: Arena | None
    call: Call | None = None
    division: Division | None = None
    read: Arena | None = None
    holds: bool = False
    outputs: Sequence[Tensor] = ()
    saved: Sequence[Tensor] = ()
    draws: Sequence[Tensor] = ()
    buffers: Mapping[int, Tensor] = field(default_factory=dict)
    seeds: Sequence[Tensor | None] = ()
    given: frozenset[int] = frozenset()

    def begin(self, call: Call, division: Division, read: Arena) -> None:
        self.forget()
        self.call, self.division, self.read = call, division, read

    @property
    def flight(self) -> tuple[Call, Division, Arena]:
        """The microbatch: how the stage was called, its graphs, and the weights it reads."""
        if self.call is None or self.division is None or self.read is None:
            raise InternalError("a backward without its forward")
        return self.call, self.division, self.read

    def take_inputs(self, inputs: tuple[Tensor, ...]) -> None:
        """Other inputs for the backward than those of the first forward."""
        call, _, _ = self.flight
        self.call = replace(call, inputs=inputs)

    def forget(self) -> None:
        """The microbatch has left."""
        self.call = self.division = self.read = None
        self.outputs, self.saved, self.draws, self.buffers, self.seeds = (), (), (), {}, ()
        self.holds, self.given = False, frozenset()
