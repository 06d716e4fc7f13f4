"""What the user says about late and slow streams, and what it means for one run."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Any

import torch
from torch import nn

from asyncpipe.analysis.delay_time import DelayTime, forward_cost, parse_delay_time, scaled
from asyncpipe.analysis.distribution import Distribution
from asyncpipe.analysis.selector import Selector, parse_selector
from asyncpipe.errors import UsageError
from asyncpipe.ir import Program
from asyncpipe.runtime.delays import Delays, LateStreams, SlowStreams

__all__ = ["Disturbance", "Pairs", "Time", "forward_seconds", "parse_disturbance"]

Time = float | Fraction | str
Pairs = Mapping[str, Time] | Sequence[tuple[str, Time]]
_PASSES = 5


@dataclass(frozen=True)
class Disturbance:
    """Which streams are late and by how much, and which take how many times as long; `seed` is of random times."""

    late: tuple[tuple[Selector, DelayTime], ...] = ()
    slow: tuple[tuple[Selector, Fraction], ...] = ()
    seed: int = 0

    def __bool__(self) -> bool:
        return bool(self.late or self.slow)

    @property
    def needs_forward_seconds(self) -> bool:
        """Whether some time is a multiple of what a forward pass takes here."""
        return any(late.unit != "s" for _, late in self.late)

    def words(self) -> dict[str, list[str]]:
        """For the summary of a run."""
        return {
            "delays": [f"{selector}={late}" for selector, late in self.late],
            "stragglers": [f"{selector}={factor}" for selector, factor in self.slow],
        }

    def check(self, program: Program) -> None:
        """UsageError where the program has no such stream."""
        for selector, _ in (*self.late, *self.slow):
            selector.choose(program)

    def check_back_end(self, backend: str) -> None:
        """UsageError for seconds in virtual time, for threads that are to be faster than they are, and on a GPU."""
        if self and backend not in ("serial", "threads"):
            raise UsageError(f"the back end {backend} knows no delays and stragglers", "use serial or threads")
        for selector, late in self.late:
            if backend == "serial" and late.unit == "s":
                hint = f"as in {selector}=4T, where T is one forward pass, or in units of cost: {selector}=4"
                raise UsageError(f"delay {selector}={late}: virtual time has no seconds", hint)
        for selector, factor in self.slow:
            if backend != "serial" and factor < 1:
                message = f"straggler {selector}={factor}: a thread cannot be faster than it is"
                raise UsageError(message, "give a factor of at least 1, or use the back end serial")

    def virtual(self, program: Program, before: int) -> Delays:
        """The delays of a run in virtual time; `before`: how many microbatches there were until then."""
        return self._delays(program, {"": Fraction(1), "T": forward_cost(program)}, before)

    def real(self, program: Program, forward: float, before: int) -> Delays:
        """The delays of a run on threads, in seconds; `forward`: those of one forward pass, if any needs them."""
        seconds = Fraction(forward)
        units = {"s": Fraction(1), "T": seconds, "": seconds / (forward_cost(program) or 1)}
        return self._delays(program, units, before)

    def _delays(self, program: Program, units: Mapping[str, Fraction], before: int) -> Delays:
        late: list[LateStreams] = []
        slow: list[SlowStreams] = []
        for number, (selector, late_by) in enumerate(self.late):
            streams, replica, together = _parts(selector, program)
            value = scaled(late_by.value, units[late_by.unit])
            drawn = _Draws(value, (self.seed, before, number)) if isinstance(value, Distribution) else value
            late.append(LateStreams(streams, replica, together, drawn))
        for selector, factor in self.slow:
            streams, replica, _ = _parts(selector, program)
            slow.append(SlowStreams(streams, replica, factor))
        return Delays(program, late, slow)


def _parts(selector: Selector, program: Program) -> tuple[frozenset[int], int | None, bool]:
    chosen = selector.choose(program)
    return chosen.streams, chosen.replica, chosen.together


@dataclass(frozen=True)
class _Draws:
    """A random time for each microbatch: of its number and the seed alone, in whatever order they are asked for."""

    distribution: Distribution
    seed: tuple[int, ...]

    def __call__(self, replica: int, stream: int, microbatch: int) -> float:
        import numpy as np

        generator = np.random.default_rng((*self.seed, replica, stream + 1, microbatch))
        return float(self.distribution.draw(generator, (1,))[0])


def forward_seconds(modules: Sequence[nn.Module], sample: Any) -> float:
    """T in seconds here: the shortest of five forward passes of one microbatch, with nothing else running.

    It runs copies and gives the random numbers back, so that the training does not depend on it.
    """
    copies = copy.deepcopy(list(modules))
    taken = []
    with torch.random.fork_rng(devices=[]):
        for _ in range(_PASSES):
            start = time.perf_counter()
            value = sample
            for module in copies:
                value = module(value)
            taken.append(time.perf_counter() - start)
    return min(taken)


def parse_disturbance(delays: Pairs, stragglers: Pairs, seed: int) -> Disturbance:
    """Streams with times and factors, as numbers or in the words of the command line; UsageError for others."""
    late = tuple((_selector("delay", name), _time(name, value)) for name, value in _pairs(delays))
    slow = tuple((_selector("straggler", name), _factor(name, value)) for name, value in _pairs(stragglers))
    return Disturbance(late, slow, seed)


def _pairs(given: Pairs) -> Iterator[tuple[str, Time]]:
    yield from given.items() if isinstance(given, Mapping) else given


def _selector(what: str, text: str) -> Selector:
    try:
        return parse_selector(text)
    except ValueError as error:
        raise UsageError(f"{what} {text!r}: {error}") from None


def _time(name: str, value: Time) -> DelayTime:
    if not isinstance(value, str):
        return DelayTime(_number("delay", name, value), "")
    try:
        return parse_delay_time(value)
    except ValueError as error:
        message, _, hint = str(error).partition("\n")
        raise UsageError(f"delay {name}={value}: {message}", hint or "as in 2, 4T, 20ms or exponential(2T)") from None


def _factor(name: str, value: Time) -> Fraction:
    try:
        factor = Fraction(value.strip()) if isinstance(value, str) else _number("straggler", name, value)
    except (ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if factor <= 0:
        hint = f"as in {name}=1.5: all that it runs takes 1.5 times as long"
        raise UsageError(f"straggler {name}={value}: expected a factor above 0", hint)
    return factor


def _number(what: str, name: str, value: float | Fraction) -> Fraction:
    """The decimal number that a float is written as."""
    if isinstance(value, bool) or not isfinite(value) or value < 0:
        raise UsageError(f"{what} {name}={value}: expected a number of at least 0")
    return Fraction(str(value)) if isinstance(value, float) else Fraction(value)
