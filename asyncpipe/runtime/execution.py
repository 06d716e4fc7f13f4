"""What each action does to the stages: the part that all CPU back ends share. Who runs it when is the back end's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from asyncpipe.errors import NumericalError
from asyncpipe.ir import TRANSFERS, Action, Op, Program
from asyncpipe.runtime.feed import Feed
from asyncpipe.runtime.optimizers import StageOptimizer
from asyncpipe.runtime.stage import Gradients, Stage

__all__ = ["Execution", "Lag"]


@dataclass(frozen=True)
class Lag:
    """Measured for one microbatch at one stage: staleness of its update, and updates between its F and its B."""

    apply: int
    forward_backward: int


@dataclass
class _Pending:
    """The gradients of one microbatch until its update, with the version that its forward read."""

    gradients: Gradients
    read: int
    forward_backward: int


@dataclass
class Execution:
    """One run of a program over `program.microbatches` microbatches: the state between actions.

    Nothing here locks: every list element and dictionary key is written by one action and read by actions that the
    program orders after it. Parameters alone are shared without order, which is the algorithm.
    """

    program: Program
    stages: Sequence[Stage]
    optimizers: Sequence[StageOptimizer]
    feed: Feed
    learning_rate: Callable[[int], float]
    """lr of an update, counted from the start of this run."""
    losses: list[float] = field(default_factory=list)
    lags: list[dict[int, Lag]] = field(default_factory=list)
    recent_loss: float | None = None

    def __post_init__(self) -> None:
        count = self.program.microbatches or 0
        self.losses = [math.nan] * count
        self.lags = [{} for _ in self.stages]
        self.outputs: list[list[Any]] = [[None] * slots for slots in self.program.slots]
        self.incoming: list[list[Any]] = [[None] * slots for slots in self.program.slots]
        self.reads: list[list[tuple[int, int]]] = [[(0, 0)] * slots for slots in self.program.slots]
        self.pending: list[dict[int, _Pending]] = [{} for _ in self.stages]
        self.versions = [[0] * len(self.program.streams) for _ in self.stages]
        self.steps: dict[Op, Callable[[int, int, int], None]] = {
            Op.F: self.forward,
            Op.B: self.backward,
            Op.I: self.input_gradient,
            Op.W: self.weight_gradient,
            Op.U: self.update,
            # One memory holds all emulated devices: what is sent is there.
            **dict.fromkeys(TRANSFERS, lambda stream, stage, index: None),
        }

    @property
    def finished(self) -> int:
        """Microbatches whose first stage was updated: through the whole pipeline, or nearly."""
        return len(self.lags[0])

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
        before = self.slot(stage - 1, microbatch)
        value = self.feed.inputs(microbatch) if stage == 0 else self.outputs[stage - 1][before]
        target = self.feed.targets(microbatch) if last else None
        self.reads[stage][slot] = (self.version(stage), 0)
        result = self.stages[stage].forward(slot, value, target)
        self.outputs[stage][slot] = result
        if last:
            self._record_loss(microbatch, result)

    def _record_loss(self, microbatch: int, loss: Tensor) -> None:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NumericalError(
                f"the loss of microbatch {microbatch} is {value}",
                "lower the learning rate; momentum and staleness multiply its effect",
            )
        self.losses[microbatch] = self.recent_loss = value

    def backward(self, stream: int, stage: int, microbatch: int) -> None:
        slot = self._begin_backward(stage, microbatch)
        inputs, gradients = self.stages[stage].backward(slot, self.incoming[stage][slot])
        self._hand_down(stage, microbatch, inputs)
        self._end_backward(stage, microbatch, gradients)

    def input_gradient(self, stream: int, stage: int, microbatch: int) -> None:
        slot = self._begin_backward(stage, microbatch)
        inputs = self.stages[stage].input_gradient(slot, self.incoming[stage][slot])
        self._hand_down(stage, microbatch, inputs)

    def weight_gradient(self, stream: int, stage: int, microbatch: int) -> None:
        gradients = self.stages[stage].weight_gradient(self.slot(stage, microbatch))
        self._end_backward(stage, microbatch, gradients)

    def _begin_backward(self, stage: int, microbatch: int) -> int:
        slot = self.slot(stage, microbatch)
        read, _ = self.reads[stage][slot]
        between = 0 if self.program.backward_weights == "same" else self.version(stage) - read
        self.reads[stage][slot] = (read, between)
        return slot

    def _hand_down(self, stage: int, microbatch: int, inputs: tuple[Tensor | None, ...]) -> None:
        if stage > 0:
            self.incoming[stage - 1][self.slot(stage - 1, microbatch)] = inputs

    def _end_backward(self, stage: int, microbatch: int, gradients: Gradients) -> None:
        slot = self.slot(stage, microbatch)
        self.outputs[stage][slot] = self.incoming[stage][slot] = None
        self.pending[stage][microbatch] = _Pending(gradients, *self.reads[stage][slot])

    def update(self, stream: int, stage: int, update: int) -> None:
        first = update * self.program.every
        size = self.program.update_size(update)
        parts = [self.pending[stage].pop(first + k) for k in range(size)]
        version = self.version(stage)
        gradients = _reduce([part.gradients for part in parts], self.program.reduce)
        self.optimizers[stage].step(gradients, self.learning_rate(update))
        self.versions[stage][stream] += 1
        for k, part in enumerate(parts):
            self.lags[stage][first + k] = Lag(version - part.read, part.forward_backward)


def _reduce(parts: list[Gradients], reduce: str) -> Gradients:
    """The sum of the microbatches' gradients in ascending order; `mean` divides by their number."""
    if len(parts) == 1:
        return parts[0]
    sums: Gradients = []
    for column in zip(*parts, strict=True):
        present = [gradient for gradient in column if gradient is not None]
        total = None
        for gradient in present:
            total = gradient if total is None else total + gradient
        sums.append(total if total is None or reduce == "sum" else torch.div(total, len(parts)))
    return sums
