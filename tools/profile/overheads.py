"""What the dispatcher of the `threads` back end costs, measured from the gaps between the actions of its workers.

A worker that is called while it wakes up may find that another has taken the action meanwhile. Only the quick ones are
seen to win, so that what was lost counts as a wake-up of at least so long (Kaplan and Meier 1958).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from asyncpipe.tools.profile.distributions import Distribution, describe, sketch, sketch_censored
from asyncpipe.tools.profile.steps import Step

__all__ = ["Overheads", "overheads_of"]

Span = tuple[float, float]


@dataclass(frozen=True)
class Overheads:
    """Seconds: from an end to the next begin on a worker that goes on, and from a call to the begin on an idle one.

    The distributions are of what was seen, None where nothing of the kind happened.
    """

    hand_over: Distribution | None
    wake: Distribution | None
    hand_overs: Sequence[float]
    wakes: Sequence[float]
    """What a simulation draws from."""


@dataclass(frozen=True)
class _Begin:
    """The begin of an action, and when its worker had ended the one before; None for the first."""

    step: Step
    before: float | None

    @property
    def woken(self) -> bool:
        return self.before is not None and self.step.ready > self.before

    @property
    def lay(self) -> Span:
        """From when to when the action was ready and nobody's."""
        begin = self.step.timed.begin
        return self.step.ready, begin if self.woken or self.before is None else self.before


def overheads_of(steps: Sequence[Step]) -> Overheads:
    """Of all gaps in a run."""
    begins = [begin for own in _by_worker(steps) for begin in own]
    goes_on = [b.step.timed.begin - b.before for b in begins if b.before is not None and not b.woken]
    seen, lost = _wakes(begins)
    return Overheads(describe(goes_on), describe(seen), sketch(goes_on) or [0.0], sketch_censored(seen, lost) or [0.0])


def _by_worker(steps: Sequence[Step]) -> Iterator[list[_Begin]]:
    workers: dict[int, dict[float, Step]] = {}
    for step in steps:
        # Of a SYNC that counts in several replicas the last to be ready decides.
        known = workers.setdefault(step.timed.worker, {})
        other = known.get(step.timed.begin)
        if other is None or other.ready < step.ready:
            known[step.timed.begin] = step
    for own in workers.values():
        ordered = [own[begin] for begin in sorted(own)]
        yield [_Begin(ordered[0], None), *(_Begin(step, before.timed.end) for before, step in pairwise(ordered))]


def _wakes(begins: Sequence[_Begin]) -> tuple[list[float], list[float]]:
    """How long workers took from being called to beginning; and how long those had taken whose action was lost."""
    lying = _merged([begin.lay for begin in begins])
    starts = [start for start, _ in lying]
    seen: list[float] = []
    lost: list[float] = []
    for begin in begins:
        if not begin.woken or begin.before is None:
            continue
        end = begin.step.timed.begin
        for start, until in lying[max(0, bisect_right(starts, begin.before) - 1) : bisect_right(starts, end)]:
            called = max(start, begin.before)
            if until > called:
                (seen if until >= end else lost).append(min(until, end) - called)
    return seen, lost


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Those that overlap or touch as one, in order."""
    merged: list[Span] = []
    for begin, end in sorted(span for span in spans if span[1] > span[0]):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((begin, end))
    return merged
