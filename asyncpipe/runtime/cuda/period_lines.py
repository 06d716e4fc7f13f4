"""Which lines of a program make a period, and what is known of it from them alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from asyncpipe.errors import Diagnostic, UsageError
from asyncpipe.ir import Instruction, Kind, Op, Program

__all__ = [
    "aligned",
    "instructions_of",
    "iterations_of_period",
    "launched",
    "on_device",
    "rated_updates",
    "stages_of_gradients",
    "updates_by_stream",
]

MOST_MICROBATCHES = 256
"""A graph grows with every microbatch: some 10 kB for each kernel."""


def aligned(program: Program) -> Program:
    """With as many slots at every stage, where they would repeat together too late; a slot without weights is free."""
    if math.lcm(*program.slots) <= MOST_MICROBATCHES // 4:
        return program
    return replace(program, slots=(max(program.slots),) * program.stages)


def iterations_of_period(program: Program, microbatches: int, versions: int = 1) -> int:
    """How many iterations of the body make a period of at least so many microbatches, after which slots repeat.

    versions: after so many updates old versions lie at the same places again.
    """
    whole = math.lcm(*program.slots, program.every * versions, program.step)
    count = -(-microbatches // whole) * whole
    if count > MOST_MICROBATCHES:
        raise UsageError.of(
            Diagnostic(
                "AP714",
                f"a period of {count} microbatches is too long for one graph: slots {sorted(set(program.slots))} and"
                f" updates of {program.every} repeat together after {whole}",
                hint="give all stages the same in_flight, or use --backend streams",
            )
        )
    return count // program.step


def instructions_of(program: Program, first: int, count: int) -> Iterator[Instruction]:
    """Iterations `first` to `first + count - 1` of the body."""
    for iteration in range(first, first + count):
        for instruction in program.body:
            yield instruction._replace(action=program.absolute(instruction.action, iteration))


def launched(instructions: Sequence[Instruction], op: Op, stages: Sequence[int]) -> list[int]:
    """The indices of the launches of an op at some stages, without repetitions."""
    found = (i.action for i in instructions if i.kind is Kind.LAUNCH and i.action.op is op)
    return list(dict.fromkeys(action.index for action in found if action.stage in stages))


def on_device(lines: Sequence[Instruction], devices: Sequence[int], device: int) -> list[Instruction]:
    """Those of streams on a device; `devices`: by stream."""
    return [line for line in lines if devices[line.stream] == device]


def updates_by_stream(program: Program, lines: Sequence[Instruction]) -> list[list[int]]:
    """By stage and stream, how many updates it launches."""
    found = [[0] * len(program.streams) for _ in range(program.stages)]
    for kind, stream, action in lines:
        if kind is Kind.LAUNCH and action.op is Op.U:
            found[action.stage][stream] += 1
    return found


def rated_updates(program: Program, lines: Sequence[Instruction]) -> list[int]:
    """Whose lr the launches ask for: updates, and predictors, which learn in the backward of the stage above."""
    stages = range(program.stages)
    lessons = [m // program.every for op in (Op.B, Op.I) for m in launched(lines, op, stages)] if program.local else []
    return sorted({*launched(lines, Op.U, stages), *lessons})


def stages_of_gradients(program: Program, lines: Sequence[Instruction]) -> tuple[list[int], list[int]]:
    """(the stage of each update, the stage of each lesson of a predictor), with repetitions."""
    launches = [line.action for line in lines if line.kind is Kind.LAUNCH]
    updated = [action.stage for action in launches if action.op is Op.U]
    backwards = [action.stage for action in launches if action.op in (Op.B, Op.I)]
    return updated, [stage - 1 for stage in backwards if stage - 1 in program.local]
