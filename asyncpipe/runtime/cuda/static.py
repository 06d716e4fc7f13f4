"""What a captured period reads from the host and gives back to it, at fixed places: batches, learning rates, losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from asyncpipe.errors import Diagnostic, UsageError
from asyncpipe.runtime.cuda.api import Cuda, Event, Stream
from asyncpipe.runtime.cuda.losses import checked_loss

__all__ = ["StaticBatches", "StaticLosses", "StaticRates", "several_shapes"]

Source = Callable[[int], Any]


class StaticBatches:
    """The inputs, or the targets, of the microbatches that a period reads.

    `fill` copies those of a later period: from the host to one of two staging sets on a stream of its own, while the
    period before runs; then, on the launching stream, to their places.
    """

    def __init__(self, cuda: Cuda, copying: Stream, samples: Sequence[tuple[int, Any]], device: torch.device) -> None:
        self._cuda = cuda
        self._copying = copying
        self._numbers = [microbatch for microbatch, _ in samples]
        flattened = [tree_flatten(sample) for _, sample in samples]
        self._specs = [spec for _, spec in flattened]
        self._places = [[_like(leaf, device) for leaf in leaves] for leaves, _ in flattened]
        self._require_one_shape()
        with cuda.on(copying):
            self._staging = [[[_like(leaf, device) for leaf in leaves] for leaves, _ in flattened] for _ in range(2)]
        self._consumed: list[Event | None] = [None, None]
        self._kept: list[list[Tensor]] = [[], []]
        self._fills = 0

    def _require_one_shape(self) -> None:
        first, *others = [[place.shape for place in places] for places in self._places]
        for shapes in others:
            if shapes != first:
                raise several_shapes(first, shapes)

    @property
    def numbers(self) -> list[int]:
        """The microbatches of the captured period."""
        return self._numbers

    def place(self, microbatch: int) -> Any:
        """What the captured period reads."""
        at = self._numbers.index(microbatch)
        return tree_unflatten(list(self._places[at]), self._specs[at])

    def fill(self, launching: Stream, source: Source, shift: int) -> None:
        """With microbatches `shift` after the captured ones; UsageError where one has another shape."""
        side = self._fills % 2
        self._fills += 1
        batches = [self._leaves(at, source(number + shift)) for at, number in enumerate(self._numbers)]
        if (consumed := self._consumed[side]) is not None:
            self._cuda.wait(self._copying, consumed)
        with self._cuda.on(self._copying):
            for targets, leaves in zip(self._staging[side], batches, strict=True):
                for target, leaf in zip(targets, leaves, strict=True):
                    target.copy_(leaf, non_blocking=True)
        # Until this staging set is filled again its copies may still read the batches.
        self._kept[side] = [leaf for leaves in batches for leaf in leaves]
        self._move(side, launching)

    def _move(self, side: int, launching: Stream) -> None:
        filled, consumed = self._cuda.event(), self._cuda.event()
        self._cuda.record(filled, self._copying)
        self._cuda.wait(launching, filled)
        with self._cuda.on(launching):
            for places, staged in zip(self._places, self._staging[side], strict=True):
                for place, leaf in zip(places, staged, strict=True):
                    place.copy_(leaf)
        self._cuda.record(consumed, launching)
        self._consumed[side] = consumed

    def _leaves(self, at: int, batch: Any) -> list[Tensor]:
        leaves, spec = tree_flatten(batch)
        expected = [(place.shape, place.dtype) for place in self._places[at]]
        if spec != self._specs[at] or [(leaf.shape, leaf.dtype) for leaf in leaves] != expected:
            raise several_shapes([shape for shape, _ in expected], [getattr(leaf, "shape", ()) for leaf in leaves])
        return leaves


def several_shapes(expected: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> UsageError:
    """AP712."""
    return UsageError.of(
        Diagnostic(
            "AP712",
            f"a graph reads batches of one shape, {list(map(tuple, expected))}; found {list(map(tuple, found))}",
            hint="drop the last, short batch, or use --backend streams",
        )
    )


def _like(leaf: Any, device: torch.device) -> Tensor:
    if not isinstance(leaf, Tensor):
        raise UsageError.of(
            Diagnostic(
                "AP712",
                f"a graph reads batches of tensors, found {type(leaf).__name__}",
                hint="give tensors, or use --backend streams",
            )
        )
    return torch.empty_like(leaf, device=device)


class StaticRates:
    """The learning rate of each update of a period: float64 on the device."""

    def __init__(self, cuda: Cuda, updates: Iterable[int], device: torch.device) -> None:
        self._cuda = cuda
        self._updates = list(updates)
        self._table = torch.zeros(len(self._updates), dtype=torch.float64, device=device)
        self._places = dict(zip(self._updates, self._table.unbind(), strict=True))
        self._now: list[float] = []

    def at(self, update: int) -> Tensor:
        """What the captured update reads."""
        return self._places[update]

    def fill(self, launching: Stream, rate: Callable[[int], float], shift: int) -> None:
        """Those of updates `shift` after the captured ones; nothing is copied where none changed."""
        rates = [rate(update + shift) for update in self._updates]
        if rates == self._now:
            return
        self._now = rates
        host = self._cuda.pinned(self._table)
        host.copy_(torch.tensor(rates, dtype=torch.float64))
        with self._cuda.on(launching):
            self._table.copy_(host, non_blocking=True)


class StaticLosses:
    """The losses of a period, read by the host one period late."""

    def __init__(self, cuda: Cuda, microbatches: Sequence[int], device: torch.device) -> None:
        self._cuda = cuda
        self._numbers = list(microbatches)
        self._values = torch.full((len(self._numbers),), float("nan"), device=device)
        # Each element has a writer of its own, on whatever stream.
        cuda.share([self._values], "the losses")
        self._places = dict(zip(self._numbers, self._values.unbind(), strict=True))
        self._sent: list[tuple[int, Tensor, Event]] = []

    def store(self, stream: int, microbatch: int, loss: Tensor) -> None:
        self._places[microbatch].copy_(loss.detach())

    def send(self, launching: Stream, shift: int) -> None:
        """After a launch: its losses, of microbatches `shift` after the captured ones, begin their way."""
        host = self._cuda.pinned(self._values)
        with self._cuda.on(launching):
            host.copy_(self._values, non_blocking=True)
        copied = self._cuda.event()
        self._cuda.record(copied, launching)
        self._sent.append((shift, host, copied))

    def forget(self) -> None:
        """A run begins: what one that failed has left unread is not of its microbatches."""
        self._sent.clear()

    def read(self, arrived: Callable[[int, float], None], left: int = 0) -> None:
        """Waits for all but the last `left` periods."""
        while len(self._sent) > left:
            shift, host, copied = self._sent.pop(0)
            self._cuda.synchronize(copied)
            for number, value in zip(self._numbers, self._cuda.on_host(host), strict=True):
                arrived(number + shift, checked_loss(number + shift, value))
