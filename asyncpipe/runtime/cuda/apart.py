"""Stages whose backwards and updates run on other devices than their forwards, with private weights there.

What a forward leaves for its backward crosses by SEND_A, and updated weights come back by SEND_U (PD-ASGD's one forward
and two backward devices, arXiv 2410.05985v1).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from asyncpipe.ir import Kind, Program
from asyncpipe.runtime.stage import Loss, StageOptions
from asyncpipe.runtime.traced import TracedStage

__all__ = ["ApartStage", "streams_apart"]


class ApartStage(TracedStage):
    """`twins`: by stream of another device the same stage there, whose arena is the stream's private weights.

    A twin has a microbatch within a backward only; before it lies in the slot of the stage itself.
    """

    def __init__(
        self,
        number: int,
        module: nn.Module,
        slots: int,
        loss: Loss | None,
        options: StageOptions,
        twins: dict[int, torch.device],
    ) -> None:
        copies = {stream: copy.deepcopy(module).to(device) for stream, device in twins.items()}
        super().__init__(number, module, slots, False, loss, options)
        self.twins = {stream: TracedStage(number, own, slots, False, loss, options) for stream, own in copies.items()}

    @property
    def trace_count(self) -> int:
        return super().trace_count + sum(twin.trace_count for twin in self.twins.values())

    def hand_over(self, stream: int, slot: int) -> TracedStage:
        """The twin, with what lies in a slot here."""
        own, twin = self._slots[slot], self.twins[stream]
        call, _, _ = own.flight
        taken = twin._slots[slot]
        taken.begin(call, twin.traces.of(call), twin.arena)
        taken.saved, taken.draws = own.saved, own.draws
        own.forget()
        return twin

    def drop(self) -> None:
        super().drop()
        for twin in self.twins.values():
            twin.drop()


def streams_apart(program: Program, real: Sequence[int], stage: int) -> dict[int, int]:
    """The streams that work on a stage from another device than its own, and which that is."""
    working = {
        line.stream
        for line in (*program.warmup, *program.body, *program.cooldown)
        if line.kind is Kind.LAUNCH and line.action.stage == stage and not line.action.op.is_transfer
    }
    found = {stream: real[program.streams[stream].device] for stream in sorted(working)}
    return {stream: device for stream, device in found.items() if device != real[program.place[stage]]}
