"""What the trials say: the setting to use, how much faster it is than the file's own, and who ties with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpipe.tools.tune.candidate import Candidate, changed
from asyncpipe.tools.tune.rounds import Contender, is_equal, is_tie, leader_of
from asyncpipe.tools.tune.statistics import Interval, ratio_of

__all__ = ["Verdict", "decide", "standing"]


@dataclass(frozen=True)
class Verdict:
    """`best` is chosen among those that tie with the `leader`. gain: of best against own, None where own failed."""

    best: Contender
    leader: Contender
    own: Contender
    gain: Interval | None
    answer: str


def decide(contenders: Sequence[Contender], own: Candidate) -> Verdict | None:
    """Of those that are as fast as the leader, as far as can be told, the one with the least staleness, streams, stages
    and changes to the file.

    None where no trial came to an end.
    """
    leader = leader_of(contenders)
    if leader is None:
        return None
    able = [c for c in contenders if c.failure is None and c.rounds and not c.plan.rejected]
    equals = [c for c in able if c is leader or is_equal(c, leader)]
    best = min(equals, key=lambda c: (c.plan.staleness, c.plan.streams, c.plan.stages, changed(c.plan.candidate, own)))
    first = next(c for c in contenders if c.plan.candidate == own)
    gain = None if first.failure is not None else _gain(best, first)
    return Verdict(best, leader, first, gain, _answer(best, first, gain))


def _gain(best: Contender, own: Contender) -> Interval | None:
    """Exactly 1 of the same setting, whatever its windows are."""
    return Interval(1.0, 1.0, 1.0) if best is own else ratio_of(best.rounds, own.rounds)


def _answer(best: Contender, own: Contender, gain: Interval | None) -> str:
    words = best.plan.candidate.words
    if best is own:
        return "the file's own setting: nothing that was measured is faster"
    equal = gain is not None and (gain.value < 1 or (gain.low is not None and gain.holds(1.0)))
    if best.plan.candidate.is_synchronous:
        claim = "nothing is faster than synchronous" if equal else "synchronous is fastest"
        return f"{claim} here: {words}{_against(gain)}"
    if equal:
        return f"{words}: as fast as the file's own setting, {_cheaper(best, own)}"
    return f"{words}{_against(gain)}"


def _against(gain: Interval | None) -> str:
    if gain is None:
        return "; the file's own setting failed"
    if gain.low is None or gain.high is None:
        return f", {gain.value:.2f}x the file's own setting, from one round"
    return f", {gain.value:.2f}x the file's own setting ({gain.low:.2f} to {gain.high:.2f})"


def _cheaper(best: Contender, own: Contender) -> str:
    """What the chosen one has less of."""
    a, b = best.plan, own.plan
    less = [("less staleness", a.staleness < b.staleness), ("fewer streams", a.streams < b.streams)]
    less += [("fewer stages", a.stages < b.stages)]
    found = [words for words, holds in less if holds]
    return f"with {' and '.join(found)}" if found else "or too little slower to tell"


def standing(contender: Contender, verdict: Verdict) -> str:
    """One word or two for the table."""
    if contender.failure is not None:
        return f"{_with_code(contender.failure)}: {contender.failure['reason']}"
    if contender is verdict.best:
        return "best"
    if contender.plan.rejected:
        return f"for comparison: {contender.plan.rejected}"
    if not contender.rounds:
        return "not measured"
    ratio = ratio_of(contender.rounds, verdict.best.rounds)
    if ratio is None or is_tie(contender, verdict.best):
        return "tie"
    change = 100 * (ratio.value - 1)
    return f"{abs(change):.0f} % {'slower' if change < 0 else 'faster'}"


def _with_code(failure: dict[str, object]) -> str:
    code = failure["exit_code"]
    return str(failure["failed"]) if not isinstance(code, int) or code <= 0 else f"{failure['failed']} (exit {code})"
