"""The built-in optimizers on CUDA: one fused launch per update, for each dtype of the arena.

torch.optim counts the updates of each parameter. A launch has one count, so views that were always updated together
share a `History` with counters on the device. Where gradients are missing, a history divides in two, and each part is a
launch of its own: exact, and free for the models, nearly all, whose set of gradients never changes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from asyncpipe.errors import UsageError
from asyncpipe.kernels.fused.buffers import Counters
from asyncpipe.kernels.fused.checks import ALIGNMENT
from asyncpipe.kernels.fused.device.rules import RULES
from asyncpipe.kernels.fused.grid import Grid, choose_grid
from asyncpipe.kernels.fused.issuing import current_stream
from asyncpipe.kernels.fused.launch import FusedUpdate, new_counters
from asyncpipe.kernels.fused.scalars import Scalars
from asyncpipe.kernels.fused.table import GradientTable
from asyncpipe.kernels.fused.together import Part, update_together
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.fused_lanes import History, Lane, Lanes
from asyncpipe.runtime.fused_memory import FusedMemory
from asyncpipe.runtime.fused_options import fused_options
from asyncpipe.runtime.optimizer_options import read_options
from asyncpipe.runtime.update_rule import ParameterState, Precision, require_fit

__all__ = ["FusedRule"]

PRODUCT = "mu_product"


class FusedRule:
    """Triton kernels, their options, and one state; `use` is a name in `fused_options.RULE_OF`.

    precision: of half-precision weights. `master` updates float32 copies, of which the weights are rounded; they are
    taken from the weights now, where somebody else wrote them, and when a state without them is loaded. `stochastic`
    rounds bfloat16 at random, without a bias, from `seed` on.
    An lr may be a tensor on the device too, as a captured one is. After its first call with the same gradients missing
    `apply` never waits for the device.
    """

    repeats = True
    generators: Sequence[torch.Generator] = ()

    def __init__(
        self,
        arena: Arena,
        use: str,
        options: Mapping[str, object],
        attachments: Attachments | None = None,
        precision: Precision = "plain",
        seed: int = 0,
        grid: Grid | None = None,
    ) -> None:
        self._arena = arena
        self._device = arena.layout.device
        self._attachments = attachments or Attachments()
        self._attachments.require_layout(arena)
        self._chosen = fused_options(use, read_options(use, options), self._attachments)
        self._memory = FusedMemory(arena, self._chosen, self._attachments, precision)
        self._precision = precision
        self._seed = torch.full((1,), seed, dtype=torch.int64, device=self._device)
        self._grid = grid or choose_grid(self._device)
        # Triton's interpreter, which stands in for CUDA in tests, changes modules for as long as a kernel runs.
        self.concurrent = self._device.type == "cuda"
        self._dividing = threading.Lock()
        self._lanes = Lanes()
        self._histories = self._first_histories()
        self._seed_masters(range(len(arena.views)))
        self._require_usable()

    @property
    def state_bytes(self) -> int:
        return self._memory.bytes

    def apply(self, gradients: Sequence[Tensor | None], lr: float) -> None:
        self._apply(gradients, lr, None)

    def apply_counted(self, gradients: Sequence[Tensor | None], lr: float, reads: Tensor) -> None:
        self._apply(gradients, lr, reads)

    def _apply(self, gradients: Sequence[Tensor | None], lr: float, reads: Tensor | None) -> None:
        histories = self._divide(gradients)
        lane = self._lane(histories)
        counted = reads if len(histories) == 1 else None
        parts = [
            Part(update, table, [_loadable(gradients[i]) for i in history.indices], counted)
            for history, (update, table) in zip(histories, lane.updates, strict=True)
            if gradients[history.indices[0]] is not None
        ]
        counts_itself = len(histories) == len(parts) == 1
        lane.set_rate(lr if self._rates_itself(histories) else self._attachments.rate(lr))
        update_together(parts)
        if not counts_itself:
            self._attachments.count(reads)

    def _rates_itself(self, histories: Sequence[History]) -> bool:
        """Whether the kernel divides lr by the staleness: one that counts would take what it measures."""
        return len(histories) == 1 and self._attachments.counters is None

    def parameter_states(self) -> list[ParameterState]:
        states: list[ParameterState] = [{} for _ in self._arena.views]
        for history in self._histories:
            step = int(history.counters.step)
            for i in history.indices if step else ():
                states[i] = {"step": step, **{key: kept.clone() for key, kept in self._memory.of_view(i).items()}}
                if history.counters.product is not None:
                    states[i][PRODUCT] = history.counters.product.squeeze(0).clone()
        return states

    def load_parameter_states(self, states: Sequence[ParameterState]) -> None:
        trainable = [i for history in self._histories for i in history.indices]
        for i in trainable:
            require_fit(self._arena.names[i], states[i], self._shapes(i), optional={"master"})
        for i in trainable:
            for key, kept in self._memory.of_view(i).items():
                kept.copy_(torch.as_tensor(states[i].get(key, 0.0)))
        self._seed_masters(i for i in trainable if "master" not in states[i])
        self._histories = self._loaded_histories(trainable, states)

    def _shapes(self, i: int) -> dict[str, tuple[int, ...]]:
        shapes = {key: tuple(kept.shape) for key, kept in self._memory.of_view(i).items()}
        return shapes | {"step": ()} | ({PRODUCT: ()} if RULES[self._chosen.rule].product else {})

    def _first_histories(self) -> tuple[History, ...]:
        places = list(enumerate(self._arena.layout.places))
        by_dtype = {d: tuple(i for i, at in places if at.trainable and at.dtype == d) for d in self._memory.dtypes}
        return tuple(History(dtype, indices, self._counters(dtype)) for dtype, indices in by_dtype.items())

    def _loaded_histories(self, indices: list[int], states: Sequence[ParameterState]) -> tuple[History, ...]:
        """Views with equal counts belong together again, however they were divided before."""
        alike: dict[tuple[torch.dtype, int, float], list[int]] = {}
        for i in indices:
            counts = int(states[i].get("step", 0)), float(states[i].get(PRODUCT, 1.0))
            alike.setdefault((self._arena.views[i].dtype, *counts), []).append(i)
        return tuple(
            History(dtype, tuple(chosen), self._counters(dtype, step, product))
            for (dtype, step, product), chosen in alike.items()
        )

    def _counters(self, dtype: torch.dtype, step: int = 0, product: float = 1.0) -> Counters:
        counters = new_counters(self._chosen.rule, self._device)
        counters.step.fill_(step)
        if counters.product is not None:
            counters.product.fill_(product)
        return counters._replace(seed=self._seed if self._is_stochastic(dtype) else None)

    def _is_stochastic(self, dtype: torch.dtype) -> bool:
        return self._precision == "stochastic" and dtype == torch.bfloat16

    def _divide(self, gradients: Sequence[Tensor | None]) -> tuple[History, ...]:
        histories = self._histories
        if any(len({gradients[i] is None for i in history.indices}) > 1 for history in histories):
            with self._dividing:
                histories = tuple(part for history in self._histories for part in history.divided(gradients))
                self._histories = histories
        return histories

    def _lane(self, histories: tuple[History, ...]) -> Lane:
        """The caller's, with an update for each history."""
        stream = current_stream(self._device)
        lane = self._lanes.of(stream, lambda: Lane(Scalars(self._device, **self._chosen.scalars)))
        if lane.histories is not histories:
            lane.updates = [self._update(history, lane, histories) for history in histories]
            lane.histories = histories
        return lane

    def _update(self, history: History, lane: Lane, all_of: Sequence[History]) -> tuple[FusedUpdate, GradientTable]:
        """An update that is not alone may neither count the version nor measure against it: the others would see it."""
        counters = history.counters._replace(ticket=lane.ticket)
        options = self._chosen.options
        if len(all_of) == 1:
            counters = counters._replace(**self._counting())
        if not self._rates_itself(all_of):
            options = replace(options, lr_over_staleness=False)
        if self._is_stochastic(history.dtype):
            options = replace(options, rounding="stochastic")
        buffers, states = self._memory.buffers(history.dtype), self._memory.states(history.dtype)
        update = FusedUpdate(self._chosen.rule, options, buffers, states, counters, lane.scalars, self._grid)
        places = [self._arena.layout.places[i] for i in history.indices]
        starts, lengths = [at.offset for at in places], [self._arena.views[i].numel() for i in history.indices]
        return update, GradientTable(starts, lengths, self._device, self._grid.block)

    def _counting(self) -> dict[str, Tensor | None]:
        ours = self._attachments
        if ours.counters is None:
            return {"version": ours.version, "reads": ours.reads, "histogram": ours.histogram}
        # Each step brings its own reads; these stand for them until then.
        reads = torch.zeros(1, dtype=torch.int64, device=self._device)
        return {"version": ours.counters.version, "reads": reads, "histogram": ours.counters.histogram}

    def _require_usable(self) -> None:
        """Have the kernels' complaints now and not at the first update."""
        try:
            self._lane(self._histories)
        except ValueError as error:
            raise UsageError(f"optimizer: {error}") from error

    def _seed_masters(self, indices: Iterable[int]) -> None:
        for i in indices:
            if "master" in (kept := self._memory.of_view(i)):
                kept["master"].copy_(self._arena.views[i])


def _loadable(gradient: Tensor | None) -> Tensor | None:
    """Itself, or a copy of one that starts inside another tensor, as those do that torch stores with the other sign."""
    if gradient is None or gradient.data_ptr() % ALIGNMENT == 0:
        return gradient
    return gradient.clone()
