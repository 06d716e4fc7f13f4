"""Expressions of the file with the names of an instance, and stages in words."""

from __future__ import annotations

from collections.abc import Iterable

from asyncpipe.errors import Position, Report
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.expression import Expression, Number

__all__ = ["evaluate", "instance_names", "span_of", "stages_text"]


def evaluate(
    expression: Expression, env: dict[str, int], what: str, where: Position | None, report: Report
) -> int | None:
    """The value of an expression of the file; None after an AP110, since it divides by zero."""
    try:
        return expression.evaluate(env)
    except ZeroDivisionError:
        report.error("AP110", f"{what}: {expression} divides by zero for S = {env['S']}", where)
        return None


def stages_text(stages: Iterable[int]) -> str:
    """`stage 0`, `stages 0 to 3`, `stages 0, 2`."""
    found = sorted(stages)
    if len(found) == 1:
        return f"stage {found[0]}"
    whole = found == list(range(found[0], found[-1] + 1))
    return f"stages {found[0]} to {found[-1]}" if whole else f"stages {', '.join(map(str, found))}"


def instance_names(schedule: Schedule, stages: int) -> dict[str, int]:
    """S, D and last of an instance; D is 1 where `devices` divides by zero, which is told elsewhere."""
    names = {"S": stages, "last": stages - 1}
    devices = evaluate(schedule.devices, names, "devices", None, Report())
    return {**names, "D": 1 if devices is None else devices}


def span_of(
    span: tuple[Expression, Expression], env: dict[str, int], what: str, where: Position | None, report: Report
) -> range:
    """The stages of a range `first..last`; those that exist, after an AP114, where it names others."""
    bounds = [evaluate(bound, env, f"stages of {what}", where, report) for bound in span]
    if None in bounds:
        return range(env["S"])
    low, high = (bound for bound in bounds if bound is not None)
    if low > high and all(isinstance(bound, Number) for bound in span):
        report.error("AP114", f"{what} covers the stages {low}..{high}, which are none", where, "the first comes first")
        return range(0)
    if low < 0 or high > env["last"]:
        message = f"{what} covers the stages {low}..{high}; there are {stages_text(range(env['S']))}"
        report.error("AP114", message, where, "use `last` for the last stage")
    return range(max(low, 0), min(high, env["last"]) + 1)
