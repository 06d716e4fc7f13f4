"""A program under other costs: order, events and storage stay, times change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from asyncpipe.analysis.memory import StageSizes
from asyncpipe.ir import TRANSFERS, Op, Program

__all__ = ["Link", "retimed", "with_link"]


@dataclass(frozen=True)
class Link:
    """What a transfer between devices takes, besides its own cost; `bandwidth` in bytes per unit of time."""

    latency: Fraction = Fraction(0)
    bandwidth: Fraction | None = None


def retimed(program: Program, costs: Mapping[Op, Sequence[Fraction]]) -> Program:
    """The program with these costs per op and stage, exactly; what it does not run is left out."""
    exact = {op: tuple(cost * program.unit for cost in times) for op, times in program.costs.items()}
    exact |= {op: tuple(times) for op, times in costs.items() if op in exact}
    scale = lcm(*(cost.denominator for times in exact.values() for cost in times))
    whole = {op: tuple(int(cost * scale) for cost in times) for op, times in exact.items()}
    return program.with_costs(Fraction(1, scale), whole)


def with_link(program: Program, link: Link, sizes: Sequence[StageSizes] | None) -> Program:
    """The program whose transfers take the link's time: latency, and bytes where a job gives them, over bandwidth."""
    costs = {}
    for op in (op for op in TRANSFERS if op in program.costs):
        own = [cost * program.unit + link.latency for cost in program.costs[op]]
        if link.bandwidth is not None and sizes is not None:
            own = [cost + Fraction(_bytes(op, sizes, s)) / link.bandwidth for s, cost in enumerate(own)]
        costs[op] = own
    return retimed(program, costs)


def _bytes(op: Op, sizes: Sequence[StageSizes], stage: int) -> int:
    """What crosses: the next stage's input, a gradient of the own input, what is saved, or parameters."""
    if op is Op.SEND_F:
        return sizes[stage + 1].input if stage + 1 < len(sizes) else 0
    if op is Op.SEND_B:
        return sizes[stage].input
    return sizes[stage].activations if op is Op.SEND_A else sizes[stage].parameters
