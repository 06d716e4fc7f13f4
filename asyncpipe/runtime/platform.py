"""What differs between the CPU and CUDA back ends besides the order of actions: stages, executions, feeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import nn

from asyncpipe.ir import Program
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.feed import Batch, Feed
from asyncpipe.runtime.stage import Loss, Stage, StageOptions
from asyncpipe.runtime.stage_functions import StageFunctions
from asyncpipe.runtime.stage_weights import aliases_live

__all__ = ["CpuPlatform", "Platform"]


class Platform(Protocol):
    def place(self, model: nn.Module) -> None:
        """Moves the model to where it is trained."""

    def stage(
        self, program: Program, number: int, module: nn.Module, loss: Loss | None, options: StageOptions
    ) -> StageFunctions:
        """The stage functions of one part of the model, whose parameters move into an arena."""

    @property
    def executions(self) -> type[Execution]:
        """What runs the actions of one replica."""

    def prepared(self, program: Program, parts: Sequence[StageFunctions]) -> Program:
        """The program as the executions of a replica with these stages run it."""

    def feed(self, batches: Iterable[Batch], microbatches: int) -> Feed:
        """The batches of one replica and run."""


class CpuPlatform:
    """Autograd, which on a CPU runs in the thread that asks for it."""

    executions = Execution

    def place(self, model: nn.Module) -> None:
        pass

    def stage(
        self, program: Program, number: int, module: nn.Module, loss: Loss | None, options: StageOptions
    ) -> StageFunctions:
        return Stage(number, module, program.slots[number], not aliases_live(program), loss, options)

    def prepared(self, program: Program, parts: Sequence[StageFunctions]) -> Program:
        return program

    def feed(self, batches: Iterable[Batch], microbatches: int) -> Feed:
        return Feed(batches, microbatches)
