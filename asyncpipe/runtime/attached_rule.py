"""The built-in optimizers with attachments on the CPU: in plain torch what the fused kernels do in one pass."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from asyncpipe.errors import UsageError
from asyncpipe.kernels import transforms
from asyncpipe.runtime.arena import Arena, Layout
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.builtin_rule import BuiltinRule
from asyncpipe.runtime.optimizer_options import read_options
from asyncpipe.runtime.state_arena import StateArena, widened
from asyncpipe.runtime.update_rule import Arithmetic, ParameterState, require_fit

__all__ = ["AttachedRule"]

DECOUPLED = ("adamw", "lion")
DRIFT = "drift"


class Scratch(threading.local):
    """Memory of the thread's own."""

    def __init__(self, layout: Layout) -> None:
        self.arena = Arena(layout)


class AttachedRule:
    """A `BuiltinRule` on directions instead of parameters: a step from zero at a rate of -1 leaves the direction,
    along which the weights move and are predicted. Not bit-equal to torch.optim, which never has the direction.
    """

    concurrent = True
    generators: Sequence[torch.Generator] = ()

    def __init__(
        self, arena: Arena, use: str, options: Mapping[str, object], arithmetic: Arithmetic, attachments: Attachments
    ) -> None:
        values: dict[str, Any] = read_options(use, options)
        _require_supported(use, attachments)
        attachments.require_options(use, values)
        attachments.require_layout(arena)
        self._arena = arena
        self._attachments = attachments
        self._values = values
        self._decouples = use in DECOUPLED or values.get("decoupled_weight_decay", False)
        self._directions = Scratch(arena.layout)
        # Decay and sign are ours, and so is what sgd makes of its velocity; off is the default of each.
        ours = ("weight_decay", "maximize", "nesterov")
        inner = {name: value for name, value in values.items() if name not in ours} | {"weight_decay": 0.0}
        self._rule = BuiltinRule(arena, use, inner, arithmetic)
        self.repeats = self._rule.repeats
        self._drift = StateArena(arena.layout, widened) if attachments.drift_decay is not None else None

    @property
    def state_bytes(self) -> int:
        return self._rule.state_bytes + (self._drift.bytes if self._drift else 0)

    def apply(self, gradients: Sequence[Tensor | None], lr: float) -> None:
        present = [i for i, gradient in enumerate(gradients) if gradient is not None]
        rate = float(self._attachments.rate(lr))
        weights = [(self._attachments.private or self._arena).views[i].clone() for i in present]
        found = self._transform([gradient for gradient in gradients if gradient is not None], present, weights)
        velocities = self._velocities(dict(zip(present, found, strict=True)))
        new = self._moved(weights, self._along(velocities, found), rate)
        for target in (self._arena, self._attachments.private, self._attachments.peer):
            _store(target, present, new)
        self._follow(present, weights, velocities, rate)
        self._attachments.count()

    def parameter_states(self) -> list[ParameterState]:
        states = self._rule.parameter_states()
        for i, state in enumerate(states):
            if self._drift and state:
                state[DRIFT] = self._drift.views[i].clone()
        return states

    def load_parameter_states(self, states: Sequence[ParameterState]) -> None:
        if self._drift is None:
            self._rule.load_parameter_states(states)
            return
        for i, state in enumerate(states):
            shapes = {key: tuple(torch.as_tensor(value).shape) for key, value in state.items()}
            require_fit(self._arena.names[i], state, shapes | {DRIFT: tuple(self._drift.views[i].shape)})
        rest = [{key: value for key, value in state.items() if key != DRIFT} for state in states]
        self._rule.load_parameter_states(rest)
        for i, state in enumerate(states):
            self._drift.views[i].copy_(torch.as_tensor(state.get(DRIFT, 0.0)))

    def _transform(self, gradients: list[Tensor], present: list[int], weights: list[Tensor]) -> list[Tensor]:
        if self._values["maximize"]:
            gradients = [-gradient for gradient in gradients]
        for name, number in self._attachments.transforms.items():
            if name == "shrink":
                gradients = transforms.shrink(gradients, number)
            elif name == "clip_norm":
                gradients = transforms.clip_norm(gradients, number) if gradients else []
            elif self._attachments.read is not None:
                read = [self._attachments.read.views[i] for i in present]
                gradients = transforms.compensate_delay(gradients, weights, read, number)
        decay = 0.0 if self._decouples else self._values["weight_decay"]
        return [g.add(w, alpha=decay) for g, w in zip(gradients, weights, strict=True)] if decay else gradients

    def _velocities(self, gradients: Mapping[int, Tensor]) -> list[Tensor]:
        directions = self._directions.arena
        for flat in directions.flat.values():
            flat.zero_()
        self._rule.apply([gradients.get(i) for i in range(len(directions.views))], -1.0, directions.views)
        return [directions.views[i] for i in gradients]

    def _along(self, velocities: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """What to step along: of sgd not always the velocity."""
        momentum = self._values.get("momentum", 0.0)
        if self._attachments.spike:
            kept, gained = transforms.spike_coefficients(momentum, self._attachments.staleness)
            return [kept * v + gained * g for v, g in zip(velocities, gradients, strict=True)]
        if self._values.get("nesterov", False):
            return [g + momentum * v for v, g in zip(velocities, gradients, strict=True)]
        return velocities

    def _moved(self, weights: list[Tensor], directions: list[Tensor], rate: float) -> list[Tensor]:
        keep = 1.0 - rate * self._values["weight_decay"] if self._decouples else 1.0
        return [(w * keep).sub_(d, alpha=rate) for w, d in zip(weights, directions, strict=True)]

    def _follow(self, present: list[int], old: list[Tensor], velocities: list[Tensor], rate: float) -> None:
        """`old` and `velocities` are of this update; the new weights are read as they were stored."""
        ours = self._attachments
        new = [self._arena.views[i] for i in present]
        if ours.ahead is not None:
            _store(ours.ahead, present, transforms.predict(new, velocities, rate, ours.horizon))
        if self._drift is not None and ours.drift_decay is not None:
            drifts = [self._drift.views[i] for i in present]
            transforms.drift(drifts, old, new, ours.drift_decay)
            if ours.corrected is not None:
                _store(ours.corrected, present, transforms.corrected(new, drifts, ours.drift_horizon))


def _require_supported(use: str, attachments: Attachments) -> None:
    if use == "muon":
        raise UsageError(
            "optimizer muon has no gradient transforms or weight prediction",
            "choose sgd, adam, adamw, nadam or lion, or leave them out",
        )
    if attachments.atomic:
        raise UsageError("atomic updates need CUDA", "choose `write: ordered` or `write: racy`")


def _store(arena: Arena | None, indices: list[int], values: list[Tensor]) -> None:
    if arena is not None:
        for i, value in zip(indices, values, strict=True):
            arena.views[i].copy_(value)
