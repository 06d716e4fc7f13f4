"""What delays cost: the throughput of a program, or of one against another, over a range of delays.

One late worker of D makes a synchronous run ((D-1)(1 + delay/T) + 1)/D times as slow as an asynchronous one: a single
delay proves nothing, so the curve always includes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from asyncpipe.analysis.distribution import Value
from asyncpipe.analysis.rates import throughput
from asyncpipe.analysis.selector import Selector
from asyncpipe.analysis.simulate import Number, Spread
from asyncpipe.analysis.steady import run_steady
from asyncpipe.analysis.timing import Delay, Timing
from asyncpipe.ir import Program

__all__ = ["Contender", "SweepPoint", "sweep", "throughputs"]


@dataclass(frozen=True)
class Contender:
    """A program with the timing model it runs under."""

    program: Program
    timing: Timing


@dataclass(frozen=True)
class SweepPoint:
    """One delay: throughputs in microbatches per unit of time, and their ratio with its spread over the samples.

    Without another program, `against` is the program's own throughput without the delay.
    """

    delay: Value
    throughput: Number
    against: Number
    ratio: Number
    spread: Spread | None


def sweep(
    own: Contender,
    other: Contender | None,
    selector: Selector,
    delays: Sequence[Value],
    samples: int = 1,
    seed: int = 0,
) -> list[SweepPoint]:
    """One point for each delay, added to those of the timing models; the first one is no delay."""
    values = list(dict.fromkeys([Fraction(0), *delays]))
    undelayed = throughputs(own, samples, seed)
    points = []
    for value in values:
        found = throughputs(_delayed(own, selector, value), samples, seed)
        against = undelayed if other is None else throughputs(_delayed(other, selector, value), samples, seed)
        points.append(_point(value, found, against))
    return points


def throughputs(contender: Contender, samples: int, seed: int) -> list[Number]:
    """One for each sample; a single exact one where nothing is random."""
    if contender.timing.is_random:
        from asyncpipe.analysis.simulate_sampled import sampled_throughputs

        return list(sampled_throughputs(contender.program, contender.timing, samples, seed))
    return [throughput(run_steady(contender.program, contender.timing))]


def _delayed(contender: Contender, selector: Selector, value: Value) -> Contender:
    delays = (*contender.timing.delays, Delay(selector, value))
    return replace(contender, timing=replace(contender.timing, delays=delays))


def _point(value: Value, found: list[Number], against: list[Number]) -> SweepPoint:
    if len(found) == len(against) == 1:
        return SweepPoint(value, found[0], against[0], found[0] / against[0], None)
    from asyncpipe.analysis.simulate_sampled import spread_of

    size = max(len(found), len(against))
    pairs = zip(found * (size // len(found)), against * (size // len(against)), strict=True)
    ratio = spread_of([float(a / b) for a, b in pairs])
    medians = [spread_of([float(x) for x in each]).median for each in (found, against)]
    return SweepPoint(value, medians[0], medians[1], ratio.median, ratio)
