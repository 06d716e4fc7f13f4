"""The work of one microbatch, which a schedule spreads over its streams."""

from __future__ import annotations

from fractions import Fraction

from asyncpipe.ir import Kind, Op, Program

__all__ = ["work"]

_OWN_OPS = frozenset({Op.F, Op.B, Op.I, Op.W, Op.U, Op.R})


def work(program: Program) -> Fraction:
    """The time of one microbatch's actions, one after another, without transfers and synchronisations."""
    launches = [i.action for i in program.body if i.kind is Kind.LAUNCH and i.action.op in _OWN_OPS]
    return sum(program.costs[a.op][a.stage] for a in launches) * Fraction(program.unit) / program.step
