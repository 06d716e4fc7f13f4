"""One wait between two devices is dropped, or a graph launched too early: the recording catches each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import AsyncpipeError, InternalError
from asyncpipe.ir import Instruction, Kind, Program
from asyncpipe.runtime.cuda import capture
from asyncpipe.runtime.cuda.period_lines import instructions_of, iterations_of_period
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.recording.violation import Violation
from asyncpipe.runtime.cuda.segments import Plan, Segment, Send, plan_of_period
from asyncpipe.schedule import Schedule, load
from tests.runtime.cuda.recorded import network, pairs, recorded

pytestmark = pytest.mark.usefixtures("traced_once_each", "constant_rate")

NAMES = ["1f1b", "fdg"]
STAGES = 2
MICROBATCHES = 16


def schedule_of(name: str) -> Schedule:
    return load(name, ["update.every=2"] if name == "1f1b" else [])


def program_of(name: str) -> Program:
    return compile_schedule(schedule_of(name), STAGES).program(MICROBATCHES)


def train(name: str, kind: Any, program: Program | None = None) -> None:
    trainer, platform = recorded(network(STAGES), schedule_of(name), kind, RecordingCuda(devices=2), stages=STAGES)
    if program is not None:
        platform.prepared = lambda *_: program  # type: ignore[method-assign]
    trainer.fit(pairs(MICROBATCHES))


def waits_across(name: str) -> list[int]:
    """Places in the body of waits for a transfer, or of one."""
    program = program_of(name)

    def crosses(line: Instruction) -> bool:
        copying = program.streams[line.stream].name.startswith("copy")
        return line.kind is Kind.WAIT and (copying or line.action.op.is_transfer)

    return [i for i, line in enumerate(program.body) if crosses(line)]


@pytest.mark.parametrize(("name", "at"), [(name, at) for name in NAMES for at in waits_across(name)])
def test_a_dropped_wait_between_devices_is_caught(name: str, at: int) -> None:
    program = program_of(name)
    with pytest.raises(AsyncpipeError):
        train(name, "streams", replace(program, body=program.body[:at] + program.body[at + 1 :]))


def without_a_wait(number: int, program: Program, lines: Sequence[Instruction], devices: Sequence[int]) -> Plan:
    """The plan of a period less one of the waits of its graphs, then of its transfers."""
    plan = plan_of_period(program, lines, devices)
    if number < len(plan.remote):
        return replace(plan, remote=plan.remote - {sorted(plan.remote)[number]})
    waiting = [step for step in plan.steps if isinstance(step, Send) and step.waits]
    chosen = waiting[number - len(plan.remote)]
    return replace(plan, steps=tuple(replace(chosen, waits=()) if step is chosen else step for step in plan.steps))


def count_of_waits(name: str) -> int:
    program = program_of(name)
    lines = list(instructions_of(program, 0, iterations_of_period(program, 1)))
    plan = plan_of_period(program, lines, [stream.device for stream in program.streams])
    return len(plan.remote) + sum(isinstance(step, Send) and bool(step.waits) for step in plan.steps)


def trained_by(plan: Callable[..., Plan], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "plan_of_period", plan)
    train(name, "graph")


@pytest.mark.parametrize("name", [pytest.param("1f1b", marks=pytest.mark.slow), "fdg"])
def test_a_dropped_wait_between_graphs_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = count_of_waits(name)
    assert count >= 6
    for number in range(count):
        with pytest.raises(Violation, match=r"race|too early"):
            trained_by(partial(without_a_wait, number), name, monkeypatch)


def consumers_first(program: Program, lines: Sequence[Instruction], devices: Sequence[int]) -> Plan:
    """All graphs, and then all transfers."""
    plan = plan_of_period(program, lines, devices)
    return replace(plan, steps=tuple(sorted(plan.steps, key=lambda step: isinstance(step, Send))))


def test_graphs_launched_before_their_transfers_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InternalError):
        trained_by(consumers_first, "1f1b", monkeypatch)


def test_a_period_that_does_not_wait_for_the_last_transfers_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture._Capture, "_touches", lambda *_: False)
    with pytest.raises(Violation, match=r"race: aten\.copy_ reads .* does not wait for a transfer"):
        train("pipelined-bp", "graph")


def test_a_plan_for_two_devices_has_graphs_of_both() -> None:
    program = program_of("fdg")
    lines = list(instructions_of(program, 0, iterations_of_period(program, 1)))
    plan = plan_of_period(program, lines, [stream.device for stream in program.streams])
    assert {step.device for step in plan.steps if isinstance(step, Segment)} == {0, 1}
