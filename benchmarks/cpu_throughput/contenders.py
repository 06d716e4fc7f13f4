"""asyncpipe and the strongest plain PyTorch programs that we know for two cores."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from workloads import Workload

import asyncpipe

__all__ = ["CONTENDERS", "Contender"]

LR, MOMENTUM = 1e-6, 0.9
"""So small that nothing is learnt: a batch learnt by heart has denormal gradients, which cost five times the time."""
Contender = Callable[[int], None]
"""Trains for so many batches."""


def eager(threads: int) -> Callable[[Workload], Contender]:
    """The ordinary loop with the fused optimizer and `threads` intra-op threads."""

    def make(workload: Workload) -> Contender:
        model, (x, y) = workload.build(), workload.batch()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, fused=True)

        def train(batches: int) -> None:
            torch.set_num_threads(threads)
            for _ in range(batches):
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(model(x), y).backward()
                optimizer.step()

        return train

    return make


class _HalfBatches:
    """Two threads, each with half of every batch and one intra-op thread; each updates half of the parameters."""

    def __init__(self, workload: Workload) -> None:
        self.models = [workload.build(), None]
        self.models[1] = copy.deepcopy(self.models[0])
        for ours, theirs in zip(self.models[0].parameters(), self.models[1].parameters(), strict=True):
            theirs.data = ours.data
        x, y = workload.batch()
        self.halves = list(zip(x.chunk(2), y.chunk(2), strict=True))
        parameters = [list(model.parameters()) for model in self.models]
        half = len(parameters[0]) // 2
        self.owned = [slice(0, half), slice(half, None)]
        self.parameters = parameters
        self.optimizers = [
            torch.optim.SGD(parameters[0][part], lr=LR, momentum=MOMENTUM, fused=True) for part in self.owned
        ]
        self.gradients: list[tuple[Tensor, ...]] = [(), ()]
        self.barrier = threading.Barrier(2)

    def work(self, rank: int, batches: int) -> None:
        x, y = self.halves[rank]
        for _ in range(batches):
            loss = cross_entropy(self.models[rank](x), y) / 2
            self.gradients[rank] = torch.autograd.grad(loss, self.parameters[rank])
            self.barrier.wait()
            part = self.owned[rank]
            sums = torch._foreach_add(self.gradients[0][part], self.gradients[1][part])
            for parameter, gradient in zip(self.parameters[0][part], sums, strict=True):
                parameter.grad = gradient
            self.optimizers[rank].step()
            self.barrier.wait()

    def __call__(self, batches: int) -> None:
        torch.set_num_threads(1)
        threads = [threading.Thread(target=self.work, args=(rank, batches)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def decoupled(schedule: str, stages: int | None = None) -> Callable[[Workload], Contender]:
    """asyncpipe's `threads` back end with the fused optimizer."""

    def make(workload: Workload) -> Contender:
        model: nn.Module = workload.build()
        optimizer = {"use": "sgd", "lr": LR, "momentum": MOMENTUM, "arithmetic": "fused"}
        trainer = asyncpipe.Trainer(model, schedule, cross_entropy, optimizer, "threads", stages, intra_op_threads=1)
        batch = workload.batch()

        def train(batches: int) -> None:
            trainer.fit(repeat(batch), batches)

        return train

    return make


CONTENDERS: dict[str, Callable[[Workload], Contender]] = {
    "eager, 1 thread": eager(1),
    "eager, 2 threads": eager(2),
    "2 x half batch": _HalfBatches,
    "async-lu": decoupled("async-lu"),
}
