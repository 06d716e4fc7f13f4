"""The weights of one stage: which of them a forward and a backward read, and what an update leaves for later ones."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from asyncpipe.ir import Kind, Op, Program
from asyncpipe.runtime.arena import Arena

__all__ = ["Planned", "StageWeights", "aliases_live"]


@dataclass(frozen=True)
class Planned:
    """What the compiler states of one stage, in updates: staleness of an update, and updates between F and B.

    lr_factor: what is left of the learning rate where the optimizer's is `auto`.
    """

    staleness: float = 0.0
    forward_backward: float = 0.0
    lr_factor: float = 1.0


def aliases_live(program: Program) -> bool:
    """Whether forwards and backwards read the live weights themselves; else each slot has weights of its own."""
    return (program.forward_weights, program.backward_weights) == ("latest", "latest")


@dataclass
class StageWeights:
    """`live` is what updates change. All else exists only where the program asks for it.

    past: version v lies in past[v % n] (`lag`). ahead: extrapolated by the planned staleness (`predict`). corrected:
    the live weights minus the drift since the forward (`ema`). private: by stream, the copy that its backwards read.
    apart: those of them that lie on another device, which its transfers alone store as the live ones.
    """

    live: Arena
    program: Program
    versions: int
    stage: int
    apart: Mapping[int, Arena] = field(default_factory=dict)
    past: list[Arena] = field(init=False, default_factory=list)
    ahead: Arena | None = field(init=False, default=None)
    corrected: Arena | None = field(init=False, default=None)
    private: dict[int, Arena] = field(init=False, default_factory=dict)
    lock: threading.Lock = field(init=False, default_factory=threading.Lock, repr=False, compare=False)
    """Held by what changes `live` where no change may be lost: updates, and what other replicas bring."""

    @property
    def streams(self) -> list[int]:
        """Those that update the stage."""
        return self._running(Op.U)

    def _running(self, *ops: Op) -> list[int]:
        instructions = (*self.program.warmup, *self.program.body, *self.program.cooldown)
        launched = [(stream, action) for kind, stream, action in instructions if kind is Kind.LAUNCH]
        return sorted({stream for stream, action in launched if action.stage == self.stage and action.op in ops})

    def __post_init__(self) -> None:
        forward, backward = self.program.forward_weights, self.program.backward_weights
        self.lag = int(forward[4:-1]) if forward.startswith("lag") else None
        if self.lag is not None:
            self.past = [self.live.clone() for _ in range(max(self.versions, self.lag + 1))]
        if forward == "predict":
            self.ahead = self.live.clone()
        if backward.startswith("ema"):
            self.corrected = self.live.clone()
        if backward == "private":
            streams = self._running(Op.B, Op.I, Op.W, Op.U)
            self.private = {stream: self.apart.get(stream) or self.live.clone() for stream in streams}
        self._source = {"latest": self.live, "same": None}.get(backward, self.corrected)

    def restart(self) -> None:
        """Versions count from 0 again: a run begins after a drain."""
        for arena in self.past:
            arena.copy_from(self.live)

    def forward(self, update: int, version: int) -> tuple[Arena, int]:
        """(what F reads, its version) for a microbatch of `update` when `version` updates were applied."""
        if self.lag is not None:
            wanted = max(0, update - self.lag)
            return self.past[wanted % len(self.past)], wanted
        return self.ahead or self.live, version

    def place_of_past(self, update: int) -> int | None:
        """Where what F reads lies in `past`; None where it reads the weights of now."""
        return None if self.lag is None else max(0, update - self.lag) % len(self.past)

    def backward(self, stream: int) -> Arena | None:
        """What B reads on a stream; None for what its forward read."""
        return self.private.get(stream, self._source)

    def replaced(self, version: int) -> None:
        """The live weights are others than the last update left."""
        self.updated(version)
        for arena in (self.ahead, self.corrected):
            if arena is not None:
                arena.copy_from(self.live)

    def adopted(self) -> None:
        """Somebody else has set the live weights: all copies begin from them."""
        for private in self.private.values():
            private.copy_from(self.live)
        self.replaced(0)

    def updated(self, version: int) -> None:
        """The live weights are now at `version`."""
        if self.past:
            self.past[version % len(self.past)].copy_from(self.live)
