"""How long something takes: an exact number, or a distribution from which a simulation draws.

2    0.5    1e-3    1/3
uniform(1, 3)         between the two
normal(2, 0.1)        mean and standard deviation, drawn again where it falls below 0
lognormal(2, 0.5)     median, and standard deviation of the logarithm
exponential(2)        mean
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from asyncpipe.errors import did_you_mean
from asyncpipe.schedule.kinds import fraction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KINDS", "Distribution", "Value", "center", "parse_value"]

KINDS = {"uniform": 2, "normal": 2, "lognormal": 2, "exponential": 1}
"""The distributions, and how many parameters each has."""
_CALL = r"\s*([A-Za-z]+)\s*\(([^()]*)\)\s*"


@dataclass(frozen=True)
class Distribution:
    """A distribution of times, none below 0."""

    kind: str
    parameters: tuple[Fraction, ...]

    @property
    def center(self) -> Fraction:
        """What a plan reckons with: the mean, of a lognormal the median."""
        first, second = self.parameters[0], self.parameters[-1]
        return (first + second) / 2 if self.kind == "uniform" else first

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Independent times."""
        values = [float(parameter) for parameter in self.parameters]
        if self.kind == "uniform":
            return generator.uniform(values[0], values[1], shape)
        if self.kind == "exponential":
            return generator.exponential(values[0], shape)
        if self.kind == "normal":
            return _truncated(generator, values[0], values[1], shape)
        import numpy as np

        return values[0] * np.exp(values[1] * generator.standard_normal(shape))

    def __str__(self) -> str:
        return f"{self.kind}({','.join(map(str, self.parameters))})"


Value = Fraction | Distribution


def center(value: Value) -> Fraction:
    """The number that stands for a value in a plan."""
    return value.center if isinstance(value, Distribution) else value


def _truncated(
    generator: np.random.Generator, mean: float, deviation: float, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Normal, given that it is not below 0; since the mean is not either, half of all draws are kept at least."""
    drawn = generator.normal(mean, deviation, shape)
    while (low := drawn < 0).any():
        drawn[low] = generator.normal(mean, deviation, int(low.sum()))
    return drawn


def parse_value(text: str) -> Value:
    """The number or distribution that `text` names; ValueError with what is wrong, and a hint after a line break."""
    number = fraction(text.strip())
    if number is not None:
        return _at_least_zero(number, text)
    call = re.fullmatch(_CALL, text)
    if call is None:
        raise ValueError(f"expected a number of at least 0 or a distribution, found {text!r}")
    kind = call[1]
    if kind not in KINDS:
        raise ValueError(f"no distribution is called {kind!r}\n{did_you_mean(kind, list(KINDS))}")
    return _distribution(kind, call[2].split(","), text)


def _distribution(kind: str, texts: list[str], text: str) -> Distribution:
    numbers = [fraction(part.strip()) for part in texts]
    known = tuple(_at_least_zero(number, text) for number in numbers if number is not None)
    if len(known) != len(numbers) or len(known) != KINDS[kind]:
        raise ValueError(f"{kind} takes {KINDS[kind]} number{'s' if KINDS[kind] > 1 else ''}, found {text!r}")
    if kind == "uniform" and known[0] > known[1]:
        raise ValueError(f"uniform takes the lower bound first, found {text!r}")
    return Distribution(kind, known)


def _at_least_zero(number: Fraction, text: str) -> Fraction:
    if number < 0:
        raise ValueError(f"expected a number of at least 0, found {text!r}")
    return number
