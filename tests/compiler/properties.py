"""What must hold for every compiled schedule. Each function asserts one property of one instance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.compiler import Compiled
from asyncpipe.ir import Action, Instruction, Kind, Op, Program, parse_program, parse_table, replay

__all__ = [
    "assert_body_is_minimal",
    "assert_body_is_the_same_for_any_length",
    "assert_edges_are_covered",
    "assert_edges_hold_in_time",
    "assert_every_action_once",
    "assert_forwards_are_bounded",
    "assert_period_is_as_measured",
    "assert_slots_have_one_owner",
    "assert_staleness_is_as_measured",
    "assert_text_reads_back",
    "assert_waits_follow_their_records",
    "long_enough",
    "measured",
    "spans",
    "steady_range",
    "uncovered",
    "versions_read",
]


def spans(program: Program) -> dict[Action, tuple[int, int, int, int]]:
    """(start, position of the start, end, position of the end) of every action in the replay."""
    starts: dict[Action, tuple[int, int]] = {}
    found = {}
    for position, event in enumerate(replay(program)):
        if event.ends:
            found[event.action] = (*starts.pop(event.action), event.time, position)
        else:
            assert event.action not in starts
            assert event.action not in found
            starts[event.action] = (event.time, position)
    assert not starts
    return found


def assert_every_action_once(compiled: Compiled, n: int) -> None:
    program = compiled.program(n)
    updates = -(-n // program.every)
    wanted = Counter(Action(s, op, i) for op, s in compiled.diagram.ops for i in range(updates if op is Op.U else n))
    assert Counter(list(spans(program))) == wanted
    launched = Counter(i.action for i in program.instructions() if i.kind is Kind.LAUNCH)
    assert launched == wanted


def assert_edges_hold_in_time(compiled: Compiled, n: int) -> None:
    found = spans(compiled.program(n))
    for target, (_, start, _, _) in found.items():
        for source, origin in compiled.diagram.predecessors(target, n):
            assert found[source][3] < start, f"{target} after {source} ({origin.text})"


def uncovered(compiled: Compiled, program: Program, targets: Iterable[Action] | None = None) -> list[str]:
    """The edges of the diagram that the program's own streams and events do not enforce."""
    order = HappensBefore(program)
    return [
        f"{target} after {source} ({origin.text})"
        for target in (order.actions if targets is None else targets)
        for source, origin in compiled.diagram.predecessors(target, program.microbatches)
        if not order.before(source, target)
    ]


def assert_edges_are_covered(compiled: Compiled, n: int) -> None:
    assert uncovered(compiled, compiled.program(n)) == []


def assert_waits_follow_their_records(program: Program) -> None:
    """In host order: an event is recorded once, by the stream that just launched its action, and waited for later."""
    recorded: set[Action] = set()
    last: dict[int, Action] = {}
    for kind, stream, action in program.instructions():
        if kind is Kind.LAUNCH:
            last[stream] = action
        elif kind is Kind.RECORD:
            assert last[stream] == action
            assert action not in recorded
            recorded.add(action)
        else:
            assert action in recorded, f"{program.streams[stream].name} waits for {action}"


def long_enough(compiled: Compiled, iterations: int = 3) -> int:
    """The least number of microbatches with so many body iterations."""
    step = compiled.unrolled.step
    start = compiled.lowered(None).start
    beyond = compiled.unrolled.last_microbatch((start - compiled.unrolled.start) // step)
    return beyond + 1 + (iterations - 1) * step


def assert_body_is_minimal(compiled: Compiled) -> None:
    """Removing any wait of the body, in all iterations, leaves an edge uncovered."""
    n = long_enough(compiled)
    program = compiled.program(n)
    for i, instruction in enumerate(program.body):
        if instruction.kind is Kind.WAIT:
            body = program.body[:i] + program.body[i + 1 :]
            assert uncovered(compiled, replace(program, body=body)), f"{instruction} is redundant"


def assert_body_is_the_same_for_any_length(compiled: Compiled) -> None:
    endless = compiled.program(None)
    n = long_enough(compiled)
    sizes = set()
    for extra in (0, 1, compiled.diagram.every, compiled.unrolled.step, 7 * compiled.unrolled.step + 1):
        program = compiled.program(n + extra)
        assert launches_and_waits(program.warmup) == launches_and_waits(endless.warmup)
        assert launches_and_waits(program.body) == launches_and_waits(endless.body)
        assert set(program.body) >= set(endless.body)  # a cooldown may wait for more of the body's events
    for rounds in (10**3, 10**6, 10**9):
        program = compiled.program(n + rounds * compiled.unrolled.step)
        sizes.add((len(program.warmup), len(program.body), len(program.cooldown)))
    assert len(sizes) == 1


def launches_and_waits(instructions: Sequence[Instruction]) -> list[Instruction]:
    return [i for i in instructions if i.kind is not Kind.RECORD]


def assert_text_reads_back(compiled: Compiled, n: int) -> None:
    for program in (compiled.program(None), compiled.program(n)):
        assert parse_program(str(program)) == program
    for table in (compiled.table(None), compiled.table(n)):
        assert parse_table(str(table)) == table


def assert_slots_have_one_owner(compiled: Compiled, n: int) -> None:
    program = compiled.program(n)
    owners: dict[tuple[int, int], int] = {}
    gradients = {s: compiled.diagram.gradient_op(s) for s in range(compiled.stages)}
    for event in replay(program):
        stage, op, index = event.action
        slot = (stage, index % program.slots[stage])
        if op is Op.F and not event.ends:
            assert slot not in owners, f"{event.action} takes a slot of microbatch {owners[slot]}"
            owners[slot] = index
        elif op is gradients[stage] and event.ends:
            assert owners.pop(slot) == index


def assert_forwards_are_bounded(compiled: Compiled) -> None:
    n, period = steady_range(compiled)
    order = HappensBefore(compiled.program(n))
    for s in range(compiled.stages):
        gradient = compiled.diagram.gradient_op(s)
        for m in period:
            backwards = (Action(s, gradient, k) for k in range(period.stop))
            assert any(order.before(backward, Action(s, Op.F, m)) for backward in backwards), f"F of stage {s}"


# -- staleness, counted ------------------------------------------------------------------------------


def measured(program: Program) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    """Per (stage, microbatch): updates between its F and its U, and between its F and its B (or I)."""
    version = [0] * program.stages
    read: dict[tuple[int, int], int] = {}
    applied, between = {}, {}
    for event in replay(program):
        stage, op, index = event.action
        if op is Op.F and not event.ends:
            read[stage, index] = version[stage]
        if op in (Op.B, Op.I) and not event.ends:
            between[stage, index] = version[stage] - read[stage, index]
        if op is Op.U and event.ends:
            for m in range(index * program.every, index * program.every + program.update_size(index)):
                applied[stage, m] = version[stage] - read[stage, m]
            version[stage] += 1
    return applied, between


def versions_read(program: Program) -> dict[Action, int]:
    """The version that each forward and backward reads."""
    version = [0] * program.stages
    read = {}
    for event in replay(program):
        if event.action.op is Op.U and event.ends:
            version[event.action.stage] += 1
        elif not event.ends:
            read[event.action] = version[event.action.stage]
    return read


def steady_range(compiled: Compiled) -> tuple[int, range]:
    """(n, microbatches): a run, and a period in it of microbatches far from its begin and its end."""
    step = compiled.unrolled.step
    indices = [a.index * (compiled.diagram.every if a.op is Op.U else 1) for _, a in compiled.unrolled.body]
    at_once = (max(indices) - min(indices)) // step + 2
    first = compiled.lowered(None).start + at_once * step
    return long_enough(compiled, 2 * at_once + 2), range(first, first + step)


def assert_staleness_is_as_measured(compiled: Compiled) -> None:
    n, period = steady_range(compiled)
    applied, between = measured(compiled.program(n))
    for s in range(compiled.stages):
        lags = [applied[s, m] for m in period]
        gaps = [between[s, m] for m in period]
        stated = compiled.staleness
        assert stated.apply[s] == Fraction(sum(lags), len(lags)), f"apply of stage {s}"
        assert stated.max[s] == max(lags), f"max of stage {s}"
        assert stated.forward_backward[s] == Fraction(sum(gaps), len(gaps)), f"forward_backward of stage {s}"


def assert_period_is_as_measured(compiled: Compiled) -> None:
    n, period = steady_range(compiled)
    found = spans(compiled.program(n))
    for op, s in compiled.diagram.ops:
        if op is not Op.U:
            first, second = (found[Action(s, op, m)][0] for m in (period.start, period.stop))
            assert Fraction(second - first, len(period)) * compiled.ticks.unit == compiled.period, f"{op} of stage {s}"
