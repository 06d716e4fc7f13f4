"""The time of a delay: a number or a distribution, in a unit.

    2                        units of the schedule's costs      4T       forward passes of one microbatch
    exponential(2T)          each time has the unit             0.5s     20ms     lognormal(20ms,0.5)

T is one microbatch's way through all stages, forward: the sum of their costs, or on real threads what was measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from asyncpipe.analysis.distribution import Distribution, Value, parse_value
from asyncpipe.ir import Op, Program

__all__ = ["DelayTime", "forward_cost", "parse_delay_time", "parse_virtual_time", "scaled"]

_WITH_UNIT = r"(.*?)\s*(T|ms|s)?"
_CALL = r"\s*([A-Za-z]+)\s*\(([^()]*)\)\s*"


@dataclass(frozen=True)
class DelayTime:
    """`unit`: empty for units of cost, T for forward passes, s for seconds."""

    value: Value
    unit: str = ""

    def in_costs(self, program: Program) -> Value:
        """In the unit of the program's costs; not of seconds."""
        return scaled(self.value, {"": Fraction(1), "T": forward_cost(program)}[self.unit])

    def __str__(self) -> str:
        if isinstance(self.value, Fraction):
            return f"{self.value}{self.unit}"
        times = [f"{number}{self.unit}" for number in self.value.parameters]
        if self.value.kind == "lognormal":
            times[1] = str(self.value.parameters[1])
        return f"{self.value.kind}({','.join(times)})"


def parse_delay_time(text: str) -> DelayTime:
    """The time that `text` names; ValueError with what is wrong, and a hint after a line break."""
    call = re.fullmatch(_CALL, text)
    parts = [_split(part) for part in (call[2].split(",") if call else [text])]
    numbers = ",".join(number for number, _ in parts)
    value = parse_value(f"{call[1]}({numbers})" if call else numbers)
    units = [unit for _, unit in parts]
    if call and call[1] == "lognormal" and units.pop():
        raise ValueError(f"the second number of lognormal has no unit, found {text!r}")
    if len(set(units)) > 1:
        raise ValueError(f"expected one unit for all times, found {text!r}\nas in normal(4T,1T)")
    return DelayTime(scaled(value, Fraction(1, 1000)), "s") if units[0] == "ms" else DelayTime(value, units[0])


def parse_virtual_time(text: str) -> DelayTime:
    """The same without seconds."""
    time = parse_delay_time(text)
    if time.unit == "s":
        raise ValueError("virtual time has no seconds\nas in 4T, where T is one forward pass, or in units of cost: 4")
    return time


def forward_cost(program: Program) -> Fraction:
    """T: one microbatch's way forward through all stages, in units of cost."""
    return sum(program.costs[Op.F]) * program.unit


def _split(text: str) -> tuple[str, str]:
    match = re.fullmatch(_WITH_UNIT, text.strip())
    assert match is not None
    return match[1], match[2] or ""


def scaled(value: Value, factor: Fraction) -> Value:
    """The time in another unit."""
    if isinstance(value, Fraction):
        return value * factor
    times = [number * factor for number in value.parameters]
    if value.kind == "lognormal":
        times[1] = value.parameters[1]
    return Distribution(value.kind, tuple(times))
