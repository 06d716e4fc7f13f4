"""Watching a `serial` run: what time it is, and how good the model is, without draining the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from job import UPDATE_BATCH

from asyncpipe import Trainer
from asyncpipe.data.batches import Batches
from asyncpipe.data.dataset import Split
from asyncpipe.ir import Action, Op, replay_replicas
from asyncpipe.runtime.delays import VirtualDelays
from asyncpipe.runtime.replicas import mean_of

__all__ = ["STAGES", "Observer", "VirtualClock", "accuracy", "split_batches"]

STAGES = 4
Curve = list[tuple[int, float, float]]


class VirtualClock:
    """Follows a run by its hook: the same replay a second time, which tells the time.

    Time 1 is one forward of UPDATE_BATCH samples through the whole model, T in the papers; work is linear in samples.
    """

    def __init__(self, trainer: Trainer, each: int, size: int) -> None:
        self.trainer, self.size = trainer, size
        self._ends = self._follow_phases(each)
        self.now = 0.0

    def _follow_phases(self, each: int) -> Iterator[tuple[int, int, Action, Fraction]]:
        """(replica, stream, action, time) of every end; a phase begins when the one before has drained."""
        assert self.trainer.phases is not None
        began = time = Fraction(0)
        for phase, count in list(self.trainer.phases.parts(0, each)):
            program = self.trainer.phases.compiled[phase].program(count)
            delays = VirtualDelays(self.trainer.disturbance.virtual(program, 0))
            forward = sum(program.costs[Op.F]) * program.unit
            unit = delays.tick / forward * Fraction(self.size, UPDATE_BATCH)
            for replica, event in replay_replicas(program, delays.hold, delays.cost):
                time = began + event.time * unit
                if event.ends:
                    yield replica, event.stream, event.action, time
            began = time

    def follow(self, stream: int, action: Action) -> int:
        """The action ends now; returns in which replica."""
        replica, planned, its_action, time = next(self._ends)
        assert (planned, its_action) == (stream, action)
        self.now = float(time)
        return replica


class Observer:
    """A hook that counts samples and tests the model every `every` of them, on the mean of the replicas.

    `losses`: by replica and stream, when microbatches had their losses; `curve`: (samples, time, accuracy in percent).
    """

    def __init__(self, trainer: Trainer, clock: VirtualClock, test: Sequence[Any], size: int, every: int) -> None:
        self.trainer, self.clock, self.test, self.size, self.every = trainer, clock, test, size, every
        self.samples = 0
        self.losses: dict[tuple[int, int], list[float]] = {}
        self.curve: Curve = []

    def __call__(self, stream: int, action: Action) -> None:
        replica = self.clock.follow(stream, action)
        if (action.op, action.stage) == (Op.F, STAGES - 1):
            self.samples += self.size
            self.losses.setdefault((replica, stream), []).append(self.clock.now)
            if self.samples % self.every < self.size:
                self.curve.append((self.samples, self.clock.now, self.accuracy_now(self.test)))

    def accuracy_now(self, test: Sequence[Any]) -> float:
        """In percent, of the mean of the replicas, whose weights are put back afterwards."""
        columns = list(zip(*(replica.weights for replica in self.trainer.replicas), strict=True))
        own = [column[0].live.clone() for column in columns]
        for column in columns:
            column[0].live.copy_from(mean_of([weights.live for weights in column]))
        found = accuracy(self.trainer, test)
        for column, weights in zip(columns, own, strict=True):
            column[0].live.copy_from(weights)
        return found


def accuracy(trainer: Trainer, test: Sequence[Any]) -> float:
    """In percent."""
    found = trainer.evaluate(test)["accuracy"]
    assert found is not None
    return 100 * found


def split_batches(split: Split, samples: int | None = None) -> list[Any]:
    """The first `samples` as batches in order; None: all."""
    chosen = Split(split.inputs[:samples], split.targets[:samples])
    return list(Batches(chosen, 500, shuffle=False, drop_last=False).batches())
