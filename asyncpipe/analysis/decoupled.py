"""The speed-up that decoupling alone promises (arXiv 2410.05985): (1 + beta) b / (b + beta) for b microbatches.

It holds for one forward stream and at least beta backward streams that never wait for anything but data.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from asyncpipe.ir import Kind, Op, Program

__all__ = ["Decoupled", "decoupled_speedup"]

_BACKWARD = (Op.B, Op.I, Op.W)


@dataclass(frozen=True)
class Decoupled:
    """`beta`: backward time over forward time. `limit`: the speed-up of these streams for endlessly many microbatches.

    `why_not` says why the paper's formula is not defined for them; else it is empty.
    """

    beta: Fraction
    limit: Fraction
    why_not: str

    def speedup(self, microbatches: int) -> Fraction:
        """lambda(b)."""
        return (1 + self.beta) * microbatches / (microbatches + self.beta)


def decoupled_speedup(program: Program, waits: bool) -> Decoupled | None:
    """None where forward and backward share streams; `waits`: more than the streams' work holds the forwards back."""
    ran: dict[int, set[Op]] = {}
    for instruction in program.body:
        if instruction.kind is Kind.LAUNCH:
            ran.setdefault(instruction.stream, set()).add(instruction.action.op)
    forward = [ops for ops in ran.values() if Op.F in ops]
    backward = [ops for ops in ran.values() if ops.intersection(_BACKWARD)]
    if any(ops.intersection(_BACKWARD) for ops in forward):
        return None
    work = {op: _work(program, op) for op in (Op.F, *_BACKWARD)}
    if not work[Op.F]:
        return None
    beta = sum(work[op] for op in _BACKWARD) / work[Op.F]
    limit = (1 + beta) / max(Fraction(1, len(forward)), beta / len(backward))
    return Decoupled(beta, limit, _why_not(beta, len(forward), len(backward), waits))


def _work(program: Program, op: Op) -> Fraction:
    """Ticks per microbatch, over all stages."""
    launches = (i.action for i in program.body if i.kind is Kind.LAUNCH and i.action.op is op)
    return Fraction(sum(program.costs[op][action.stage] for action in launches), program.step)


def _why_not(beta: Fraction, forward: int, backward: int, waits: bool) -> str:
    if waits:
        return "its rules let forwards wait"
    if forward > 1:
        return f"it has {forward} forward streams"
    needed = ceil(beta)
    return f"it has {backward} of {needed} backward streams" if backward < needed else ""
