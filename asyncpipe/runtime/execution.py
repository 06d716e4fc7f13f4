"""What each action does to the stages: the part that all CPU back ends share. Who runs it when is the back end's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from asyncpipe.errors import NumericalError
from asyncpipe.ir import TRANSFERS, Action, Blocks, Op, Program
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.clock import Moment, RunClock
from asyncpipe.runtime.divergence import DivergenceSampler
from asyncpipe.runtime.feed import Feed
from asyncpipe.runtime.stage_functions import Gradients, StageFunctions
from asyncpipe.runtime.stage_updates import StageUpdates, needs_read, reduce_gradients, transforms_of
from asyncpipe.runtime.stage_weights import StageWeights
from asyncpipe.runtime.version_counters import DeviceStaleness

__all__ = ["Execution", "Lag", "Pending"]


@dataclass(frozen=True)
class Lag:
    """Measured for one microbatch at one stage: staleness of its update, and updates between its F and its B."""

    apply: int
    forward_backward: int


@dataclass
class Pending:
    """The gradients of one microbatch until its update, with what its forward read.

    found: the version of that as the device counts, int64 (1), if it does.
    """

    gradients: Gradients
    read: int
    forward_backward: int
    weights: Arena | None
    found: Tensor | None = None


@dataclass
class Execution:
    """One run of a program over `program.microbatches` microbatches: the state between actions.

    Nothing here locks: every list element and dictionary key is written by one action and read by actions that the
    program orders after it. Parameters alone are shared without order, which is the algorithm.
    """

    program: Program
    stages: Sequence[StageFunctions]
    weights: Sequence[StageWeights]
    updates: Sequence[StageUpdates]
    feed: Feed
    learning_rate: Callable[[int], float]
    """lr of an update, counted from the start of this run."""
    clock: RunClock = field(default_factory=RunClock)
    divergence: DivergenceSampler = field(default_factory=lambda: DivergenceSampler(0))
    losses: list[float] = field(default_factory=list)
    moments: list[Moment | None] = field(default_factory=list)
    """When each loss was known."""
    lags: list[dict[int, Lag]] = field(default_factory=list)
    recent_loss: float | None = None
    on_device: DeviceStaleness | None = None
    """Counted where actions end later than the host issues them; known when the run has ended."""

    def __post_init__(self) -> None:
        count = self.program.microbatches or 0
        self.losses = [math.nan] * count
        self.moments = [None] * count
        self.lags = [{} for _ in self.stages]
        self.outputs: list[list[Any]] = [[None] * slots for slots in self.program.slots]
        self.incoming: list[list[Any]] = [[None] * slots for slots in self.program.slots]
        self.reads: list[list[tuple[int, int]]] = [[(0, 0)] * slots for slots in self.program.slots]
        self.read_weights: list[list[Arena | None]] = [[None] * slots for slots in self.program.slots]
        self.found: list[list[Tensor | None]] = [[None] * slots for slots in self.program.slots]
        """By stage and slot, `reads` as the device counts, if it does."""
        self.reduced: list[dict[int, Gradients]] = [{} for _ in self.stages]
        """By stage and update, the gradient of all replicas, where they have met for it."""
        self.returned: list[list[tuple[Tensor, ...]]] = [[()] * slots for slots in self.program.slots]
        """By stage and slot, the output that a reversible stage gets back."""
        self.recomputes_before = any(Op.R in stream.runs for stream in self.program.streams)
        self.keeps_read = needs_read(self.program)
        self.shrink = transforms_of(self.program).get("shrink", 1.0)
        self.blocks = _blocks(self.program)
        self.pending: list[dict[int, Pending]] = [{} for _ in self.stages]
        self.versions = [[0] * len(self.program.streams) for _ in self.stages]
        self.steps: dict[Op, Callable[[int, int, int], None]] = {
            Op.F: self.forward,
            Op.B: self.backward,
            Op.I: self.input_gradient,
            Op.W: self.weight_gradient,
            Op.U: self.update,
            Op.R: self.recompute,
            # One memory holds all emulated devices: what is sent is there.
            **dict.fromkeys(TRANSFERS, lambda stream, stage, index: None),
        }

    @property
    def finished(self) -> int:
        """Microbatches that were updated somewhere: through the whole pipeline, or nearly."""
        return max(map(len, self.lags))

    def run(self, stream: int, action: Action) -> None:
        """Executes one action, completely."""
        self.steps[action.op](stream, action.stage, action.index)

    def version(self, stage: int) -> int:
        """Updates applied to a stage so far: each stream counts its own, so that counting needs no lock."""
        return sum(self.versions[stage])

    def slot(self, stage: int, microbatch: int) -> int:
        return microbatch % self.program.slots[stage]

    def forward(self, stream: int, stage: int, microbatch: int) -> None:
        slot = self.slot(stage, microbatch)
        last = stage == len(self.stages) - 1
        value = self.feed.inputs(microbatch) if stage == 0 else self._take_output(stage - 1, microbatch)
        target = self.feed.targets(microbatch) if last else self._own_target(stage, microbatch)
        update = microbatch // self.program.every
        weights, version = self.weights[stage].forward(update, self.version(stage))
        self.reads[stage][slot] = (version, 0)
        self.found[stage][slot] = self.updates[stage].version_found(update)
        if self.keeps_read:
            self.read_weights[stage][slot] = weights.clone()
        if self._is_updated(stage, microbatch):
            self.divergence.forward(stage, microbatch, weights)
        result = self.stages[stage].forward(slot, value, target, weights)
        if last:
            self._record_loss(microbatch, result)
        else:
            self.outputs[stage][slot] = result

    def _take_output(self, stage: int, microbatch: int) -> Any:
        """Only the stage above reads it, and keeps it where it has to."""
        slot = self.slot(stage, microbatch)
        value, self.outputs[stage][slot] = self.outputs[stage][slot], None
        return value

    def _own_target(self, stage: int, microbatch: int) -> Any:
        """For a stage with a loss of its own."""
        local = self.program.aux == "local" and stage in self.program.local
        return self.feed.target(microbatch) if local else None

    def _record_loss(self, microbatch: int, loss: Tensor) -> None:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NumericalError(
                f"the loss of microbatch {microbatch} is {value}",
                "lower the learning rate; momentum and staleness multiply its effect",
            )
        self.losses[microbatch] = self.recent_loss = value
        self.moments[microbatch] = self.clock.now()

    def backward(self, stream: int, stage: int, microbatch: int) -> None:
        slot = self._begin_backward(stream, stage, microbatch)
        lowest = self.blocks is not None and stage == self.blocks.lowest(microbatch)
        weights = self._backward_weights(stream, stage, slot)
        read = self.stages[stage].inputs(slot)
        inputs, gradients = self.stages[stage].backward(slot, self._incoming(stage, slot), weights, lowest)
        if not lowest:
            self._hand_down(stage, microbatch, read, inputs)
        self._end_backward(stage, microbatch, gradients)

    def input_gradient(self, stream: int, stage: int, microbatch: int) -> None:
        slot = self._begin_backward(stream, stage, microbatch)
        weights = self._backward_weights(stream, stage, slot)
        inputs = self.stages[stage].input_gradient(slot, self._incoming(stage, slot), weights)
        self._hand_down(stage, microbatch, self.stages[stage].inputs(slot), inputs)

    def weight_gradient(self, stream: int, stage: int, microbatch: int) -> None:
        gradients = self.stages[stage].weight_gradient(self.slot(stage, microbatch))
        self._end_backward(stage, microbatch, gradients)

    def recompute(self, stream: int, stage: int, microbatch: int) -> None:
        """R reads the weights for its backward too."""
        slot = self._note_read_of_backward(stream, stage, microbatch)
        self.stages[stage].forward_again(slot, self.weights[stage].backward(stream))

    def _begin_backward(self, stream: int, stage: int, microbatch: int) -> int:
        if self.recomputes_before and stage in self.program.recomputed:
            return self.slot(stage, microbatch)
        return self._note_read_of_backward(stream, stage, microbatch)

    def _note_read_of_backward(self, stream: int, stage: int, microbatch: int) -> int:
        """Counts the updates since the forward, and lets a sample measure how far they moved the weights."""
        slot = self.slot(stage, microbatch)
        read, _ = self.reads[stage][slot]
        between = 0 if self.program.backward_weights == "same" else self.version(stage) - read
        self.reads[stage][slot] = (read, between)
        self.divergence.backward(stage, microbatch, self.weights[stage].backward(stream))
        return slot

    def _backward_weights(self, stream: int, stage: int, slot: int) -> Arena | None:
        """What is left to read for a backward: nothing where its forward has just run again."""
        weights = self.weights[stage].backward(stream)
        if stage not in self.program.recomputed:
            return weights
        if not self.recomputes_before:
            returned, self.returned[stage][slot] = self.returned[stage][slot], ()
            self.stages[stage].forward_again(slot, weights, returned)
        return None

    def _incoming(self, stage: int, slot: int) -> tuple[Tensor | None, ...] | None:
        """The gradient from the stage above, shrunk where the schedule says so (FDG); or the stage's own."""
        if self.program.aux == "synthetic" and stage in self.program.local:
            return self.stages[stage].predicted_gradients(slot)
        gradients: tuple[Tensor | None, ...] | None = self.incoming[stage][slot]
        if self.shrink == 1 or gradients is None:
            return gradients
        return tuple(None if gradient is None else gradient * self.shrink for gradient in gradients)

    def _hand_down(
        self, stage: int, microbatch: int, read: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
    ) -> None:
        """To the stage below go gradients, and to one that inverts its output; one that predicts learns from them."""
        if stage == 0:
            return
        below, slot = stage - 1, self.slot(stage - 1, microbatch)
        if below in self.program.local:
            self.stages[below].learn(read, gradients, self.learning_rate(microbatch // self.program.every))
            return
        self.incoming[below][slot] = gradients
        if self.program.recompute == "invert" and below in self.program.recomputed:
            self.returned[below][slot] = read

    def _end_backward(self, stage: int, microbatch: int, gradients: Gradients) -> None:
        slot = self.slot(stage, microbatch)
        self.incoming[stage][slot] = None
        if self._is_updated(stage, microbatch):
            read = self.read_weights[stage][slot]
            found = self.found[stage][slot]
            self.pending[stage][microbatch] = Pending(gradients, *self.reads[stage][slot], read, found)

    def _is_updated(self, stage: int, microbatch: int) -> bool:
        """Whether the microbatch updates the stage: a worker may leave some of them to others."""
        return self.blocks is None or self.blocks.updates(stage, microbatch // self.program.every)

    def reduced_gradient(self, stage: int, update: int) -> Gradients:
        """The gradient of an update that has not been applied yet."""
        first, size = update * self.program.every, self.program.update_size(update)
        parts = [self.pending[stage][first + k].gradients for k in range(size)]
        return reduce_gradients(parts, self.program.reduce)

    def update(self, stream: int, stage: int, update: int) -> None:
        first = update * self.program.every
        size = self.program.update_size(update)
        parts = [self.pending[stage].pop(first + k) for k in range(size)]
        together = self.reduced[stage].pop(update, None)
        version = self.version(stage)
        lr = self.learning_rate(update) * self.updates[stage].lr_factor
        lags = [Lag(version - part.read, part.forward_backward) for part in parts]
        for microbatch, (part, lag) in enumerate(zip(parts, lags, strict=True), first):
            self.divergence.update(
                stage, microbatch, update, self.weights[stage].live, part.gradients, lag.forward_backward, lag.apply, lr
            )
        gradients = [part.gradients for part in parts] if together is None else [together]
        found = [part.found for part in parts if part.found is not None]
        self.updates[stage].apply(stream, update, gradients, parts[0].weights, lr, found)
        self.versions[stage][stream] += 1
        self.updates[stage].updated(self.version(stage))
        self.lags[stage].update(enumerate(lags, first))


def _blocks(program: Program) -> Blocks | None:
    """Who updates what, where workers do not update everything."""
    if program.scope == "all":
        return None
    workers = sum(Op.U in stream.runs for stream in program.streams)
    return Blocks(program.stages, workers, program.scope == "alternate")
