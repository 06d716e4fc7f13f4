"""Both compiled levels as text. `parser` is the inverse: parse(str(x)) == x."""

from __future__ import annotations

from collections.abc import Iterable

from asyncpipe.ir.action import relative_text
from asyncpipe.ir.program import Instruction, Program, ProgramStream
from asyncpipe.ir.table import Cell, Table

__all__ = ["program_text", "table_text"]


def _header(value: Table | Program) -> list[str]:
    def optional(number: int | None) -> str:
        return "endless" if number is None else str(number)

    return [
        f"stages {value.stages} every {value.every} start {value.start} step {value.step}"
        f" iterations {optional(value.iterations)} microbatches {optional(value.microbatches)}",
        f"slots {' '.join(map(str, value.slots))}",
    ]


def _cells(name: str, cells: Iterable[Cell], relative: bool = False) -> str:
    return " ".join([f"  {name}", *(cell.text(relative) for cell in cells)])


def table_text(table: Table) -> str:
    """L1 as text, a few lines for each stream."""
    lines = [f"table {table.schedule}", *_header(table)]
    for stream in table.streams:
        lines.append(f"stream {stream.name} device {stream.device}")
        lines.append(_cells("warmup", stream.warmup))
        lines.append(_cells("body", stream.body, relative=True))
        lines.append(_cells("cooldown", stream.cooldown))
    return "\n".join(lines) + "\n"


def program_text(program: Program) -> str:
    """L2 as text, one line for each instruction."""
    lines = [f"program {program.schedule}", *_header(program)]
    lines.append(f"place {' '.join(map(str, program.place))}")
    lines += [" ".join(map(str, words)) for words in _meaning(program)]
    costs = " ".join(f"{op} {' '.join(map(str, times))}" for op, times in program.costs.items())
    lines.append(f"costs unit {program.unit} {costs}".rstrip())
    lines += [_stream(s) for s in program.streams]
    for phase, relative in (("warmup", False), ("body", True), ("cooldown", False)):
        lines.append(phase)
        lines += [_instruction(program, i, relative) for i in getattr(program, phase)]
    return "\n".join(lines) + "\n"


def _meaning(program: Program) -> Iterable[tuple[object, ...]]:
    yield "update", program.write, program.reduce, program.owner, program.scope, program.commit
    yield "weights", program.forward_weights, program.backward_weights
    yield "gradient", *program.gradient
    yield "recompute", program.recompute, *program.recomputed
    yield "aux", program.aux, *program.local
    yield "replicas", program.replicas, *program.sync
    yield "versions", *program.versions


def _stream(stream: ProgramStream) -> str:
    settings = f" priority {stream.priority} sms {stream.sms}" if stream.priority or stream.sms else ""
    return f"stream {stream.name} device {stream.device}{settings} runs {' '.join(stream.runs)}"


def _instruction(program: Program, instruction: Instruction, relative: bool) -> str:
    action = relative_text(instruction.action) if relative else str(instruction.action)
    return f"  {program.streams[instruction.stream].name} {instruction.kind} {action}"
