"""What differs between the CPU and CUDA back ends besides the order of actions: stages, executions, feeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import nn

from asyncpipe.ir import Program
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.feed import Batch, Feed
from asyncpipe.runtime.numerics import Numerics
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.stage import Loss, Stage, StageOptions
from asyncpipe.runtime.stage_functions import StageFunctions
from asyncpipe.runtime.stage_weights import aliases_live
from asyncpipe.runtime.stopwatch import Stopwatch

__all__ = ["CpuPlatform", "Platform", "Refusal"]


class Refusal(NamedTuple):
    """Why a back end cannot run a program. key: the part of the schedule that is to blame."""

    key: str
    code: str
    message: str
    hint: str


class Platform(Protocol):
    @property
    def numerics(self) -> Numerics:
        """How stages compute."""

    @property
    def counts_on_device(self) -> bool:
        """Whether actions end later than the host counts them, so that versions are counted where they run."""

    def place(self, program: Program, stage: int, module: nn.Module) -> None:
        """Moves what belongs to a stage to where it is trained, in the types and the memory format of the training."""

    def stage(
        self, program: Program, number: int, module: nn.Module, loss: Loss | None, options: StageOptions
    ) -> StageFunctions:
        """The stage functions of one part of the model, whose parameters move into an arena."""

    @property
    def executions(self) -> type[Execution]:
        """What runs the actions of one replica."""

    def apart(self, part: StageFunctions) -> Mapping[int, Arena]:
        """By stream, the private weights of a stage that lie on another device than it."""

    def refused(self, program: Program) -> Sequence[Refusal]:
        """What cannot run of a program, known before anything is built."""

    @property
    def gathers(self) -> bool:
        """Whether feeds take `Rows` in place of tensors."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a run on this platform tells of its memory and graphs, by key of its summary; None where it has none."""

    def prepared(self, program: Program, parts: Sequence[StageFunctions]) -> Program:
        """The program as the executions of a replica with these stages run it."""

    def timed(self, group: ReplicaGroup, stopwatch: Stopwatch) -> ReplicaGroup:
        """The same group; `stopwatch` times its next run, where its actions run."""

    def feed(self, batches: Iterable[Batch], microbatches: int) -> Feed:
        """The batches of one replica and run."""


@dataclass(frozen=True)
class CpuPlatform:
    """Autograd, which on a CPU runs in the thread that asks for it."""

    numerics: Numerics = field(default_factory=Numerics)
    executions: ClassVar[type[Execution]] = Execution
    counts_on_device: ClassVar[bool] = False

    def place(self, program: Program, stage: int, module: nn.Module) -> None:
        self.numerics.convert(module)

    def stage(
        self, program: Program, number: int, module: nn.Module, loss: Loss | None, options: StageOptions
    ) -> StageFunctions:
        return Stage(number, module, program.slots[number], not aliases_live(program), loss, options)

    def refused(self, program: Program) -> Sequence[Refusal]:
        return ()

    @property
    def facts(self) -> dict[str, Any]:
        return dict.fromkeys(("graph", "memory_plan", "data"))

    @property
    def gathers(self) -> bool:
        return False

    def apart(self, part: StageFunctions) -> Mapping[int, Arena]:
        return {}

    def prepared(self, program: Program, parts: Sequence[StageFunctions]) -> Program:
        return program

    def timed(self, group: ReplicaGroup, stopwatch: Stopwatch) -> ReplicaGroup:
        return stopwatch.attach(group)

    def feed(self, batches: Iterable[Batch], microbatches: int) -> Feed:
        return Feed(batches, microbatches)
