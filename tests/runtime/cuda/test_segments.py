"""A period over several devices is cut so that nothing waits for what is launched later."""

from __future__ import annotations

import pytest

from asyncpipe.compiler import compile_schedule
from asyncpipe.ir import Kind, Program
from asyncpipe.runtime.cuda.period_lines import aligned, instructions_of, iterations_of_period
from asyncpipe.runtime.cuda.segments import Plan, Segment, plan_of_period
from asyncpipe.schedule import load
from tests.runtime.cuda.recorded import MANY_DEVICES

FAST = {"1f1b", "fdg", "pd-asgd-devices", "zbv"}

SHOWN = """\
graph on 0: 0U-1 0F0 0F1
send 0F0
send 0F1
graph on 1: 1F0 1B0 1F1 1B1 1U0
send 1B0
send 1B1
graph on 0: 0B0 0B1"""


def program_of(name: str, stages: int, *changes: str) -> Program:
    return aligned(compile_schedule(load(name, list(changes)), stages).program(64))


def plan_of(program: Program, microbatches: int = 1) -> Plan:
    lines = list(instructions_of(program, 0, iterations_of_period(program, microbatches)))
    return plan_of_period(program, lines, [stream.device for stream in program.streams])


def shown(plan: Plan, first: int) -> str:
    """One line for each step, microbatches counted from `first`."""
    found = []
    for step in plan.steps:
        if isinstance(step, Segment):
            launches = [line.action for line in step.lines if line.kind is Kind.LAUNCH]
            actions = [f"{a.stage}{a.op}{a.index - (first // 2 if a.op.by_update else first)}" for a in launches]
            found.append(f"graph on {step.device}: {' '.join(actions)}")
        else:
            found.append(f"send {step.action.stage}{step.action.op[-1]}{step.action.index - first}")
    return "\n".join(found)


def test_a_round_of_a_pipeline_is_three_graphs() -> None:
    program = program_of("1f1b", 2, "update.every=2")
    assert shown(plan_of(program, 2), program.start) == SHOWN


def test_on_one_device_a_period_is_one_graph() -> None:
    program = program_of("1f1b", 2)
    lines = list(instructions_of(program, 0, 2))
    assert plan_of_period(program, lines, [0] * len(program.streams)).steps == (Segment(0, tuple(lines)),)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in MANY_DEVICES]
)
def test_every_wait_is_for_what_was_launched_before(name: str) -> None:
    program = program_of(name, 4)
    plan = plan_of(program, 8)
    launched: set[object] = set()
    found: list[object] = []
    for step in plan.steps:
        if isinstance(step, Segment):
            before = set(launched)
            waited = [line for line in step.lines if line.kind is Kind.WAIT]
            assert all(line.action in before for line in waited if (line.stream, line.action) in plan.remote)
            own = [line.action for line in step.lines if line.kind is Kind.LAUNCH]
            assert {program.streams[line.stream].device for line in step.lines} == {step.device}
        else:
            assert set(step.waits) <= launched
            own = [step.action]
        launched |= set(own)
        found += own
    lines = list(instructions_of(program, 0, iterations_of_period(program, 8)))
    assert sorted(map(str, found)) == sorted(str(line.action) for line in lines if line.kind is Kind.LAUNCH)


@pytest.mark.parametrize("name", ["1f1b", "pd-asgd-devices"])
def test_each_device_keeps_the_order_of_the_program(name: str) -> None:
    """Races between its streams depend on it."""
    program = program_of(name, 4)
    lines = list(instructions_of(program, 0, iterations_of_period(program, 8)))
    steps = [step for step in plan_of(program, 8).steps if isinstance(step, Segment)]
    for device in {stream.device for stream in program.streams}:
        own = [line for step in steps if step.device == device for line in step.lines]
        sending = {i for i, stream in enumerate(program.streams) if stream.name.startswith("copy")}
        here = [line for line in lines if program.streams[line.stream].device == device and line.stream not in sending]
        assert own == here
