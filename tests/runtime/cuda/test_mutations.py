"""A program with one mistake is caught when it is issued: a missing wait, an exchanged launch, a slot too few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import AsyncpipeError
from asyncpipe.ir import Instruction, Kind, Op, Program
from asyncpipe.runtime.cuda.platform import CudaPlatform
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.recording.violation import Violation
from asyncpipe.schedule import load
from tests.runtime.cuda.recorded import network, pairs, recorded

pytestmark = pytest.mark.usefixtures("traced_once")

NAMES = ["sgd-ready", "async-lu", "1f1b", "fdg"]
STAGES = 3
MICROBATCHES = 16


def program_of(name: str) -> Program:
    return compile_schedule(schedule_of(name), STAGES).program(MICROBATCHES)


def schedule_of(name: str) -> Any:
    return load(name, ["update.every=2"] if name == "1f1b" else [])


def issue(name: str, program: Program) -> None:
    """Trains on the recording runtime by this program instead of the compiled one."""

    class Mutated(CudaPlatform):
        def prepared(self, _: Program, parts: Any) -> Program:
            return super().prepared(program, parts)

    trainer, platform = recorded(network(STAGES), schedule_of(name), "streams", RecordingCuda(), stages=STAGES)
    mutated = Mutated(platform.cuda, False, platform.device, emulate=True)
    trainer.platform, trainer.run_backend = mutated, mutated.run
    trainer.fit(pairs(MICROBATCHES))


def waits(name: str) -> Iterator[int]:
    """Places of the waits in the body that hold data or slots together.

    The rule of 1f1b that a new round waits for all updates of the last one only says when: the updates of a stage
    precede its forwards on the same stream anyway.
    """
    barrier = {Op.U} if name == "1f1b" else set()
    for i, line in enumerate(program_of(name).body):
        if line.kind is Kind.WAIT and line.action.op not in barrier:
            yield i


@pytest.mark.parametrize("name", NAMES)
def test_the_program_itself_is_right(name: str) -> None:
    issue(name, program_of(name))


@pytest.mark.parametrize(("name", "at"), [(name, at) for name in NAMES for at in waits(name)])
def test_a_dropped_wait_is_caught(name: str, at: int) -> None:
    program = program_of(name)
    with pytest.raises((Violation, AsyncpipeError)):
        issue(name, replace(program, body=program.body[:at] + program.body[at + 1 :]))


def exchanged(program: Program) -> Iterator[tuple[Instruction, ...]]:
    """Bodies with two launches of one stream, of one microbatch or its update, in the wrong order."""
    launches = [i for i, line in enumerate(program.body) if line.kind is Kind.LAUNCH]
    for i in launches:
        later = (j for j in launches if j > i and program.body[j].stream == program.body[i].stream)
        j = next(later, None)
        if j is None or program.body[i].action.index != program.body[j].action.index:
            continue
        body = list(program.body)
        body[i], body[j] = program.body[j], program.body[i]
        yield tuple(body)


@pytest.mark.parametrize("name", ["sgd-ready", "async-lu", "1f1b"])
def test_exchanged_launches_are_caught(name: str) -> None:
    program = program_of(name)
    bodies = list(exchanged(program))
    assert bodies
    for body in bodies:
        with pytest.raises(AsyncpipeError):
            issue(name, replace(program, body=body))


@pytest.mark.parametrize("name", ["async-lu", "1f1b", "fdg"])
def test_a_slot_that_is_taken_too_early_is_caught(name: str) -> None:
    program = program_of(name)
    fewer = tuple(max(1, count - 1) for count in program.slots)
    assert fewer != program.slots
    with pytest.raises(AsyncpipeError):
        issue(name, replace(program, slots=fewer))
