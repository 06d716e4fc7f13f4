"""AP3xx: a stream program by itself, as text that somebody wrote or changed: launches, records and waits.

On CUDA a wait for an event that was not recorded yet returns at once: an event in the wrong order is a race that nobody
sees. So these are proved from the program's text, before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.errors import Position, Report
from asyncpipe.ir import Action, Kind, Op, Program, parse_program

__all__ = ["check_program", "read_program"]

_ROUNDS = 4
_MOST_ROUNDS = 10_000
"""Of an endless program so many iterations are looked at: later ones repeat them."""
_MOST = 20


def read_program(text: str, file: str, report: Report) -> Program | None:
    """The program that a text states, checked; None with the findings (AP300 to AP304) in the report."""
    try:
        program = parse_program(text)
    except (ValueError, ZeroDivisionError) as error:
        line = re.match(r"line (\d+): (.*)", str(error), re.DOTALL)
        message = line[2] if line else f"a number or a name is none ({error})"
        hint = "`asyncpipe show NAME --level L2` writes this form"
        report.error("AP300", message, Position(file, int(line[1]) if line else 1, 1), hint)
        return None
    check_program(program, file, report)
    return program


def check_program(program: Program, file: str, report: Report) -> None:
    """Every action launched once, every wait after its record, every data edge between streams covered."""
    wrong = _wrong_header(program)
    if wrong:
        report.error("AP300", wrong, Position(file, 2, 1), "`asyncpipe show NAME --level L2` writes a whole program")
        return
    sample = program if program.iterations is not None else replace(program, iterations=_ROUNDS)
    lines = _Lines(program, file)
    before = len(report.diagnostics)
    _check_launches(sample, lines, report)
    if len(report.diagnostics) == before:
        _check_coverage(sample, lines, report)


def _wrong_header(program: Program) -> str:
    """What the header says that no program can mean; nothing if it is right."""
    each = {"slots": program.slots, "place": program.place, "versions": program.versions}
    for name, values in each.items():
        if len(values) != program.stages:
            return f"expected {name} for {program.stages} stages, found {len(values)}"
    if program.every < 1 or program.step < 1 or min(program.slots, default=1) < 1:
        return "expected every, step and slots of at least 1"
    if (program.iterations or 0) > _MOST_ROUNDS:
        return f"expected at most {_MOST_ROUNDS:,} iterations, found {program.iterations:,}; print the endless program"
    actions = [i.action for part in (program.warmup, program.body, program.cooldown) for i in part]
    beyond = next((a for a in actions if a.stage >= program.stages), None)
    return "" if beyond is None else f"expected stages 0 to {program.stages - 1}, found {beyond.stage}{beyond.op}"


class _Lines:
    """Where each instruction of the program stands in its text."""

    def __init__(self, program: Program, file: str) -> None:
        self.file = file
        self.first = str(program).split("\n").index("warmup") + 2
        self.parts = len(program.warmup), len(program.body), len(program.cooldown)

    def at(self, number: int, cooldown: bool = False) -> Position:
        """Of the instruction `number` in the order of issue; iterations of the body share their lines."""
        warmup, body, _ = self.parts
        if number < warmup:
            return Position(self.file, self.first + number, 3)
        if cooldown or not body:
            return Position(self.file, self.first + warmup + body + 2 + number - warmup, 3)
        return Position(self.file, self.first + warmup + 1 + (number - warmup) % body, 3)

    def each(self, program: Program) -> Iterator[Position]:
        """The place of each instruction, in host issue order."""
        warmup, body, cooldown = self.parts
        yield from (self.at(i) for i in range(warmup + body * (program.iterations or 0)))
        yield from (self.at(warmup + i, cooldown=True) for i in range(cooldown))


def _check_launches(program: Program, lines: _Lines, report: Report) -> None:
    launched: set[Action] = set()
    recorded: set[Action] = set()
    last: list[Action | None] = [None] * len(program.streams)
    for (kind, stream, action), where in zip(program.instructions(), lines.each(program), strict=True):
        name = program.streams[stream].name
        if kind is Kind.LAUNCH:
            if action in launched:
                report.error("AP303", f"{action} is launched twice", where, "launch each action once")
            launched.add(action)
            last[stream] = action
        elif kind is Kind.RECORD:
            if last[stream] != action:
                message = f"{name} records {action}, but the last that it launched is {last[stream] or 'nothing'}"
                report.error("AP304", message, where, "record an event right after its launch, on the same stream")
            recorded.add(action)
        elif action not in recorded:
            message = f"{name} waits for {action} before its event is recorded: on CUDA such a wait does nothing"
            report.error("AP301", message, where, "issue the launch and the record first")
        if len(report.diagnostics) >= _MOST:
            return


def _check_coverage(program: Program, lines: _Lines, report: Report) -> None:
    order = HappensBefore(program)
    launches = [
        (action, where)
        for (kind, _, action), where in zip(program.instructions(), lines.each(program), strict=True)
        if kind is Kind.LAUNCH
    ]
    for action, where in launches:
        for source, reason in _sources(program, action):
            if source in order.actions and not order.before(source, action):
                message = f"nothing makes {action} wait for {source}: {reason}"
                report.error("AP302", message, where, f"let its stream wait for {source} before the launch")
        if len(report.diagnostics) >= _MOST:
            return


_CARRIES = {
    Op.SEND_F: ((Op.F,), 1, (Op.F,)),
    Op.SEND_A: ((Op.F,), 0, (Op.R, Op.B, Op.I)),
    Op.SEND_B: ((Op.B, Op.I), -1, (Op.B, Op.I)),
    Op.SEND_U: ((Op.U,), 0, ()),
}
"""Per transfer: whose result it carries, how many stages further it is read, and by which ops."""


def _sources(program: Program, action: Action) -> Iterator[tuple[Action, str]]:
    """What data flow, transfers, accumulation and the reuse of slots ask for; rules are not in a program."""
    s, op, i = action
    for send, (producers, distance, readers) in _CARRIES.items():
        if op is send:
            yield from ((Action(s, producer, i), "it sends that") for producer in producers)
        if op in readers:
            yield Action(s - distance, send, i), "it reads what that brings"
    if op is Op.F and s > 0:
        yield Action(s - 1, Op.F, i), "it reads that output"
    if op is Op.F:
        for last in (Op.B, Op.W):
            yield Action(s, last, i - program.slots[s]), f"it overwrites the slot m % {program.slots[s]}"
    if op in (Op.B, Op.I, Op.R):
        yield Action(s, Op.F, i), "it reads what the forward saved"
    if op in (Op.B, Op.I):
        yield Action(s, Op.R, i), "it reads what is recomputed"
    if op is Op.U and program.sync[:1] == ("allreduce",):
        yield Action(s, Op.SYNC, i), "it applies the mean of all replicas"
    if op is Op.SYNC:
        yield (
            Action(s, Op.U, i) if program.sync[:1] != ("allreduce",) else Action(s, Op.B, i * program.every),
            "it needs that",
        )
    if op in (Op.B, Op.I) and s not in program.local:
        for above in (Op.B, Op.I):
            yield Action(s + 1, above, i), "it reads that gradient"
    if op is Op.W:
        yield Action(s, Op.I, i), "it reads what the input gradient saved"
    if op is Op.U:
        for m in range(i * program.every, (i + 1) * program.every):
            for last in (Op.B, Op.W):
                yield Action(s, last, m), "it applies that gradient"
        if program.write == "ordered":
            yield Action(s, Op.U, i - 1), "updates of a stage form a chain (write ordered)"
