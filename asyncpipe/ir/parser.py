"""Text back to tables and programs; ValueError with the line number for text that is neither."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from asyncpipe.ir.action import Action, Op, parse_action, parse_relative
from asyncpipe.ir.program import Instruction, Kind, Program, ProgramStream
from asyncpipe.ir.table import Cell, Table, TableStream

__all__ = ["parse_program", "parse_table"]

_HEADER = r"stages (\d+) every (\d+) start (\d+) step (\d+) iterations (\S+) microbatches (\S+)"
_HEADER_EXAMPLE = "stages 3 every 1 start 2 step 2 iterations 3 microbatches 10"

_STREAM = r"stream (\S+) device (\d+)(?: priority (-?\d+) sms (\d+))? runs ([A-Z_ ]*)"


class _Lines:
    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.number = 0

    def fail(self, expected: str) -> ValueError:
        found = self.lines[self.number - 1] if self.number <= len(self.lines) else "the end"
        return ValueError(f"line {self.number}: expected {expected}, found {found!r}")

    def next(self, pattern: str, example: str) -> re.Match[str]:
        """The next line, which must have this pattern; the error shows a line that has it."""
        self.number += 1
        match = re.fullmatch(pattern, self.lines[self.number - 1]) if self.number <= len(self.lines) else None
        if match is None:
            raise self.fail(f"a line such as {example!r}")
        return match

    def starts(self, word: str) -> bool:
        return self.number < len(self.lines) and self.lines[self.number].startswith(word)


def _optional(text: str) -> int | None:
    return None if text == "endless" else int(text)


def _header(lines: _Lines, word: str) -> dict[str, Any]:
    name = lines.next(rf"{word} (.*)", f"{word} async-lu")[1]
    head = lines.next(_HEADER, _HEADER_EXAMPLE)
    slots = lines.next(r"slots ([\d ]*)", "slots 3 3 3")[1]
    values = dict(zip(("stages", "every", "start", "step"), map(int, head.groups()[:4]), strict=True))
    return {
        "schedule": name,
        **values,
        "iterations": _optional(head[5]),
        "microbatches": _optional(head[6]),
        "slots": tuple(map(int, slots.split())),
    }


def _cell(text: str, relative: bool) -> Cell:
    action, at, reads = text.partition("@")
    if not relative:
        return Cell(parse_action(action), int(reads) if at else None)
    return Cell(parse_relative(action), int(reads[2:-1] or 0) if at else None)


def _cells(lines: _Lines, name: str, relative: bool = False) -> tuple[Cell, ...]:
    text = lines.next(rf"  {name}(.*)", f"  {name} 0F0@0 1F0@0")[1]
    try:
        return tuple(_cell(word, relative) for word in text.split())
    except ValueError as error:
        raise ValueError(f"line {lines.number}: {error}") from None


def parse_table(text: str) -> Table:
    """The inverse of `str(table)`."""
    lines = _Lines(text)
    values = _header(lines, "table")
    streams = []
    while lines.starts("stream"):
        name, device = lines.next(r"stream (\S+) device (\d+)", "stream forward device 0").groups()
        parts = [_cells(lines, "warmup"), _cells(lines, "body", relative=True), _cells(lines, "cooldown")]
        streams.append(TableStream(name, int(device), *parts))
    return Table(streams=tuple(streams), **values)


def parse_program(text: str) -> Program:
    """The inverse of `str(program)`."""
    lines = _Lines(text)
    values = _header(lines, "program")
    values["place"] = tuple(map(int, lines.next(r"place ([\d ]*)", "place 0 0 0")[1].split()))
    values |= _meaning(lines)
    unit, costs = lines.next(r"costs unit (\S+) ?(.*)", "costs unit 1 F 1 1 1 B 2 2 2").groups()
    values["unit"] = Fraction(unit)
    found = re.findall(r"([A-Z][A-Z_]*) ([\d ]+)", costs)
    values["costs"] = {Op(op): tuple(map(int, times.split())) for op, times in found}
    streams = []
    while lines.starts("stream"):
        name, device, *settings, runs = lines.next(_STREAM, "stream forward device 0 runs F").groups()
        ops = tuple(Op(op) for op in runs.split())
        streams.append(ProgramStream(name, int(device), ops, *(int(setting or 0) for setting in settings)))
    numbers = {stream.name: i for i, stream in enumerate(streams)}
    for phase in ("warmup", "body", "cooldown"):
        lines.next(phase, phase)
        values[phase] = tuple(_instructions(lines, numbers, relative=phase == "body"))
    return Program(streams=tuple(streams), **values)


def _meaning(lines: _Lines) -> dict[str, Any]:
    """What an action means: update, weights, gradient, recompute, aux, replicas and versions, a line for each."""
    update = lines.next(r"update (\S+) (\S+) (\S+) (\S+) (\d+)", "update ordered mean shared all 1")
    weights = lines.next(r"weights (\S+) (\S+)", "weights latest latest")
    gradient = lines.next(r"gradient((?: \S+)*)", "gradient shrink=1/2")
    recompute = lines.next(r"recompute (\S+)((?: \d+)*)", "recompute full 0 1 2")
    aux = lines.next(r"aux (\S+)((?: \d+)*)", "aux local 0 1")
    replicas = lines.next(r"replicas (\d+)((?: \S+)*)", "replicas 2 allreduce")
    versions = lines.next(r"versions((?: \d+)*)", "versions 1 1 1")
    return {
        **dict(zip(("write", "reduce", "owner", "scope"), update.groups()[:4], strict=True)),
        "commit": int(update[5]),
        "forward_weights": weights[1],
        "backward_weights": weights[2],
        "gradient": tuple(gradient[1].split()),
        "recompute": recompute[1],
        "recomputed": tuple(map(int, recompute[2].split())),
        "aux": aux[1],
        "local": tuple(map(int, aux[2].split())),
        "replicas": int(replicas[1]),
        "sync": tuple(replicas[2].split()),
        "versions": tuple(map(int, versions[1].split())),
    }


def _instructions(lines: _Lines, numbers: dict[str, int], relative: bool) -> list[Instruction]:
    parse = parse_relative if relative else parse_action
    found = []
    while lines.starts("  "):
        name, kind, text = lines.next(r"  (\S+) (launch|record|wait) (\S+)", "  forward launch 0F0").groups()
        try:
            action: Action = parse(text)
        except ValueError as error:
            raise ValueError(f"line {lines.number}: {error}") from None
        if name not in numbers:
            raise lines.fail(f"one of the streams {', '.join(numbers)}")
        found.append(Instruction(Kind(kind), numbers[name], action))
    return found
