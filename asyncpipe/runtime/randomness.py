"""torch's global generator in a run that repeats forwards: what a forward drew, and the same numbers once more.

Threads share the generator, so its state at the start of a forward says nothing about the draws of that forward. Each
operation that draws is therefore noted with the state that it found, 5 kB, and this and the draw are one step
for all stages of the run and for its data.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from asyncpipe.errors import UserCodeError

__all__ = ["GENERATOR_LOCK", "Draw", "RecordedDraws", "RepeatedDraws"]

GENERATOR_LOCK = threading.RLock()
"""Held around draws from the global generator, where a run repeats some of them."""


class Draw(NamedTuple):
    """An operation, and the state of the generator that it found."""

    operation: str
    state: Tensor


class RecordedDraws(TorchDispatchMode):
    """Appends what each draw of the calling thread found to `draws`, below autograd, and lets it be."""

    def __init__(self, draws: list[Draw]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draws = draws

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        with GENERATOR_LOCK:
            return self.draw(func, args, kwargs or {})

    def draw(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self.draws.append(Draw(str(func), torch.get_rng_state()))
        return func(*args, **kwargs)


class RepeatedDraws(RecordedDraws):
    """Gives each draw the state that it found the first time; the generator goes on as if nothing was drawn."""

    def __init__(self, draws: list[Draw]) -> None:
        super().__init__(draws)
        self._next = iter(draws)

    def draw(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        recorded = next(self._next, None)
        if recorded is None or recorded.operation != str(func):
            raise UserCodeError(
                f"recompute: the second forward draws {func}, where the first drew {recorded and recorded.operation}",
                "let each forward of a module draw the same random numbers, or limit `recompute` to other stages",
            )
        before = torch.get_rng_state()
        torch.set_rng_state(recorded.state)
        try:
            return func(*args, **kwargs)
        finally:
            torch.set_rng_state(before)
