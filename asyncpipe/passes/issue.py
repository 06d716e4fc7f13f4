"""L2: launches and waits as instructions in host issue order; an event is recorded only where somebody waits for it."""

from __future__ import annotations

from collections.abc import Iterator, Set

from asyncpipe.ir import Action, Instruction, Kind, Op
from asyncpipe.passes.lower_to_streams import Lowered, Waiting

__all__ = ["issue"]

Instructions = tuple[Instruction, ...]


def issue(lowered: Lowered, step: int, every: int) -> tuple[Instructions, Instructions, Instructions]:
    """(warmup, body, cooldown) as instructions: waits, launch, record."""
    recorded = _waited(lowered, step, every)
    relative = _relative_waits(lowered, step, every)
    warmup = tuple(_instructions(lowered.warmup, recorded))
    body = tuple(_instructions(lowered.body, relative))
    return warmup, body, tuple(_instructions(lowered.cooldown, recorded))


def _instructions(launches: tuple[Waiting, ...], recorded: Set[Action]) -> Iterator[Instruction]:
    for stream, action, waits in ((w.stream, w.action, w.waits) for w in launches):
        for source in waits:
            yield Instruction(Kind.WAIT, stream, source)
        yield Instruction(Kind.LAUNCH, stream, action)
        if action in recorded:
            yield Instruction(Kind.RECORD, stream, action)


def _shifts(lowered: Lowered, step: int, every: int) -> range:
    """How many iterations back a wait can reach, generously."""
    actions = [a for w in lowered.body for a in (w.action, *w.waits)]
    microbatches = [a.index * every if a.op is Op.U else a.index for a in actions] or [0]
    return range((max(microbatches) - min(microbatches)) // step + 4)


def _waited(lowered: Lowered, step: int, every: int) -> set[Action]:
    """Actions with absolute indices that the warmup, the first iterations, or the cooldown wait for."""
    waited = {source for w in (*lowered.warmup, *lowered.cooldown) for source in w.waits}
    for k in _shifts(lowered, step, every):
        if lowered.iterations is not None and k >= lowered.iterations:
            break
        waited |= {_moved(source, lowered.start + k * step, every) for w in lowered.body for source in w.waits}
    return waited


def _relative_waits(lowered: Lowered, step: int, every: int) -> set[Action]:
    """Body actions, relative, that the body or the cooldown waits for, in the same or a later iteration."""
    waits = {source for w in lowered.body for source in w.waits}
    if lowered.iterations:
        first_after = lowered.start + lowered.iterations * step
        waits |= {_moved(source, -first_after, every) for w in lowered.cooldown for source in w.waits}
    return {_moved(source, k * step, every) for source in waits for k in _shifts(lowered, step, every)} | waits


def _moved(action: Action, microbatches: int, every: int) -> Action:
    return action.shifted(microbatches // every if action.op is Op.U else microbatches)
