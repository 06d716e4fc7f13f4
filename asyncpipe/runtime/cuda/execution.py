"""`Execution` on a device: nothing in it waits for the host, and its state can be taken out and put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from asyncpipe.ir import Action, Program
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.cuda.feed import DeviceFeed
from asyncpipe.runtime.cuda.flight import carried, carry_on
from asyncpipe.runtime.cuda.references import tensors_in
from asyncpipe.runtime.execution import Execution, Lag, Pending
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.slot import Slot

__all__ = ["DeviceExecution", "LossSink", "Numbers", "Origin"]


class LossSink(Protocol):
    def store(self, stream: int, microbatch: int, loss: Tensor) -> None:
        """Takes a loss over, on the current stream, which is `stream` of the program."""


@dataclass(frozen=True)
class Origin:
    """A point between two iterations of the body; microbatches and updates in a carried state count from there."""

    microbatch: int
    program: Program

    @property
    def update(self) -> int:
        return self.microbatch // self.program.every

    def after(self, iterations: int) -> Origin:
        return Origin(self.microbatch + iterations * self.program.step, self.program)


@dataclass(frozen=True)
class Numbers:
    """What the host counts. versions: by stage and stream. reads: by stage and slot, (version read, updates between F
    and B). pending: by stage, the same of each microbatch before its update, counted from the origin.
    """

    versions: list[list[int]]
    reads: list[list[tuple[int, int]]]
    pending: list[dict[int, tuple[int, int]]]

    def after(self, updates: Sequence[Sequence[int]]) -> Numbers:
        """A period later, in which each stream updated each stage so often."""
        more = [sum(streams) for streams in updates]
        return Numbers(
            [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(self.versions, updates, strict=True)],
            [[(read + n, between) for read, between in slots] for slots, n in zip(self.reads, more, strict=True)],
            [
                {microbatch: (read + n, between) for microbatch, (read, between) in found.items()}
                for found, n in zip(self.pending, more, strict=True)
            ],
        )


@dataclass
class DeviceExecution(Execution):
    """Issued by one thread. `sink` takes the losses, and gives them back through `arrived` when the host has them."""

    sink: LossSink | None = None
    issuing: int = field(init=False, default=0)

    @property
    def device(self) -> torch.device:
        return self.stages[0].arena.layout.device

    @property
    def device_feed(self) -> DeviceFeed:
        assert isinstance(self.feed, DeviceFeed)
        return self.feed

    def run(self, stream: int, action: Action) -> None:
        self.issuing = stream
        super().run(stream, action)

    def _record_loss(self, microbatch: int, loss: Tensor) -> None:
        assert self.sink is not None
        self.sink.store(self.issuing, microbatch, loss)

    def arrived(self, microbatch: int, loss: float) -> None:
        self.losses[microbatch] = self.recent_loss = loss
        self.moments[microbatch] = self.clock.now()

    def predicted_views(self, stage: int) -> int:
        """How many parameters the predictor of a stage has."""
        traced = self.stages[stage]
        predictor = traced.options.predictor if isinstance(traced, TracedStage) else None
        return 0 if predictor is None else len(predictor.arena.views)

    @property
    def traces(self) -> int:
        """How often stages have been traced so far."""
        return sum(stage.trace_count for stage in self.stages if isinstance(stage, TracedStage))

    def slots_of(self, stage: int) -> Sequence[Slot]:
        traced = self.stages[stage]
        assert isinstance(traced, TracedStage)
        return traced._slots

    def held(self, action: Action) -> Iterator[Tensor]:
        """What the state has for the stage and microbatch of an action, and what goes up or down from it."""
        if action.op.by_update:
            return self._held_for_update(action.stage, action.index)
        return iter(tensors_in(list(self._held_for_microbatch(action.stage, action.index))))

    def _held_for_microbatch(self, stage: int, microbatch: int) -> Iterator[Any]:
        for one in range(max(stage - 1, 0), stage + 1):
            number = self.slot(one, microbatch)
            yield self.outputs[one][number]
            yield self.incoming[one][number]
            yield self.returned[one][number]
        slot = self.slots_of(stage)[self.slot(stage, microbatch)]
        own = carried(slot)
        # Most weights belong to the stage, and nobody drops them.
        yield [own[key] for key in own if key != "read" or slot.holds]
        if microbatch in self.pending[stage]:
            yield self.pending[stage][microbatch].gradients

    def _held_for_update(self, stage: int, update: int) -> Iterator[Tensor]:
        first = update * self.program.every
        for microbatch in range(first, first + self.program.update_size(update)):
            if microbatch in self.pending[stage]:
                yield from tensors_in(self.pending[stage][microbatch].gradients)
        yield from tensors_in(self.reduced[stage].get(update, ()))
        yield from tensors_in(self.updates[stage].tentative())

    def carried(self, origin: Origin) -> Any:
        """All tensors that later actions read of earlier ones, in nested lists and dictionaries."""
        return {
            "between": [self.outputs, self.incoming, self.returned],
            "stages": [[carried(own) for own in self.slots_of(stage)] for stage in range(len(self.stages))],
            "read": [[_flat(arena) for arena in arenas] for arenas in self.read_weights],
            "pending": [
                {m - origin.microbatch: (one.gradients, _flat(one.weights)) for m, one in sorted(found.items())}
                for found in self.pending
            ],
            "reduced": [{u - origin.update: found[u] for u in sorted(found)} for found in self.reduced],
        }

    def numbers(self, origin: Origin) -> Numbers:
        return Numbers(
            [list(streams) for streams in self.versions],
            [list(slots) for slots in self.reads],
            [{m - origin.microbatch: (one.read, one.forward_backward) for m, one in p.items()} for p in self.pending],
        )

    def carry_on(self, state: Any, numbers: Numbers, origin: Origin) -> None:
        """Goes on from a state that `carried` and `numbers` gave, as if it had come about here."""
        self.outputs, self.incoming, self.returned = ([list(slots) for slots in part] for part in state["between"])
        for stage, slots in enumerate(state["stages"]):
            for own, kept in zip(self.slots_of(stage), slots, strict=True):
                carry_on(own, kept)
        for stage, arenas in enumerate(self.read_weights):
            self.read_weights[stage] = [
                _arena(self.stages[stage].arena, flat) for _, flat in zip(arenas, state["read"][stage], strict=True)
            ]
        self.versions = [list(streams) for streams in numbers.versions]
        self.reads = [list(slots) for slots in numbers.reads]
        self.pending = [
            {
                m + origin.microbatch: Pending(gradients, *numbers.pending[s][m], _arena(self.stages[s].arena, flat))
                for m, (gradients, flat) in found.items()
            }
            for s, found in enumerate(state["pending"])
        ]
        self.reduced = [{u + origin.update: g for u, g in found.items()} for found in state["reduced"]]

    def take_lags(self, before: Sequence[int]) -> list[tuple[int, int, Lag]]:
        """Removes the lags that each stage has got since it had so many: (stage, microbatch, lag)."""
        found = []
        for stage, (lags, count) in enumerate(zip(self.lags, before, strict=True)):
            for microbatch in list(lags)[count:]:
                found.append((stage, microbatch, lags.pop(microbatch)))
        return found


def _flat(arena: Arena | None) -> list[Tensor] | None:
    return None if arena is None else list(arena.flat.values())


def _arena(like: Arena, flat: list[Tensor] | None) -> Arena | None:
    """An arena of that layout over other storages."""
    return None if flat is None else Arena.over(like.layout, dict(zip(like.flat, flat, strict=True)))
