"""The dependency diagram: which actions exist, which wait for which, and which stream runs each.

The diagram is endless. An edge is a family over the target's index, so nothing here grows with the number of
microbatches; `repeats` says from which microbatch on, and with which period, all families look the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from asyncpipe.errors import Position
from asyncpipe.ir import Action, Op

__all__ = ["Diagram", "EdgeFamily", "Origin", "Stream"]


@dataclass(frozen=True)
class Origin:
    """Why an edge exists: a data edge, or the text and place of the author's rule."""

    text: str
    where: Position | None = None


@dataclass(frozen=True)
class EdgeFamily:
    """The target with index i waits for `source` of `stage` with index `index(i, n)`, or None where there is no edge.

    n is the number of microbatches, or None in an endless schedule.
    """

    source: Op
    stage: int
    index: Callable[[int, int | None], int | None]
    origin: Origin


@dataclass(frozen=True)
class Stream:
    """One executor of actions: `index` counts the streams of its group."""

    name: str
    group: int
    index: int
    device: int
    stages: tuple[int, ...]
    order: tuple[Op, ...]
    body: tuple[tuple[Op, int, int], ...] = ()
    """Per iteration m: (op, stage, microbatch offset); empty for greedy streams."""
    every_nth: tuple[int, int] = (1, 0)
    """This stream takes the body iterations m with m % first == second."""


@dataclass(frozen=True)
class Diagram:
    stages: int
    devices: int
    every: int
    place: tuple[int, ...]
    streams: tuple[Stream, ...]
    families: dict[tuple[Op, int], tuple[EdgeFamily, ...]]
    assign: dict[tuple[Op, int], Callable[[int], int]]
    """(op, stage) -> index -> stream number."""
    repeats: tuple[int, int] = (0, 1)
    """(settle, modulus) in microbatches: the diagram looks the same at m and m + modulus for m >= settle."""
    in_flight: tuple[int | None, ...] = ()
    ops: tuple[tuple[Op, int], ...] = field(default=())
    ahead: int = 0
    back: int = 0
    """How many microbatches ahead and back of its target the source of a rule can lie, at most."""

    def backward_op(self, stage: int) -> Op:
        """The op that receives the gradient of the stage's output: B, or I where the backward is split."""
        return Op.B if (Op.B, stage) in self.families else Op.I

    def gradient_op(self, stage: int) -> Op:
        """The op that ends the backward of a stage and yields its weight gradients: B or W."""
        return Op.B if (Op.B, stage) in self.families else Op.W

    def predecessors(self, action: Action, n: int | None = None) -> Iterator[tuple[Action, Origin]]:
        """What `action` waits for, with the reason; with `n`, in a run of n microbatches."""
        updates = None if n is None else -(-n // self.every)
        for family in self.families[action.op, action.stage]:
            index = family.index(action.index, n)
            limit = updates if family.source is Op.U else n
            if index is not None and index >= 0 and (limit is None or index < limit):
                yield Action(family.stage, family.source, index), family.origin

    def stream_of(self, action: Action) -> int:
        return self.assign[action.op, action.stage](action.index)

    def microbatch(self, action: Action) -> int:
        """The microbatch of an action, for an update the last one that it applies."""
        return action.index * self.every + self.every - 1 if action.op is Op.U else action.index

    def data_order(self, op: Op, stage: int) -> int:
        """Forward actions go up the stages, all others down."""
        return stage if op is Op.F else self.stages - 1 - stage
