"""How many microbatches were in flight at each stage, by the share of the time."""

from __future__ import annotations

from collections.abc import Sequence

from asyncpipe.ir import Op, TimedAction

__all__ = ["in_flight"]

_HOLDING = (Op.F, Op.R, Op.B, Op.I, Op.W)


def in_flight(actions: Sequence[TimedAction], stages: int, span: tuple[float, float]) -> list[dict[int, float]]:
    """Per stage, all replicas together: the shares of the span in which so many were between forward and backward.

    A microbatch is in flight from the begin of its forward to the end of the last action of its backward.
    """
    held: list[dict[tuple[int, int], tuple[float, float]]] = [{} for _ in range(stages)]
    for timed in actions:
        if timed.action.op in _HOLDING:
            own, key = held[timed.action.stage], (timed.replica, timed.action.index)
            begin, end = own.get(key, (timed.begin, timed.end))
            own[key] = min(begin, timed.begin), max(end, timed.end)
    return [_shares(list(own.values()), span) for own in held]


def _shares(held: Sequence[tuple[float, float]], span: tuple[float, float]) -> dict[int, float]:
    clipped = [(max(begin, span[0]), min(end, span[1])) for begin, end in held]
    changes = sorted(change for begin, end in clipped if end > begin for change in ((begin, 1), (end, -1)))
    time, count, shares = span[0], 0, dict[int, float]()
    for at, change in [*changes, (span[1], 0)]:
        shares[count] = shares.get(count, 0.0) + at - time
        time, count = at, count + change
    length = span[1] - span[0]
    return {number: shares[number] / length for number in sorted(shares) if shares[number] > 0}
