"""L2: launches and waits as instructions in host issue order; an event is recorded only where somebody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from asyncpipe.ir import Action, Instruction, Kind, Op
from asyncpipe.passes.lower_to_streams import Lowered, Waiting

__all__ = ["issue"]

Instructions = tuple[Instruction, ...]
Class = tuple[int, Op, int]
"""Stage, op, and the index modulo the body's step: what is the same action in every iteration."""


def issue(lowered: Lowered, step: int, every: int) -> tuple[Instructions, Instructions, Instructions]:
    """(warmup, body, cooldown) as instructions: waits, launch, record."""
    awaited = _Awaited(lowered, step, every)
    warmup = tuple(_instructions(lowered.warmup, awaited.outside))
    body = tuple(_instructions(lowered.body, awaited.inside))
    return warmup, body, tuple(_instructions(lowered.cooldown, awaited.outside))


def _instructions(launches: tuple[Waiting, ...], is_awaited: Callable[[Action], bool]) -> Iterator[Instruction]:
    for stream, action, waits in ((w.stream, w.action, w.waits) for w in launches):
        for source in waits:
            yield Instruction(Kind.WAIT, stream, source)
        yield Instruction(Kind.LAUNCH, stream, action)
        if is_awaited(action):
            yield Instruction(Kind.RECORD, stream, action)


class _Awaited:
    """Which actions anybody waits for: in the same part, or from iterations of the body, whichever they are."""

    def __init__(self, lowered: Lowered, step: int, every: int) -> None:
        self.steps = (step, step // every)
        self.start = lowered.start
        self.every = every
        self.iterations = lowered.iterations
        self.named = {source for w in (*lowered.warmup, *lowered.cooldown) for source in w.waits}
        self.relative: dict[Class, list[int]] = {}
        for source in _sources(lowered.body):
            self.relative.setdefault(self._class(source), []).append(source.index)
        after = lowered.start + (lowered.iterations or 0) * step
        late = (source.later(-after, every) for source in _sources(lowered.cooldown))
        self.by_cooldown = {self._class(source) for source in late} if lowered.iterations else set()

    def _step(self, op: Op) -> int:
        return self.steps[op.by_update]

    def _class(self, action: Action) -> Class:
        return action.stage, action.op, action.index % self._step(action.op)

    def inside(self, action: Action) -> bool:
        """Of a body action, relative: whether the body, or the cooldown, waits for it in the same or a later round."""
        key = self._class(action)
        return key in self.relative or key in self.by_cooldown

    def outside(self, action: Action) -> bool:
        """Of an action with an absolute index: whether warmup, cooldown or some iteration of the body waits for it."""
        if action in self.named:
            return True
        base, step = (self.start // self.every if action.op.by_update else self.start), self._step(action.op)
        for index in self.relative.get((action.stage, action.op, (action.index - base) % step), ()):
            k = (action.index - base - index) // step
            if k >= 0 and (self.iterations is None or k < self.iterations):
                return True
        return False


def _sources(launches: Iterable[Waiting]) -> Iterator[Action]:
    return (source for waiting in launches for source in waiting.waits)
