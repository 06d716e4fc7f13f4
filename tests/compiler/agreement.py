"""The compiler against the oracle: the same edges, the same streams, the same times."""

from __future__ import annotations

from itertools import islice

from asyncpipe.compiler import Compiled
from asyncpipe.ir import Action, Op, replay
from tests.compiler.oracle import Oracle

__all__ = ["assert_agrees_with_oracle", "assert_same_edges"]


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


def assert_agrees_with_oracle(compiled: Compiled, text: str, n: int) -> int:
    """Same times for all that ends before the run's end is felt; gives how many actions were compared."""
    n = -(-n // compiled.diagram.every) * compiled.diagram.every
    oracle = Oracle(text, compiled.stages, n)
    expected = oracle.run()
    assert len(expected) == len(oracle.actions)
    until = first_touch(compiled, n - compiled.diagram.ahead) * compiled.ticks.unit
    unit = compiled.ticks.unit
    compared = 0
    for (s, op, i), times in expected.items():
        if times[1] < until:
            action = Action(s, Op(op), i)
            planned = compiled.plan.time(action, compiled.diagram.every)
            assert (planned[0] * unit, planned[1] * unit) == times, f"{action}: planned {planned}, oracle {times}"
            compared += 1
    replayed = {e.action: e.time for e in replay(compiled.program(n)) if e.ends}
    for (s, op, i), times in expected.items():
        if times[1] < until:
            assert replayed[Action(s, Op(op), i)] * unit == times[1]
    return compared


def assert_same_edges(compiled: Compiled, text: str, n: int) -> None:
    """The compiler adds only the edges of its slots; streams are the same too."""
    n = -(-n // compiled.diagram.every) * compiled.diagram.every
    oracle = Oracle(text, compiled.stages, n)
    assert oracle.actions == {(s, op.value, i) for op, s in compiled.diagram.ops for i in range(oracle.count(op))}
    for s, op, i in oracle.actions:
        action = Action(s, Op(op), i)
        edges = compiled.diagram.predecessors(action, n)
        found = {(a.stage, a.op.value, a.index) for a, origin in edges if not origin.text.startswith("slot")}
        assert found == oracle.before[s, op, i], action
        assert compiled.diagram.stream_of(action) == oracle.stream_of[s, op, i]
