"""One problem for all contenders: the same weights to begin with, the same batches, loss, optimizer and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe.tools.bench.networks import build
from asyncpipe.tools.bench.workloads import Workload

__all__ = ["Batch", "Problem", "loss_of"]

Batch = tuple[Tensor, Tensor]
_RING = 64
"""Distinct batches, so that they are not learnt by heart while the clock runs: then gradients are denormal numbers,
with which a CPU calculates five times as long."""
_NOISE = 0.3
"""The share of targets that are random, so that the loss never comes near zero, for the same reason."""
_MOST_BYTES = 1 << 28


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy, the mean over all targets of the batch."""
    return cross_entropy(output.flatten(0, -2), target.flatten())


@dataclass(frozen=True)
class Problem:
    """A workload on a device."""

    workload: Workload
    device: torch.device

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def model(self) -> nn.Sequential:
        """A new one, always with the same weights."""
        network = build(self.workload).to(self.device)
        if self.workload.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """torch's own, fused; on CUDA fit for a capture."""
        return self.optimizer_over(list(model.parameters()))

    def optimizer_over(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        options: dict[str, Any] = {"lr": self.workload.lr, "fused": True}
        if self.workload.optimizer["use"] == "adamw":
            return torch.optim.AdamW(parameters, capturable=self.on_cuda, **options)
        return torch.optim.SGD(parameters, momentum=self.workload.optimizer["momentum"], **options)

    def precision(self) -> AbstractContextManager[Any]:
        """Autocast, without its cache: it would keep weights from before an update within a capture."""
        if self.workload.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        with self.precision():
            return loss_of(model(batch[0]), batch[1])

    def enlarged(self, times: int) -> Problem:
        """Batches of `times` as many samples."""
        return Problem(self.workload.enlarged(times), self.device)

    @cached_property
    def batches(self) -> list[Batch]:
        """On the device; so many that they are not learnt by heart, unless memory forbids it."""
        made = _Maker(self.workload)
        first = made.batch()
        each = first[0].nbytes + first[1].nbytes
        rest = [made.batch() for _ in range(min(_RING, max(8, _MOST_BYTES // each)) - 1)]
        return [self._placed(batch) for batch in (first, *rest)]

    def _placed(self, batch: Batch) -> Batch:
        x, y = (tensor.to(self.device) for tensor in batch)
        return (x.to(memory_format=torch.channels_last) if self.workload.channels_last else x), y

    def stream(self) -> Iterator[Batch]:
        """Endless, from the first batch on."""
        return (self.batches[i % len(self.batches)] for i in count())

    def finish(self) -> None:
        """The host waits for the device."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)


class _Maker:
    """Random samples whose targets a linear rule gives, but for some noise. Low classes are frequent: so much is learnt
    within a few dozen updates."""

    def __init__(self, workload: Workload) -> None:
        self.of = workload
        self.generator = torch.Generator().manual_seed(0)
        self.rule = torch.randn(workload.sample[-1], workload.classes, generator=self.generator)
        self.rule /= self.rule.norm(dim=0)
        self.favour = -torch.arange(float(workload.classes)).log1p()

    def batch(self) -> Batch:
        return self._tokens() if self.of.vocabulary else self._values()

    def _values(self) -> Batch:
        x = torch.randn(self.of.batch, *self.of.sample, generator=self.generator)
        features = x.flatten(1, -2).mean(1) if x.ndim > 2 else x
        return x, self._noisy((features @ self.rule + self.favour).argmax(-1))

    def _tokens(self) -> Batch:
        """Few ids are frequent, as words are. The target of a token is a fixed other one, that of a text its first."""
        assert self.of.vocabulary is not None
        share = torch.rand(self.of.batch, *self.of.sample, generator=self.generator)
        x = (share**3 * self.of.vocabulary).long()
        if self.of.every_step:
            return x, self._noisy((7 * x + 3) % self.of.classes)
        return x, self._noisy((x.float().mean(1) > self.of.vocabulary / 5).long())

    def _noisy(self, y: Tensor) -> Tensor:
        random = torch.randint(self.of.classes, y.shape, generator=self.generator)
        return torch.where(torch.rand(y.shape, generator=self.generator) < _NOISE, random, y)
