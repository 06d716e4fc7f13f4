"""The timing model on the command line: `--costs`, `--delay`, `--straggler`, `--link`, `--sweep`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TypeVar

from asyncpipe.analysis.delay_time import DelayTime, parse_virtual_time
from asyncpipe.analysis.distribution import Distribution, Value, center, parse_value
from asyncpipe.analysis.retime import Link
from asyncpipe.analysis.selector import Selector, parse_selector
from asyncpipe.analysis.timing import Straggler
from asyncpipe.errors import Report, ScheduleError, UsageError, did_you_mean
from asyncpipe.ir import TRANSFERS, Op
from asyncpipe.schedule import Costs
from asyncpipe.schedule.kinds import fraction
from asyncpipe.schedule.profile import is_profile, read_profile

__all__ = [
    "COST_KEYS",
    "CostModel",
    "parse_cost_model",
    "parse_delay",
    "parse_link",
    "parse_straggler",
    "parse_sweep",
]

COST_KEYS = ("F", "B", "I", "W", "U", "R", "SEND", "SYNC")
_COMMAS = re.compile(r",(?![^(]*\))")
"""Commas between values, not those inside a distribution."""
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class CostModel:
    """Costs to plan with, and per op the distribution that such a cost is the center of."""

    costs: Costs
    noise: Mapping[Op, Distribution]


def parse_cost_model(text: str) -> CostModel:
    """`F=1,B=normal(2,0.1)`, or the file of a measured profile; UsageError for anything else."""
    if is_profile(text):
        return CostModel(_profile(text), {})
    values: dict[str, Value] = {}
    for part in _COMMAS.split(text):
        name, _, number = part.partition("=")
        if name.strip() not in COST_KEYS:
            raise UsageError(_expected(text, part), _COSTS_HINT)
        values[name.strip()] = _read(partial(parse_value, number), _expected(text, part), _COSTS_HINT)
    costs = Costs(tuple(sorted((name, (center(value),)) for name, value in values.items())))
    return CostModel(costs, dict(_noise(values)))


_COSTS_HINT = f"as in --costs F=1,B=2,U=0; the ops are {', '.join(COST_KEYS)}"


def _expected(text: str, part: str) -> str:
    return f"--costs {text!r}: expected an op and a number of at least 0, found {part!r}"


def _noise(values: Mapping[str, Value]) -> Iterator[tuple[Op, Distribution]]:
    for name, value in values.items():
        if isinstance(value, Distribution):
            ops = TRANSFERS if name == "SEND" else (Op(name),)
            yield from ((op, value) for op in ops)
            if name == "F" and "R" not in values:
                yield Op.R, value


def _profile(file: str) -> Costs:
    report = Report()
    costs = read_profile(file, report)
    if costs is None:
        raise ScheduleError(report.diagnostics)
    return costs


def _read(parse: Callable[[], Parsed], message: str, hint: str) -> Parsed:
    """What `parse` gives; its ValueError becomes a UsageError, with its own words where it knows a distribution."""
    try:
        return parse()
    except ValueError as error:
        own, _, advice = str(error).partition("\n")
        if "expected a number" in own:
            raise UsageError(message, hint) from None
        raise UsageError(f"{message.partition(': ')[0]}: {own}", advice or hint) from None


def _split(option: str, text: str, hint: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name.strip():
        raise UsageError(f"{option} {text!r}: expected a stream, =, and a value", hint)
    return name.strip(), value


def _selector(option: str, text: str, name: str, hint: str) -> Selector:
    return _read(partial(parse_selector, name), f"{option} {text!r}", hint)


def parse_delay(text: str) -> tuple[Selector, DelayTime]:
    """`backward[0]=0.5`, `worker[0]=4T` or `replica[1]=exponential(2)`."""
    hint = "as in --delay backward[0]=0.5 or --delay replica[1]=exponential(2)"
    name, value = _split("--delay", text, hint)
    message = f"--delay {text!r}: expected a number of at least 0 or a distribution, found {value!r}"
    return _selector("--delay", text, name, hint), _read(partial(parse_virtual_time, value), message, hint)


def parse_straggler(text: str) -> Straggler:
    """`replica[2]=1.5`: it takes one and a half times as long."""
    hint = "as in --straggler replica[2]=1.5: all that it runs takes 1.5 times as long"
    name, value = _split("--straggler", text, hint)
    factor = fraction(value.strip())
    if factor is None or factor <= 0:
        raise UsageError(f"--straggler {text!r}: expected a factor above 0, found {value!r}", hint)
    return Straggler(_selector("--straggler", text, name, hint), factor)


def parse_link(text: str) -> Link:
    """`latency=0.01,bandwidth=1e9`, or one of the two."""
    hint = "as in --link latency=0.00001,bandwidth=25e9: time units, and bytes in one of them"
    known = ("latency", "bandwidth")
    values: dict[str, Fraction] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        number = fraction(value.strip())
        if name.strip() not in known:
            advice = did_you_mean(name.strip(), known)
            raise UsageError(f"--link {text!r}: expected latency or bandwidth, found {part!r}", advice)
        if number is None or number < 0 or (name.strip() == "bandwidth" and number == 0):
            raise UsageError(f"--link {text!r}: expected a positive number, found {part!r}", hint)
        values[name.strip()] = number
    return Link(values.get("latency", Fraction(0)), values.get("bandwidth"))


def parse_sweep(text: str) -> tuple[Selector, Sequence[DelayTime]]:
    """`replica[0]=0,0.5,1`: delays of one stream; no delay is always among them."""
    hint = "as in --sweep worker[0]=0,0.5,1,2,4,8"
    name, equals, values = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--sweep {text!r}: expected a stream, =, and delays", hint)
    found = []
    for value in _COMMAS.split(values):
        message = f"--sweep {text!r}: expected a number of at least 0 or a distribution, found {value!r}"
        found.append(_read(partial(parse_virtual_time, value), message, hint))
    return _selector("--sweep", text, name.strip(), hint), found
