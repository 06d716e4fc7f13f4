"""What the rows of a run add up to so far."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from asyncpipe.tools.watch.curve import Curve
from asyncpipe.tools.watch.rows import Row

__all__ = ["WINDOW_S", "Seen"]

WINDOW_S = 10.0
"""Seconds of training that speed and busy shares are means of."""
_RECENT = 20
_MOST_IN_WINDOW = 4096
_MOST_STAGES = 4096
"""Of any schedule."""


@dataclass
class Seen:
    """`step` counts updates; `samples` and `train_s` are those of the last microbatch; `losses` are the last ones.

    staleness: per stage, how many microbatches had which, up to the last evaluation. sampled: the same of the
    microbatches whose divergence was measured, which come sooner.
    """

    microbatches: int = 0
    step: int = 0
    samples: int = 0
    train_s: float = 0.0
    virtual_time: float | None = None
    lr: float | None = None
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    curve: Curve = field(default_factory=Curve)
    evaluation: Row | None = None
    staleness: list[Counter[int]] = field(default_factory=list)
    sampled: list[Counter[int]] = field(default_factory=list)
    _window: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MOST_IN_WINDOW))
    _busy: deque[tuple[float, Sequence[float]]] = field(default_factory=deque)

    def add(self, row: Row) -> bool:
        """False for a row that lacks what its kind has; a kind that is not shown is passed over."""
        read = _READ.get(row["kind"])
        try:
            if read is not None:
                read(self, row)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
            return False
        return True

    def _microbatch(self, row: Row) -> None:
        loss, lr = float(row["loss"]), float(row["lr"])
        self.microbatches, self.step = int(row["microbatch"]) + 1, int(row["step"]) + 1
        self.samples, self.train_s = int(row["samples"]), max(self.train_s, float(row["train_s"]))
        self.virtual_time, self.lr = row["virtual_time"], lr
        self.losses.append(loss)
        self.curve.add(loss)
        self._window.append((self.train_s, self.samples))
        while len(self._window) > 2 and self.train_s - self._window[1][0] >= WINDOW_S:
            self._window.popleft()

    def _evaluation(self, row: Row) -> None:
        self.evaluation = {key: row[key] for key in ("step", "samples", "train_s", "virtual_time", "loss", "accuracy")}
        self.step = max(self.step, int(row["step"]))

    def _staleness(self, row: Row) -> None:
        found: Sequence[Mapping[str, int]] = row["histogram"]
        _grow(self.staleness, len(found))
        for own, new in zip(self.staleness, found, strict=False):
            own.update({int(value): count for value, count in new.items()})

    def _divergence(self, row: Row) -> None:
        stage, staleness = int(row["stage"]), int(row["staleness"])
        if not 0 <= stage < _MOST_STAGES:
            raise ValueError(stage)
        _grow(self.sampled, stage + 1)
        self.sampled[stage][staleness] += 1

    def _streams(self, row: Row) -> None:
        self._busy.append((float(row["seconds"]), [float(seconds) for seconds in row["busy_s"]]))
        while len(self._busy) > 1 and sum(seconds for seconds, _ in self._busy) - self._busy[0][0] >= WINDOW_S:
            self._busy.popleft()

    @property
    def loss(self) -> float | None:
        """Mean of the last ones."""
        return fmean(self.losses) if self.losses else None

    @property
    def samples_per_s(self) -> float | None:
        """Over the last seconds of training; None before there are two microbatches."""
        if not self._window:
            return None
        (begin, before), (end, after) = self._window[0], self._window[-1]
        return (after - before) / (end - begin) if end > begin else None

    @property
    def window_s(self) -> float:
        """Of how many seconds of training `samples_per_s` is the mean."""
        return self._window[-1][0] - self._window[0][0] if self._window else 0.0

    @property
    def busy(self) -> list[float] | None:
        """The share of the last seconds in which each stream was at work; None where the run is not timed."""
        if not self._busy or len({len(each) for _, each in self._busy}) > 1:
            return None
        length = sum(seconds for seconds, _ in self._busy)
        return [sum(each) / length if length else 0.0 for each in zip(*(own for _, own in self._busy), strict=True)]


_READ: Mapping[str, Callable[[Seen, Row], Any]] = {
    "microbatch": Seen._microbatch,
    "evaluation": Seen._evaluation,
    "staleness": Seen._staleness,
    "divergence": Seen._divergence,
    "streams": Seen._streams,
}


def _grow(counters: list[Counter[int]], length: int) -> None:
    counters += [Counter[int]() for _ in range(length - len(counters))]
