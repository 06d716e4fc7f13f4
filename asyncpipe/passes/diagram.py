"""The dependency diagram: which actions exist, which wait for which, and which stream runs each.

The diagram is endless. An edge is a family over the target's index, so nothing here grows with the number of
microbatches; `repeats` says from which microbatch on, and with which period, all families look the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from asyncpipe.errors import Position
from asyncpipe.ir import Action, Op

__all__ = ["Diagram", "EdgeFamily", "Index", "Origin", "Stream"]

Index = Callable[[int, int | None], int | None]
"""Of the target's index and the number of microbatches (None: endless): the source's index, or None for no edge."""

_BACKWARD = (Op.B, Op.I, Op.W, Op.R)


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
    index: Index
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
    by_window: bool = False
    """The body is a table: an iteration is a whole update, and `U` belongs to that update."""
    runs: tuple[Op, ...] = ()
    priority: int = 0
    sms: int = 0
    is_dynamic: bool = False
    """The streams of this group take whatever microbatch comes next when they are idle."""


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
    exists: dict[tuple[Op, int], Callable[[int], bool]] = field(default_factory=dict)
    """For ops of which not every index exists: which do."""
    lowest: Callable[[int], int] | None = None
    """Where a worker back-propagates to its own block only: the lowest stage that microbatch m reaches."""
    local: frozenset[int] = frozenset()
    """Stages whose gradient does not come from the stage above."""
    recomputed: frozenset[int] = frozenset()
    """Stages that keep their input only, or nothing, between forward and backward."""

    def backward_op(self, stage: int) -> Op:
        """The op that receives the gradient of the stage's output: B, or I where the backward is split."""
        return Op.B if (Op.B, stage) in self.families else Op.I

    def gradient_op(self, stage: int) -> Op:
        """The op that ends the backward of a stage and yields its weight gradients: B or W."""
        return Op.B if (Op.B, stage) in self.families else Op.W

    def predecessors(self, action: Action, n: int | None = None) -> Iterator[tuple[Action, Origin]]:
        """What `action` waits for, with the reason; with `n`, in a run of n microbatches."""
        for family in self.families[action.op, action.stage]:
            index = family.index(action.index, n)
            if index is None or index < 0:
                continue
            if n is not None and index >= (-(-n // self.every) if family.source.by_update else n):
                continue
            source = Action(family.stage, family.source, index)
            if self.exists:
                source = self.resolved(source)
                if not self.is_action(source):
                    continue
            yield source, family.origin

    def is_action(self, action: Action) -> bool:
        """Whether the diagram has this action; of a partitioned backward, say, it has not every index."""
        exists = self.exists.get((action.op, action.stage))
        return exists is None or exists(action.index)

    def resolved(self, action: Action) -> Action:
        """What a wait for `action` means, where a partition leaves it out.

        A backward that ends above the stage has ended at its lowest stage; an update is the last one before.
        """
        if self.lowest is None:
            return action
        if action.op in _BACKWARD:
            return Action(max(action.stage, self.lowest(action.index)), action.op, action.index)
        while action.op is Op.U and action.index > 0 and not self.is_action(action):
            action = action.shifted(-1)
        return action

    def stream_of(self, action: Action) -> int:
        return self.assign[action.op, action.stage](action.index)

    def microbatch(self, action: Action) -> int:
        """The microbatch of an action, for an update the last one that it applies."""
        return action.index * self.every + self.every - 1 if action.op.by_update else action.index

    def data_order(self, op: Op, stage: int) -> int:
        """Forward actions go up the stages, all others down."""
        return stage if op in (Op.F, Op.SEND_F) else self.stages - 1 - stage
