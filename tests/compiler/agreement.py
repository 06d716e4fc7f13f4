"""The compiler against the oracle: the same edges, the same streams, the same times, the same staleness."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice

from asyncpipe.compiler import Compiled
from asyncpipe.ir import Action, Op, replay
from tests.compiler import oracle
from tests.compiler.oracle import Oracle
from tests.compiler.oracle_clock import Clock
from tests.compiler.properties import steady_range

__all__ = ["action_of", "assert_agrees_with_oracle", "assert_same_edges", "first_touch"]


def first_touch(compiled: Compiled, n: int) -> int:
    """The tick at which some stream of the plan has nothing before microbatch n left to do, or waits for such."""
    table, every = compiled.table(None), compiled.diagram.every
    ends = []
    for stream in range(len(table.streams)):
        before = 0
        for action in islice(table.actions(stream), 10 * n + 10_000):
            if compiled.diagram.microbatch(action) >= n:
                ends.append(before)
                break
            before = compiled.plan.time(action, every)[1]
    return min(ends)


def action_of(found: oracle.Action) -> Action:
    return Action(found[0], Op(found[1]), found[2])


def assert_agrees_with_oracle(compiled: Compiled, text: str, n: int) -> int:
    """Same times for all that ends before the run's end is felt; gives how many actions were compared."""
    every, unit = compiled.diagram.every, compiled.ticks.unit
    n = -(-n // every) * every
    clock = Clock(Oracle(text, compiled.stages, n))
    expected = clock.run()
    assert len(expected) == len(clock.oracle.actions)
    until = first_touch(compiled, n - compiled.diagram.ahead) * unit
    replayed = {e.action: e.time for e in replay(compiled.program(n)) if e.ends}
    compared = 0
    for found, times in expected.items():
        if times[1] < until:
            action = action_of(found)
            planned = compiled.plan.time(action, every)
            assert (planned[0] * unit, planned[1] * unit) == times, f"{action}: planned {planned}, oracle {times}"
            assert replayed[action] * unit == times[1]
            compared += 1
    assert_same_staleness(compiled, clock, until)
    return compared


def assert_same_staleness(compiled: Compiled, clock: Clock, until: Fraction) -> None:
    """In the last whole period of which everything is applied before the run's end is felt."""
    step, every, actions = compiled.plan.microbatches, compiled.diagram.every, clock.oracle.actions
    late = [m for (s, op, g), (_, end) in clock.times.items() if op == "U" and end >= until for m in (g * every,)]
    end = min(late, default=clock.oracle.n)
    first = compiled.plan.start + ((end - compiled.plan.start) // step - 1) * step
    if first < steady_range(compiled)[1].start:
        return
    for s in range(compiled.stages):
        steady = [m for m in range(first, first + step) if (s, "U", m // every) in actions]
        applied, between = ([counted[s, m] for m in steady] for counted in (clock.applied, clock.between))
        assert compiled.staleness.apply[s] == Fraction(sum(applied), len(applied)), f"apply of stage {s}"
        assert compiled.staleness.max[s] == max(applied), f"max of stage {s}"
        assert compiled.staleness.forward_backward[s] == Fraction(sum(between), len(between)), f"stage {s}"


def assert_same_edges(compiled: Compiled, text: str, n: int) -> None:
    """The compiler adds only the edges of its slots and versions; streams are the same too."""
    n = -(-n // compiled.diagram.every) * compiled.diagram.every
    plain = Oracle(text, compiled.stages, n)
    counted = ((op, s, i) for op, s in compiled.diagram.ops for i in range(plain.count(op)))
    existing = {Action(s, op, i) for op, s, i in counted if compiled.diagram.is_action(Action(s, op, i))}
    assert {action_of(found) for found in plain.actions} == existing
    for found in plain.actions:
        action = action_of(found)
        edges = compiled.diagram.predecessors(action, n)
        added = ("slot", "version g")
        kept = {(a.stage, a.op.value, a.index) for a, origin in edges if not origin.text.startswith(added)}
        assert kept == plain.before[found], action
        if plain.streams[plain.stream_of[found]]["pool"] is None:
            name = compiled.diagram.streams[compiled.diagram.stream_of(action)].name
            assert name == plain.streams[plain.stream_of[found]]["name"]
