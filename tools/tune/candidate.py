"""A setting that may be tried: which keys of the schedule it changes, and how it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = ["SYNCHRONOUS", "Candidate", "changed", "differing"]

SYNCHRONOUS = "sgd"
"""The library's synchronous schedule, which every tuning measures too."""
_LAYERS = re.compile(r"layers: (\d+-\d+)")
_PLACED = ("streams.ratio", "in_flight", "stages")


@dataclass(frozen=True)
class Candidate:
    """`settings`: dotted keys of the schedule with their values, as `-o` takes them; none: the file as it is.

    threads: intra-op threads of each stream (CPU). period: microbatches of one graph (`graph`). None: as by default.
    """

    schedule: str
    settings: tuple[tuple[str, str], ...] = ()
    threads: int | None = None
    period: int | None = None
    is_synchronous: bool = False

    @property
    def overrides(self) -> tuple[str, ...]:
        return tuple(f"{key}={value}" for key, value in self.settings)

    @property
    def unseen(self) -> tuple[tuple[str, str], ...]:
        """The settings that neither counts, nor depth, nor cut show."""
        return tuple(pair for pair in self.settings if pair[0] not in _PLACED and not pair[0].endswith(".count"))

    @property
    def title(self) -> str:
        """What is set in the schedule, in words: `backward 3 in_flight 4`."""
        parts = [_short(key, value) for key, value in self.settings]
        return " ".join([SYNCHRONOUS, *parts] if self.is_synchronous else parts) or "as in the file"

    @property
    def words(self) -> str:
        """The same, with how it runs: `backward 3 in_flight 4, threads 2`."""
        run = [f"threads {self.threads}"] if self.threads is not None else []
        run += [f"period {self.period}"] if self.period is not None else []
        return ", ".join([self.title, *run])

    def with_settings(self, settings: Iterable[tuple[str, str]]) -> Candidate:
        """The same with these keys set, too; a later value wins."""
        return replace(self, settings=tuple({**dict(self.settings), **dict(settings)}.items()))


def changed(candidate: Candidate, own: Candidate) -> int:
    """How many settings differ from the file's own."""
    others = (candidate.threads != own.threads) + (candidate.period != own.period)
    return len(candidate.settings) + others


def differing(candidates: Iterable[Candidate], among: Sequence[Candidate] = ()) -> list[Candidate]:
    """Each once, and none of those that are known."""
    return [found for found in dict.fromkeys(candidates) if found not in among]


def _short(key: str, value: str) -> str:
    """`streams.backward.count` is `backward`, `streams.ratio` is `ratio`; stages are `stages 4` or `layers 0-1 2-4`."""
    if key == "stages" and value.startswith("["):
        return " ".join(["layers", *_LAYERS.findall(value)])
    parts = key.split(".")
    is_count = parts[0] == "streams" and (len(parts) == 2 or parts[2] == "count")
    return f"{parts[1] if is_count else key} {value}"
