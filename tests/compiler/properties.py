"""What must hold for every compiled schedule. Each function asserts one property of one instance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.compiler import Compiled
from asyncpipe.ir import Action, Instruction, Kind, Op, Program, parse_program, parse_table, replay

__all__ = [
    "READERS",
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
    "assert_versions_are_kept",
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


def all_actions(compiled: Compiled, n: int) -> Iterator[Action]:
    """What a run of n microbatches has to do."""
    diagram = compiled.diagram
    for op, s in diagram.ops:
        for i in range(-(-n // diagram.every) if op.by_update else n):
            if diagram.is_action(Action(s, op, i)):
                yield Action(s, op, i)


def assert_every_action_once(compiled: Compiled, n: int) -> None:
    program = compiled.program(n)
    wanted = Counter(all_actions(compiled, n))
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
    """From the start of its forward until its backward is through, and the stage above needs its input no more."""
    program, diagram = compiled.program(n), compiled.diagram
    users: dict[tuple[int, int], set[Action]] = {}
    slots: dict[Action, list[tuple[int, int]]] = {}
    for event in replay(program):
        stage, op, m = event.action
        slot = (stage, m % program.slots[stage])
        if op is Op.F and not event.ends:
            assert not users.get(slot), f"{event.action} takes the slot of {users[slot]}"
            users[slot] = {diagram.resolved(Action(stage, diagram.gradient_op(stage), m))}
            if stage + 1 < compiled.stages:
                users[slot].add(diagram.resolved(Action(stage + 1, diagram.gradient_op(stage + 1), m)))
            for user in users[slot]:
                slots.setdefault(user, []).append(slot)
        if event.ends:
            for freed in slots.pop(event.action, ()):
                users[freed].discard(event.action)


def assert_versions_are_kept(compiled: Compiled, n: int) -> None:
    """Under `lag`, whatever the timing: no update overwrites a version that somebody is still to read."""
    program, weights = compiled.program(n), compiled.schedule.weights
    if weights.forward != "lag":
        assert set(program.versions) == {1}
        return
    order = HappensBefore(program)
    actions = order.actions
    for reader in actions:
        stage, op, m = reader
        stashed = weights.backward == "same" and op in (Op.B, Op.I, Op.W)
        if op is Op.F or stashed:
            version = max(0, m // program.every - weights.lag)
            made, overwrites = (Action(stage, Op.U, g) for g in (version - 1, version + program.versions[stage] - 1))
            assert version == 0 or order.before(made, reader)
            assert overwrites not in actions or order.before(reader, overwrites), f"{reader} and {overwrites}"


def assert_forwards_are_bounded(compiled: Compiled) -> None:
    n, period = steady_range(compiled)
    order = HappensBefore(compiled.program(n))
    for s in range(compiled.stages):
        gradient = compiled.diagram.gradient_op(s)
        for m in period:
            backwards = (Action(s, gradient, k) for k in range(period.stop))
            backwards = (back for back in backwards if compiled.diagram.is_action(back))
            assert any(order.before(backward, Action(s, Op.F, m)) for backward in backwards), f"F of stage {s}"


# -- staleness, counted ------------------------------------------------------------------------------


def measured(program: Program) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    """Per (stage, microbatch) with an update: updates between its F and its U, and between its F and its B (or I)."""
    version = [0] * program.stages
    read = versions_read(program)
    applied = {}
    for event in replay(program):
        stage, op, index = event.action
        if op is Op.U and event.ends:
            for m in range(index * program.every, index * program.every + program.update_size(index)):
                applied[stage, m] = version[stage] - read[Action(stage, Op.F, m)]
            version[stage] += 1
    backwards = {a: v for a, v in read.items() if a.op in (Op.B, Op.I)}
    between = {(a.stage, a.index): v - read[a._replace(op=Op.F)] for a, v in backwards.items()}
    return applied, between


READERS = (Op.F, Op.R, Op.B, Op.I)
"""The ops that read parameters."""


def versions_read(program: Program) -> dict[Action, int]:
    """The version that each reader reads; an update shows to a forward when it has arrived there."""
    version, shown = [0] * program.stages, [0] * program.stages
    sent = {i.action for i in program.instructions() if i.action.op is Op.SEND_U}
    lag = int(program.forward_weights[4:-1]) if program.forward_weights.startswith("lag") else None
    read: dict[Action, int] = {}
    for event in replay(program):
        stage, op, index = event.action
        if event.ends:
            version[stage] += op is Op.U
            shown[stage] += op is Op.SEND_U or (op is Op.U and Action(stage, Op.SEND_U, index) not in sent)
        elif op is Op.F:
            read[event.action] = shown[stage] if lag is None else max(0, index // program.every - lag)
        elif op in READERS:
            forward = read[event.action._replace(op=Op.F)]
            read[event.action] = forward if program.backward_weights == "same" else version[stage]
    return read


def steady_range(compiled: Compiled) -> tuple[int, range]:
    """(n, microbatches): a run, and a period in it of microbatches far from its begin and its end."""
    step = compiled.unrolled.step
    indices = [a.index * (compiled.diagram.every if a.op.by_update else 1) for _, a in compiled.unrolled.body]
    at_once = (max(indices) - min(indices) + compiled.schedule.weights.lag * compiled.diagram.every) // step + 2
    first = compiled.lowered(None).start + at_once * step
    return long_enough(compiled, 2 * at_once + 2), range(first, first + step)


def assert_staleness_is_as_measured(compiled: Compiled) -> None:
    n, period = steady_range(compiled)
    applied, between = measured(compiled.program(n))
    for s in range(compiled.stages):
        updated = [m for m in period if (s, m) in applied]
        lags, gaps = ([counts[s, m] for m in updated] for counts in (applied, between))
        stated = compiled.staleness
        assert stated.apply[s] == Fraction(sum(lags), len(lags)), f"apply of stage {s}"
        assert stated.max[s] == max(lags), f"max of stage {s}"
        assert stated.forward_backward[s] == Fraction(sum(gaps), len(gaps)), f"forward_backward of stage {s}"


def assert_period_is_as_measured(compiled: Compiled) -> None:
    n, period = steady_range(compiled)
    found = spans(compiled.program(n))
    for op, s in compiled.diagram.ops:
        if not op.by_update and compiled.diagram.is_action(Action(s, op, period.start)):
            first, second = (found[Action(s, op, m)][0] for m in (period.start, period.stop))
            assert Fraction(second - first, len(period)) * compiled.ticks.unit == compiled.period, f"{op} of stage {s}"
