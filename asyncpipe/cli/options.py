"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import click

from asyncpipe.errors import UsageError
from asyncpipe.ir import Op
from asyncpipe.schedule import Costs
from asyncpipe.schedule.kinds import fraction

__all__ = ["costs_text", "counted", "instance_options", "json_option", "override_option", "parse_costs"]

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
override_option = click.option(
    "-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key of the file, as in -o in_flight=4."
)


def _costs(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Costs | None:
    return None if value is None else parse_costs(value)


def parse_costs(text: str) -> Costs:
    """`F=1,B=2,U=0` as costs; UsageError for anything else."""
    values: dict[Op, tuple[Fraction, ...]] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        cost = fraction(number.strip())
        if name.strip() not in Op.__members__ or cost is None or cost < 0:
            message = f"--costs {text!r}: expected an op and a number of at least 0, found {part!r}"
            raise UsageError(message, "as in --costs F=1,B=2,U=0; the ops are F, B, I, W, U")
        values[Op(name.strip())] = (cost,)
    return Costs(tuple(sorted(values.items())))


def counted(number: int, noun: str, several: str = "") -> str:
    """`1 stage`, `3 stages`."""
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def costs_text(costs: Costs, ops: frozenset[Op]) -> str:
    """The costs of the ops that a schedule runs, `F=1 B=2 U=0`."""
    overridden = dict(costs.values)
    parts = []
    for op in (op for op in Op if op in ops):
        times = overridden.get(op, (costs.of(op, 0),))
        parts.append(f"{op}={','.join(map(str, times))}")
    return " ".join(parts)


def instance_options(command: Command) -> Command:
    """--stages, --microbatches and --costs: the instance that is compiled."""
    command = click.option("--costs", callback=_costs, metavar="F=1,B=2,U=0", help="Time of each op.")(command)
    command = click.option("--microbatches", type=click.IntRange(1, 10**9), help="How many microbatches.")(command)
    return click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")(command)
