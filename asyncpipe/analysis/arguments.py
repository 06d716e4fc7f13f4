"""The timing model from plain Python values: numbers, or the text of a number or a distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import isfinite
from typing import TypeVar

from asyncpipe.analysis.delay_time import DelayTime, parse_virtual_time
from asyncpipe.analysis.distribution import Distribution, Value, center, parse_value
from asyncpipe.analysis.retime import retimed
from asyncpipe.analysis.selector import Selector, parse_selector
from asyncpipe.analysis.timing import Delay, Straggler, Timing
from asyncpipe.errors import UsageError
from asyncpipe.ir import TRANSFERS, Op, Program
from asyncpipe.schedule import Costs

__all__ = ["CostArgument", "Time", "timing_of"]

Time = float | Fraction | str
CostArgument = Costs | Mapping[str, Time | Sequence[Time]]
_KEYS = (*(op.value for op in Op if not op.is_transfer), "SEND")
Read = TypeVar("Read")


def timing_of(
    program: Program,
    costs: CostArgument | None,
    delays: Mapping[str, Time] | None,
    stragglers: Mapping[str, Time] | None,
) -> tuple[Program, Timing]:
    """The program under these costs, and what disturbs it; UsageError for what is no op, time or stream."""
    values = _costs(program, costs)
    centers = {op: [center(value) for value in times] for op, times in values.items()}
    noise = {op: tuple(v if isinstance(v, Distribution) else None for v in times) for op, times in values.items()}
    own = retimed(program, centers)
    late = tuple(Delay(_selector(name), _delay(name, time).in_costs(own)) for name, time in (delays or {}).items())
    slow = tuple(Straggler(_selector(name), _factor(name, factor)) for name, factor in (stragglers or {}).items())
    return own, Timing(noise, late, slow)


def _costs(program: Program, costs: CostArgument | None) -> dict[Op, list[Value]]:
    named = dict(costs.values) if isinstance(costs, Costs) else dict(costs or {})
    found: dict[Op, list[Value]] = {}
    for name, times in named.items():
        if name not in _KEYS:
            raise UsageError(f"costs: no op is called {name!r}", f"the ops are {', '.join(_KEYS)}")
        several = [times] * program.stages if isinstance(times, int | float | Fraction | str) else list(times)
        several = several * program.stages if len(several) == 1 else several
        if len(several) != program.stages:
            raise UsageError(f"costs[{name!r}]: expected {program.stages} values, one per stage, found {len(several)}")
        values = [_value(f"costs[{name!r}]", time) for time in several]
        found |= dict.fromkeys(TRANSFERS if name == "SEND" else (Op(name),), values)
    return found


def _value(what: str, time: Time) -> Value:
    if isinstance(time, str):
        return _read(what, parse_value, time)
    if isinstance(time, bool) or not isfinite(time) or time < 0:
        raise UsageError(f"{what}: expected a time of at least 0, found {time!r}")
    return _exact(time)


def _delay(name: str, time: Time) -> DelayTime:
    what = f"delays[{name!r}]"
    return _read(what, parse_virtual_time, time) if isinstance(time, str) else DelayTime(_value(what, time))


def _exact(number: float | Fraction) -> Fraction:
    """The decimal number that a float is written as."""
    return Fraction(str(number)) if isinstance(number, float) else Fraction(number)


def _factor(name: str, factor: Time) -> Fraction:
    found = _value(f"stragglers[{name!r}]", factor)
    if isinstance(found, Distribution) or found == 0:
        raise UsageError(f"stragglers[{name!r}]: expected a factor above 0, found {factor!r}")
    return found


def _selector(name: str) -> Selector:
    return _read(repr(name), parse_selector, name)


def _read(what: str, parse: Callable[[str], Read], text: str) -> Read:
    try:
        return parse(text)
    except ValueError as error:
        message, _, hint = str(error).partition("\n")
        raise UsageError(f"{what}: {message}", hint) from None
