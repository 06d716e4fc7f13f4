"""Rounds of trials, in turns: A B C, C B A, ... What is clearly slower than the leader leaves after the third."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from asyncpipe.tools.tune.planning import Plan
from asyncpipe.tools.tune.statistics import Interval, ratio_of, speed_of
from asyncpipe.tools.tune.trials import Trials

__all__ = ["LEAST_ROUNDS", "Contender", "is_equal", "is_tie", "leader_of", "measure_rounds"]

LEAST_ROUNDS = 3
"""Before that many, no difference is believed."""
_ONE_ROUND = 0.05
"""What a single round can tell, which knows no spread between processes."""
_EQUAL = 0.01
"""A difference of one per cent is none that anybody would add a stream for, however sure."""
_MATTERS = 0.05
"""More than that is not given away for a simpler setting, however unsure: few rounds on a busy machine tell little."""


@dataclass
class Contender:
    """A planned candidate with its trials: speeds by round, what else they told, or why it is out."""

    plan: Plan
    rounds: dict[int, list[float]] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    failure: dict[str, Any] | None = None

    @property
    def speed(self) -> Interval | None:
        """Samples per second, or of a time to a loss its inverse; None without a window that counts."""
        return speed_of(self.rounds) if any(self.rounds.values()) else None

    @property
    def others(self) -> float | None:
        """How many cores others used meanwhile, in the median trial."""
        known = [result["others"] for result in self.results if result.get("others") is not None]
        return median(known) if known else None

    def add(self, number: int, result: dict[str, Any]) -> None:
        """The result of one round. A single failure puts it out: nobody wants a setting that fails now and then."""
        if "failed" in result:
            self.failure = {**result, "round": number}
            return
        self.results.append(result)
        self.rounds[number] = list(result["speeds"])
        if "loss" in result and not result["speeds"]:
            reason = f"the test loss came to {result['best']:.4g} at best"
            self.failure = {"failed": "not reached", "exit_code": 0, "reason": reason, "round": number}


def measure_rounds(contenders: Sequence[Contender], trials: Trials, repeats: int, say: Callable[[str], None]) -> None:
    """Fills the contenders in. The order turns around from round to round, so that no one always follows another."""
    active = list(contenders)
    for number in range(repeats):
        for contender in active if number % 2 == 0 else active[::-1]:
            before = trials.ran
            contender.add(number, trials.of(contender.plan.candidate, number))
            note = "" if trials.ran > before else "  (known)"
            say(f"round {number + 1} of {repeats}: {contender.plan.candidate.words}: {_shown(contender, number)}{note}")
        active = _still_open(active, number + 1)
        if len(active) < 2:
            break


def _shown(contender: Contender, number: int) -> str:
    if contender.failure is not None:
        return f"{contender.failure['failed']}: {contender.failure['reason']}"
    windows = contender.rounds[number]
    return f"{median(windows):.4g}" if windows else "no window counts"


def _still_open(active: Sequence[Contender], rounds: int) -> list[Contender]:
    """Those that may still be the fastest."""
    able = [contender for contender in active if contender.failure is None]
    leader = leader_of(able)
    if leader is None or rounds < LEAST_ROUNDS:
        return able
    return [contender for contender in able if contender is leader or is_tie(contender, leader)]


def leader_of(contenders: Sequence[Contender]) -> Contender | None:
    """The one with the highest speed, of those within the limits."""
    able = [c for c in contenders if c.failure is None and not c.plan.rejected]
    known = [(c.speed.value, c) for c in able if c.speed is not None]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def is_tie(contender: Contender, leader: Contender) -> bool:
    """Whether the trials cannot tell it from the leader, or the difference is too small to matter."""
    ratio = ratio_of(contender.rounds, leader.rounds)
    if ratio is None:
        return True
    if ratio.low is None:
        return ratio.value > 1 - _ONE_ROUND
    return ratio.holds(1.0) or ratio.value > 1 - _EQUAL


def is_equal(contender: Contender, leader: Contender) -> bool:
    """Whether it may be chosen instead of the leader: a tie, and not much slower by what is known."""
    ratio = ratio_of(contender.rounds, leader.rounds)
    return ratio is not None and is_tie(contender, leader) and ratio.value > 1 - _MATTERS
