"""`Execution` on a device: nothing in it waits for the host, and its state can be taken out and put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor
from torch.utils._pytree import tree_map_only

from asyncpipe.ir import Action, Op, Program
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.cuda.apart import ApartStage
from asyncpipe.runtime.cuda.counts import DeviceCounts
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


class Lands(Protocol):
    """Copies tensors to another device."""

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy there."""

    def into(self, place: Tensor, tensor: Tensor) -> None:
        """To a place there."""

    def running(self) -> AbstractContextManager[None]:
        """What is launched within it runs there, after all copies so far."""


class Crosses(Protocol):
    """The ways of one replica between devices."""

    def landing(self, stream: int) -> Lands:
        """Where a copy stream of the program leads."""

    def lesson(self, stream: int, stage: int) -> Lands | None:
        """Where a backward on a stream teaches the predictor of a stage, if on another device."""


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
    """Issued by one thread. `sink` takes the losses, and gives them back through `arrived` when the host has them.

    crossing: copies a tensor to where a copy stream leads; None where one device holds all logical ones.
    """

    sink: LossSink | None = None
    counts: DeviceCounts | None = None
    crossing: Crosses | None = None
    issuing: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.steps |= {
            Op.SEND_F: self.send_output,
            Op.SEND_B: self.send_gradient,
            Op.SEND_A: self.send_activations,
            Op.SEND_U: self.send_parameters,
        }

    @property
    def device_feed(self) -> DeviceFeed:
        assert isinstance(self.feed, DeviceFeed)
        return self.feed

    def run(self, stream: int, action: Action) -> None:
        self.issuing = stream
        super().run(stream, action)

    def send_output(self, stream: int, stage: int, microbatch: int) -> None:
        """To the stage above."""
        slot = self.slot(stage, microbatch)
        self.outputs[stage][slot] = self._crossed(stream, self.outputs[stage][slot])

    def send_gradient(self, stream: int, stage: int, microbatch: int) -> None:
        """To the stage below, with the output of a stage that inverts it."""
        below, slot = stage - 1, self.slot(stage - 1, microbatch)
        self.incoming[below][slot] = self._crossed(stream, self.incoming[below][slot])
        self.returned[below][slot] = self._crossed(stream, self.returned[below][slot])

    def send_activations(self, stream: int, stage: int, microbatch: int) -> None:
        """What a forward keeps, to the device of its backward."""
        own = self.slots_of(stage)[self.slot(stage, microbatch)]
        state = carried(own)
        read = state.pop("read")
        carry_on(own, self._crossed(stream, state) | {"read": read})

    def send_parameters(self, stream: int, stage: int, update: int) -> None:
        """Private weights, which an update has changed, become the live ones."""
        weights = self.weights[stage]
        for updating, private in weights.apart.items():
            if self.crossing is not None and self._leads_from(stream, updating):
                for dtype, flat in weights.live.flat.items():
                    self.crossing.landing(stream).into(flat, private.flat[dtype])

    def _leads_from(self, copying: int, stream: int) -> bool:
        """Whether a copy stream is on the device of another one."""
        return self.program.streams[copying].device == self.program.streams[stream].device

    def backward(self, stream: int, stage: int, microbatch: int) -> None:
        """By the twin of the stage on the stream's device, if it has one there."""
        home, own = self.stages, self.stages[stage]
        if not isinstance(own, ApartStage):
            super().backward(stream, stage, microbatch)
            return
        self.stages = [*home[:stage], own.hand_over(stream, self.slot(stage, microbatch)), *home[stage + 1 :]]
        try:
            super().backward(stream, stage, microbatch)
        finally:
            self.stages = home

    def _crossed(self, stream: int, state: Any) -> Any:
        """The same on the other device."""
        if self.crossing is None:
            return state
        return _copied(self.crossing.landing(stream), state)

    def _hand_down(
        self, stage: int, microbatch: int, read: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
    ) -> None:
        """A predictor learns on the device that it predicts on."""
        lesson = None if self.crossing is None else self.crossing.lesson(self.issuing, stage - 1)
        if lesson is None:
            super()._hand_down(stage, microbatch, read, gradients)
            return
        read, gradients = _copied(lesson, (read, gradients))
        with lesson.running():
            super()._hand_down(stage, microbatch, read, gradients)

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
        yield self.found[stage][self.slot(stage, microbatch)]
        if microbatch in self.pending[stage]:
            yield self.pending[stage][microbatch].gradients

    def _held_for_update(self, stage: int, update: int) -> Iterator[Tensor]:
        first = update * self.program.every
        for microbatch in range(first, first + self.program.update_size(update)):
            if microbatch in self.pending[stage]:
                pending = self.pending[stage][microbatch]
                yield from tensors_in([pending.gradients, pending.found])
        yield from tensors_in(self.reduced[stage].get(update, ()))
        yield from tensors_in(self.updates[stage].tentative())

    def carried(self, origin: Origin) -> Any:
        """All tensors that later actions read of earlier ones, in nested lists and dictionaries."""
        return {
            "between": [self.outputs, self.incoming, self.returned, self.found],
            "stages": [[carried(own) for own in self.slots_of(stage)] for stage in range(len(self.stages))],
            "read": [[_flat(arena) for arena in arenas] for arenas in self.read_weights],
            "pending": [
                {
                    m - origin.microbatch: (one.gradients, _flat(one.weights), one.found)
                    for m, one in sorted(found.items())
                }
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
        between = ([list(slots) for slots in part] for part in state["between"])
        self.outputs, self.incoming, self.returned, self.found = between
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
                m + origin.microbatch: Pending(
                    gradients, *numbers.pending[s][m], _arena(self.stages[s].arena, flat), version
                )
                for m, (gradients, flat, version) in found.items()
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


def _copied(landing: Lands, state: Any) -> Any:
    """The same with copies on the other device, one for each tensor."""
    copies: dict[int, Tensor] = {}

    def copied(tensor: Tensor) -> Tensor:
        if id(tensor) not in copies:
            copies[id(tensor)] = landing.copy(tensor)
        return copies[id(tensor)]

    return tree_map_only(Tensor, copied, state)


def _flat(arena: Arena | None) -> list[Tensor] | None:
    return None if arena is None else list(arena.flat.values())


def _arena(like: Arena, flat: list[Tensor] | None) -> Arena | None:
    """An arena of that layout over other storages."""
    return None if flat is None else Arena.over(like.layout, dict(zip(like.flat, flat, strict=True)))
