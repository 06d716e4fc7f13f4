"""Under which conditions a row is measured; the text form passes them to the row's process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

__all__ = ["SMOKE", "Pace", "Setting"]


@dataclass(frozen=True)
class Pace:
    """How long and how often: `seconds` for the whole row, what was built included, at least `rounds` turns each.

    updates: of a turn, or as many as fit the time; smoke runs state them.
    """

    seconds: float
    rounds: int = 7
    most_rounds: int = 21
    updates: int | None = None
    least_updates: int = 4
    build_share: float = 0.6
    """Of the time: who is not built by then is out."""


SMOKE = Pace(120.0, rounds=2, most_rounds=2, updates=6)
"""Of a row: enough to see that everything runs."""


@dataclass(frozen=True)
class Setting:
    """`seconds`: for the row. contenders: letters or names, all if empty. rounds: at least, and at most three times."""

    device: str
    seconds: float
    smoke: bool = False
    contenders: tuple[str, ...] = ()
    rounds: int = 7
    ahead: str = ""
    """`build`: `seconds` are for building; the row then waits to be told how long to measure. `compile`: only leave
    compiled kernels in Inductor's cache."""

    @property
    def pace(self) -> Pace:
        if self.smoke:
            return SMOKE
        return Pace(self.seconds, self.rounds, 3 * self.rounds, build_share=1.0 if self.ahead else 0.6)

    def within(self, seconds: float) -> Setting:
        return replace(self, seconds=seconds)

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Setting:
        values = json.loads(text)
        return cls(**{**values, "contenders": tuple(values["contenders"])})
