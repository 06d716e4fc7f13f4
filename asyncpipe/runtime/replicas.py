"""Replicas of one model in one process, and how each SYNC keeps them together.

A SYNC starts when every replica has come to it (a push: when its own is ready) and ends after its planned time: what it
sends is read at the start, what it brings is written at the end, as with a transfer between devices.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor

from asyncpipe.errors import InternalError
from asyncpipe.ir import Action, Op, Program
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.clock import RunClock
from asyncpipe.runtime.delays import Delays
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.stage_weights import StageWeights

__all__ = ["ReplicaGroup", "Synchroniser", "make_synchroniser", "share_out"]


class Synchroniser(Protocol):
    """What a SYNC action of a stage does. The state belongs to a training, not to one run."""

    meets: bool
    """Whether it takes all replicas at once."""

    def restart(self) -> None:
        """A run begins, perhaps after one that failed between the start and the end of a SYNC."""

    def start(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        """Replica `replica` begins its SYNC."""

    def end(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        """Replica `replica` ends its SYNC; for those that meet, all of them end one after another."""

    def drain(self, weights: Sequence[Sequence[StageWeights]]) -> None:
        """The run has ended: leave the replicas (the outer sequence) with the same weights."""

    def adopt(self, weights: Sequence[StageWeights]) -> None:
        """Somebody else has set the weights of all replicas to these."""


@dataclass(frozen=True)
class ReplicaGroup:
    """The executions of all replicas of one run, what keeps them together (None: there is one), and who is late."""

    executions: Sequence[Execution]
    synchroniser: Synchroniser | None = None
    delays: Delays | None = None

    @property
    def program(self) -> Program:
        return self.executions[0].program

    @property
    def clock(self) -> RunClock:
        """One clock for all."""
        return self.executions[0].clock

    def run(self, replica: int, stream: int, action: Action, ends: bool) -> None:
        """An action of one replica starts or ends; those but SYNC run at once, updates at their end."""
        if action.op is Op.SYNC and self.synchroniser is not None:
            act = self.synchroniser.end if ends else self.synchroniser.start
            act(self.executions, replica, action.stage, action.index)
        elif self.works(action, ends):
            self.executions[replica].run(stream, action)

    def works(self, action: Action, ends: bool) -> bool:
        """Whether `run` does the action's work at this end of it; a SYNC, most of it."""
        return ends == (action.op in (Op.U, Op.SYNC))

    def run_at_once(self, replica: int, stream: int, action: Action) -> None:
        """A whole action; a SYNC at which replicas meet, for all of them."""
        if action.op is not Op.SYNC or self.synchroniser is None:
            self.executions[replica].run(stream, action)
            return
        together = range(len(self.executions)) if self.synchroniser.meets else (replica,)
        for act in (self.synchroniser.start, self.synchroniser.end):
            for one in together:
                act(self.executions, one, action.stage, action.index)


class AllReduce:
    """Each update applies the mean (or sum) of the gradients of all replicas (data parallelism)."""

    meets = True

    def restart(self) -> None:
        pass

    def start(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        pass

    def end(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        if replica < len(executions) - 1:
            return
        own = [execution.reduced_gradient(stage, update) for execution in executions]
        reduced = [_mean_gradient(column, executions[0].program.reduce) for column in zip(*own, strict=True)]
        for execution in executions:
            execution.reduced[stage][update] = reduced

    def drain(self, weights: Sequence[Sequence[StageWeights]]) -> None:
        pass

    def adopt(self, weights: Sequence[StageWeights]) -> None:
        pass


class Average:
    """Parameters become their mean; without blocking, the mean minus a snapshot is added (LAPSGD, arXiv 2203.06638).

    Optimizer states and buffers stay each replica's own.
    """

    meets = True

    def __init__(self, blocking: bool) -> None:
        self.blocking = blocking
        self._snapshots: dict[tuple[int, int], list[Arena]] = {}

    def restart(self) -> None:
        self._snapshots.clear()

    def start(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        self._snapshots.setdefault((stage, update), []).append(executions[replica].weights[stage].live.clone())

    def end(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        if replica < len(executions) - 1:
            return
        snapshots = self._snapshots.pop((stage, update))
        mean = mean_of(snapshots)
        for execution, snapshot in zip(executions, snapshots, strict=True):
            weights = execution.weights[stage]
            with weights.lock:
                for dtype, flat in weights.live.flat.items():
                    # One operation in place: a racy update of another thread has no time to be lost in between.
                    if self.blocking:
                        flat.copy_(mean.flat[dtype])
                    else:
                        flat.add_(mean.flat[dtype] - snapshot.flat[dtype])
                weights.replaced(execution.version(stage))

    def drain(self, weights: Sequence[Sequence[StageWeights]]) -> None:
        average_all(weights)

    def adopt(self, weights: Sequence[StageWeights]) -> None:
        pass


class Outer:
    """DiLoCo (arXiv 2311.08105): an outer SGD step along the mean change since the last one, from which all go on."""

    meets = True

    def __init__(self, lr: float, momentum: float, nesterov: bool, stages: Sequence[StageWeights]) -> None:
        self.lr, self.momentum, self.nesterov = lr, momentum, nesterov
        self.weights = [stage.live.clone() for stage in stages]
        self.velocity = [stage.live.like() for stage in stages]

    def restart(self) -> None:
        pass

    def start(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        pass

    def end(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        if replica < len(executions) - 1:
            return
        self._step(stage, [execution.weights[stage].live for execution in executions])
        for execution in executions:
            execution.weights[stage].replaced(execution.version(stage))

    def _step(self, stage: int, lives: Sequence[Arena]) -> None:
        outer, velocity = self.weights[stage], self.velocity[stage]
        mean = mean_of(lives)
        for dtype, flat in outer.flat.items():
            gradient = flat - mean.flat[dtype]
            v = velocity.flat[dtype].mul_(self.momentum).add_(gradient)
            flat.sub_(gradient.add(v, alpha=self.momentum) if self.nesterov else v, alpha=self.lr)
        for live in lives:
            live.copy_from(outer)

    def drain(self, weights: Sequence[Sequence[StageWeights]]) -> None:
        """A drain ends a round early, with its outer step: a run of segments shorter than a round had none else."""
        for stage, column in enumerate(zip(*weights, strict=True)):
            lives = [one.live for one in column]
            outer = self.weights[stage].flat
            if any(not torch.equal(flat, outer[dtype]) for live in lives for dtype, flat in live.flat.items()):
                self._step(stage, lives)
                for one in column:
                    one.replaced(0)

    def adopt(self, weights: Sequence[StageWeights]) -> None:
        for outer, stage in zip(self.weights, weights, strict=True):
            outer.copy_from(stage.live)


class Push:
    """New parameters go to a random other replica, which mixes them in by push-sum weights (LayUp, arXiv 2410.05985v4;
    GoSGD, 1804.01852): the sender halves its weight w and sends (x, w); the receiver takes (w_r x_r + w x) / (w_r + w).

    Who that is follows from the seed and the place of the push alone, so that every back end draws the same peers.
    """

    meets = False

    def __init__(self, replicas: int, stages: int, whole_model: bool, seed: int) -> None:
        self.replicas, self.whole_model = replicas, whole_model
        self.shares = [[1.0] * replicas for _ in range(stages)]
        self.seed = seed
        self.runs = 0
        self._sent: dict[tuple[int, int, int], tuple[Arena, float]] = {}

    def restart(self) -> None:
        """What was under way when a run failed is lost; the weights that are left count as equal again."""
        self.runs += 1
        if self._sent:
            self._sent.clear()
            self.shares = [[1.0] * self.replicas for _ in self.shares]

    def start(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        # With the copy, not on arrival: a share that comes in meanwhile must not leave with older weights.
        weights, shares = executions[replica].weights[stage], self.shares[stage]
        with weights.lock:
            shares[replica] /= 2
            self._sent[replica, stage, update] = weights.live.clone(), shares[replica]

    def end(self, executions: Sequence[Execution], replica: int, stage: int, update: int) -> None:
        sent, incoming = self._sent.pop((replica, stage, update))
        peer = self._peer(replica, stage, update)
        weights, shares = executions[peer].weights[stage], self.shares[stage]
        with weights.lock:
            part = incoming / (shares[peer] + incoming)
            for dtype, flat in weights.live.flat.items():
                flat.lerp_(sent.flat[dtype], part)
            shares[peer] += incoming
            weights.replaced(executions[peer].version(stage))

    def _peer(self, replica: int, stage: int, update: int) -> int:
        """Another replica, with equal chances; one for all stages of an update where the whole model is sent."""
        part = "model" if self.whole_model else stage
        chance = random.Random(f"{self.seed} {self.runs} {replica} {part} {update}")
        peer = chance.randrange(self.replicas - 1)
        return peer + (peer >= replica)

    def drain(self, weights: Sequence[Sequence[StageWeights]]) -> None:
        average_all(weights, self.shares)

    def adopt(self, weights: Sequence[StageWeights]) -> None:
        pass


def make_synchroniser(program: Program, stages: Sequence[StageWeights], seed: int) -> Synchroniser | None:
    """What `program.sync` says; None for one replica. `seed` draws the peers of a push."""
    kind, *words = program.sync or ("",)
    if program.replicas == 1:
        return None
    if kind == "allreduce":
        return AllReduce()
    if kind == "average":
        return Average(words[1] == "blocking")
    if kind == "outer":
        return Outer(float(Fraction(words[1])), float(Fraction(words[2])), "nesterov" in words, stages)
    if kind == "push":
        return Push(program.replicas, program.stages, words[0] == "model", seed)
    raise InternalError(f"no synchronisation is called {kind!r}")


def mean_of(arenas: Sequence[Arena], shares: Sequence[float] | None = None) -> Arena:
    """A new arena with the mean, added in the order given; weighted by `shares`, if there are any."""
    mean = arenas[0].clone()
    for dtype, flat in mean.flat.items():
        if shares is not None:
            flat.mul_(shares[0])
        for number, other in enumerate(arenas[1:], 1):
            flat.add_(other.flat[dtype], alpha=1 if shares is None else shares[number])
        flat.div_(len(arenas) if shares is None else sum(shares))
    return mean


def average_all(weights: Sequence[Sequence[StageWeights]], shares: Sequence[Sequence[float]] | None = None) -> None:
    """Every stage of every replica takes the mean; `shares`: by stage, the weight of each replica."""
    for stage, column in enumerate(zip(*weights, strict=True)):
        mean = mean_of([replica.live for replica in column], None if shares is None else shares[stage])
        for replica in column:
            replica.live.copy_from(mean)
            replica.replaced(0)


def _mean_gradient(column: Sequence[Tensor | None], reduce: str) -> Tensor | None:
    present = [gradient for gradient in column if gradient is not None]
    if not present:
        return None
    total = present[0].clone()
    for gradient in present[1:]:
        total += gradient
    return total if reduce == "sum" else torch.div(total, len(column))


@dataclass
class share_out:
    """Deals the batches of one iterable to `replicas` iterators in turn, reading only as far as somebody asks."""

    batches: Iterable[Any]
    replicas: int
    _kept: list[deque[Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._iterator = iter(self.batches)
        self._kept = [deque() for _ in range(self.replicas)]
        self._next = 0

    def of(self, replica: int) -> Iterator[Any]:
        """The batches replica, replica + replicas, ..."""
        while True:
            while not self._kept[replica]:
                try:
                    batch = next(self._iterator)
                except StopIteration:
                    return
                self._kept[self._next % self.replicas].append(batch)
                self._next += 1
            yield self._kept[replica].popleft()
