"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, TypeVar

import click

from asyncpipe.errors import UsageError
from asyncpipe.ir import Op
from asyncpipe.schedule import Costs
from asyncpipe.schedule.kinds import fraction

__all__ = [
    "allow_option",
    "compact",
    "costs_text",
    "counted",
    "instance_options",
    "json_option",
    "number",
    "override_option",
    "parse_costs",
    "refuse_two_lengths",
    "several",
    "size_of",
]

_MOST_VALUES = 16

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
_JOB_KEYS = ("model", "data", "loss", "optimizer", "train")


def _overrides(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides; UsageError for a key of the job that is written as one of the schedule."""
    for text in values:
        first = text.partition("=")[0].partition(".")[0]
        if first in _JOB_KEYS:
            raise UsageError(f"-o {text!r}: a schedule has no key {first!r}, its job has", f"as in -o job.{text}")
    return values


override_option = click.option(
    "-o",
    "overrides",
    multiple=True,
    callback=_overrides,
    metavar="KEY=VALUE",
    help="Set a key of the file, as in -o in_flight=4.",
)


allow_option = click.option(
    "--allow",
    multiple=True,
    metavar="PACKAGE|FILE",
    help="Code of the job that may run; its layers are then known.",
)


def _costs(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Costs | None:
    return None if value is None else parse_costs(value)


def parse_costs(text: str) -> Costs:
    """`F=1,B=2,U=0`, or a measured profile, as costs; UsageError for anything else, a distribution too."""
    from asyncpipe.cli.timing_options import parse_cost_model

    model = parse_cost_model(text)
    if model.noise:
        op, distribution = next(iter(model.noise.items()))
        hint = "only `asyncpipe simulate` draws from distributions"
        raise UsageError(f"--costs {text!r}: expected a number for {op}, found {distribution}", hint)
    return model.costs


def number(value: Fraction | float | int) -> str:
    """Exactly where that is short, `33/8`, else six digits."""
    exact = Fraction(value)
    return str(exact) if exact.denominator <= 64 and not isinstance(value, float) else f"{float(value):.6g}"


def compact(values: Sequence[Fraction | float | int]) -> str:
    """`2 2 1 0`; more than sixteen values as runs, `300 x 2, 724 x 1`, or as their bounds where that is long too."""
    if len(values) <= _MOST_VALUES:
        return " ".join(map(number, values))
    runs = [(value, sum(1 for _ in same)) for value, same in groupby(values)]
    if len(runs) <= _MOST_VALUES:
        return ", ".join(f"{count} x {number(value)}" for value, count in runs)
    return f"{len(values)} values from {number(min(values))} to {number(max(values))}"


def several(names: Sequence[str], most: int = 6) -> str:
    """`a, b, c`; of more than a few the first and the last."""
    return ", ".join(names) if len(names) <= most else f"{names[0]} .. {names[-1]} ({len(names)})"


def counted(number: int, noun: str, several: str = "") -> str:
    """`1 stage`, `3 stages`."""
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def costs_text(costs: Costs, ops: Collection[Op]) -> str:
    """The costs of the ops that a schedule runs, `F=1 B=2 U=0`."""
    shown = []
    for op in (op for op in Op if op in ops):
        key = "SEND" if op.is_transfer else op.value
        times = dict(costs.values).get(key) or (costs.of(op, 0),)
        listed = len(times) <= _MOST_VALUES
        shown.append(f"{key}={','.join(map(number, times)) if listed else compact(times)}")
    return " ".join(dict.fromkeys(shown))


def instance_options(command: Command) -> Command:
    """--stages, --microbatches and --costs: the instance that is compiled."""
    command = click.option("--costs", callback=_costs, metavar="F=1,B=2|FILE.json", help="Time of each op.")(command)
    command = click.option("--microbatches", type=click.IntRange(1, 10**9), help="How many microbatches.")(command)
    return click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")(command)


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size_of(text: str) -> int:
    """Bytes of `80GB`, `1.5 GiB` or `4096`; UsageError for anything else."""
    number_part = text.strip().rstrip("KMGTiBkmgtb ")
    unit = text.strip()[len(number_part) :].strip().upper()
    value = fraction(number_part)
    if value is None or value < 0 or unit not in _UNITS:
        raise UsageError(f"expected a size such as 80GB, 512MiB or 4096, found {text!r}")
    return int(value * _UNITS[unit])


def refuse_two_lengths(steps: int | None, epochs: int | None) -> None:
    """UsageError where a training is given two lengths."""
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs exclude each other", "give one of them")
