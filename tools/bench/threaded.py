"""T: decoupled back-propagation as one writes it with Python threads; and two threads with half of each batch (CPU)."""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.tools.bench.contender import Losses
from asyncpipe.tools.bench.problem import Batch, Problem

__all__ = ["HalfBatches", "NaiveThreads"]


class NaiveThreads:
    """One forward thread, `backwards` ones that take losses from a queue; each gradient is applied where it arrives.

    SGD with momentum, in plain operations as the authors of such code write them; AdamW likewise. The gradient is
    consumed before it reaches `p.grad`: two backward threads that share it make torch raise.
    """

    def __init__(self, problem: Problem, backwards: int = 2) -> None:
        self._problem, self._backwards = problem, backwards
        self._model = problem.model()
        self._batches = problem.stream()
        self._update = _RULES[problem.workload.optimizer["use"]]
        self._nodes = [self._watched(parameter) for parameter in self._model.parameters()]

    def _watched(self, parameter: nn.Parameter) -> Any:
        """The node that would accumulate the gradient; it must be kept alive."""
        node: Any = parameter.view_as(parameter).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
        state: dict[str, Any] = {}

        @torch.no_grad()
        def consume(gradients: tuple[Tensor, ...]) -> tuple[None]:
            self._update(parameter.data, gradients[0], state, self._problem.workload.lr)
            return (None,)

        node.register_prehook(consume)
        return node

    def train(self, updates: int, keep: Losses | None = None) -> None:
        if not self._problem.on_cuda:
            torch.set_num_threads(1)
        losses: queue.Queue[Tensor | None] = queue.Queue(self._backwards)
        failures: list[BaseException] = []
        work = [partial(self._go_back, losses, failures) for _ in range(self._backwards)]
        with _Threads(work, failures):
            try:
                self._go_forward(updates, keep, losses, failures)
            except BaseException as error:  # the backward threads must learn of it, or they would wait for losses
                failures.append(error)
            for _ in range(self._backwards):
                losses.put(None)

    def _go_forward(
        self, updates: int, keep: Losses | None, losses: queue.Queue[Tensor | None], failures: list[BaseException]
    ) -> None:
        for _ in range(updates):
            if failures:
                return
            loss = self._problem.loss(self._model, next(self._batches))
            if keep is not None:
                keep.append(loss.detach().clone())
            losses.put(loss)

    @staticmethod
    def _go_back(losses: queue.Queue[Tensor | None], failures: list[BaseException]) -> None:
        while (loss := losses.get()) is not None:
            if not failures:
                try:
                    loss.backward()
                except BaseException as error:
                    failures.append(error)


def _sgd(parameter: Tensor, gradient: Tensor, state: dict[str, Any], lr: float) -> None:
    momentum = state.setdefault("momentum", torch.zeros_like(parameter))
    momentum.mul_(0.9).add_(gradient)
    parameter.add_(momentum, alpha=-lr)


def _adamw(parameter: Tensor, gradient: Tensor, state: dict[str, Any], lr: float) -> None:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101) with torch's defaults."""
    state["step"] = step = state.get("step", 0) + 1
    first = state.setdefault("first", torch.zeros_like(parameter)).lerp_(gradient, 0.1)
    second = (
        state.setdefault("second", torch.zeros_like(parameter)).mul_(0.999).addcmul_(gradient, gradient, value=1e-3)
    )
    parameter.mul_(1 - lr * 1e-2)
    root = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
    parameter.addcdiv_(first, root, value=-lr / (1 - 0.9**step))


_RULES: dict[str, Callable[[Tensor, Tensor, dict[str, Any], float], None]] = {"sgd": _sgd, "adamw": _adamw}


class HalfBatches:
    """Synchronous: two threads, one core each, with half of every batch; each updates half of the parameters."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._models = [problem.model(), None]
        self._models[1] = copy.deepcopy(self._models[0])
        self._parameters = [list(model.parameters()) for model in self._models if model is not None]
        for ours, theirs in zip(*self._parameters, strict=True):
            theirs.data = ours.data
        middle = len(self._parameters[0]) // 2
        self._owned = [slice(0, middle), slice(middle, None)]
        self._optimizers = [problem.optimizer_over(self._parameters[0][part]) for part in self._owned]
        self._gradients: list[tuple[Tensor, ...]] = [(), ()]
        self._batches = problem.stream()

    def train(self, updates: int, keep: Losses | None = None) -> None:
        torch.set_num_threads(1)
        batches = [next(self._batches) for _ in range(updates)]
        barrier, failures = threading.Barrier(2), list[BaseException]()
        losses: list[list[Tensor]] = [[], []]
        work = [partial(self._work, rank, batches, barrier, failures, losses[rank]) for rank in range(2)]
        with _Threads(work, failures, barrier.abort):
            pass
        if keep is not None:
            keep.extend(a + b for a, b in zip(*losses, strict=True))

    def _work(
        self,
        rank: int,
        batches: list[Batch],
        barrier: threading.Barrier,
        failures: list[BaseException],
        losses: list[Tensor],
    ) -> None:
        try:
            for x, y in batches:
                losses.append(self._step(rank, (x.chunk(2)[rank], y.chunk(2)[rank]), barrier).detach())
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    def _step(self, rank: int, half: Batch, barrier: threading.Barrier) -> Tensor:
        model = self._models[rank]
        assert model is not None
        loss = self._problem.loss(model, half) / 2
        self._gradients[rank] = torch.autograd.grad(loss, self._parameters[rank])
        barrier.wait()
        part = self._owned[rank]
        sums = torch._foreach_add(self._gradients[0][part], self._gradients[1][part])
        for parameter, gradient in zip(self._parameters[0][part], sums, strict=True):
            parameter.grad = gradient
        self._optimizers[rank].step()
        barrier.wait()
        return loss


class _Threads:
    """All end before the block does; the first failure is raised. stop: ends them where this one was interrupted."""

    def __init__(
        self, work: Sequence[Callable[[], None]], failures: list[BaseException], stop: Callable[[], None] | None = None
    ) -> None:
        self._failures = failures
        self._stop = stop
        self._threads = [threading.Thread(target=one) for one in work]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def __exit__(self, *error: object) -> None:
        try:
            self._join()
        except BaseException as interruption:  # a time limit, while it waited
            self._failures.insert(0, interruption)
            if self._stop is not None:
                self._stop()
            self._join()
        if self._failures:
            raise self._failures[0]
