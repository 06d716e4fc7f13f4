"""The verdict: whether b instead of a is worth it here, by the time to an accuracy that matters."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.tools.compare.measures import Goal, Measure, reached
from asyncpipe.tools.compare.paired import sign_test

__all__ = ["Verdict", "decide"]

_LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """`answer` is `worth it here`, `not here`, `no difference that N seeds can show`, or `no verdict` without a test.

    `why` has the numbers.
    """

    answer: str
    why: str
    test: str
    p: float | None


def decide(time: Measure, goal: Goal) -> Verdict:
    """By a paired t-test of log(time of a / time of b); by a sign test where some run misses it, or without spread.

    Level 5 %, two-sided. A run that misses the goal counts as later than one that reaches it. No verdict where some run
    had passed the goal at its first evaluation.
    """
    if time.is_censored:
        return _passed_too_early(time, goal)
    difference, count = time.difference, len(time.a)
    if difference is None:
        came = f"{goal} was reached by {reached(time.a)} and {reached(time.b)} of {count} runs"
        return _by_signs(time, came)
    if difference.p is None:
        return _by_signs(time, f"{_factor(difference.mean)} at {goal}: seeds made no difference to this number")
    faster = difference.mean >= 1
    factor, low, high = (
        (difference.mean, difference.low, difference.high)
        if faster
        else (1 / difference.mean, 1 / difference.high, 1 / difference.low)
    )
    word = "sooner" if faster else "later"
    why = f"{factor:.2f}x {word} at {goal}, 95 % interval {low:.2f}x to {high:.2f}x"
    test = f"paired t-test of log time over {count} seeds"
    return Verdict(_answer(difference.p, faster, count), why, test, difference.p)


def _passed_too_early(time: Measure, goal: Goal) -> Verdict:
    early = f"{sum(time.early_a)} and {sum(time.early_b)} of {len(time.a)} runs"
    hint = "compare the losses after equal samples and time" if goal.is_loss else "choose a higher --target"
    why = f"{early} had passed {goal} before their first evaluation, so that their time is not known; {hint}"
    return Verdict("no verdict", why, "no test", None)


def _factor(ratio: float) -> str:
    """Of the ratio of a's time to b's."""
    if ratio == 1:
        return "at the same time"
    return f"{ratio:.2f}x sooner" if ratio > 1 else f"{1 / ratio:.2f}x later"


def _by_signs(time: Measure, facts: str) -> Verdict:
    late = float("inf")
    pairs = [(late if a is None else a, late if b is None else b) for a, b in zip(time.a, time.b, strict=True)]
    wins, losses = sum(b < a for a, b in pairs), sum(b > a for a, b in pairs)
    count = len(pairs)
    p = sign_test(wins, losses)
    why = f"{facts}; sooner in {wins}, later in {losses}"
    return Verdict(_answer(p, wins > losses, count), why, f"sign test over {count} seeds", p)


def _answer(p: float, faster: bool, count: int) -> str:
    if p >= _LEVEL:
        return f"no difference that {count} seeds can show"
    return "worth it here" if faster else "not here"
