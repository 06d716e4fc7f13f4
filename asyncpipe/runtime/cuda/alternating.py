"""Several executable graphs of one period, launched in turn: the next launch is prepared while the last one runs.

They begin and end at the same places, and follow one another on the same stream: together they compute what one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpipe.runtime.cuda.api import Graph
from asyncpipe.runtime.cuda.capture import capture_period
from asyncpipe.runtime.cuda.execution import DeviceExecution, Origin
from asyncpipe.runtime.cuda.issuer import Work
from asyncpipe.runtime.cuda.period import Period
from asyncpipe.runtime.cuda.places import Site

__all__ = ["Periods", "capture_periods"]


@dataclass
class Periods:
    """`all`: in the order of their captures, in which they share memory."""

    all: Sequence[Period]
    _next: int = 0

    @property
    def graphs(self) -> list[Graph]:
        return [graph for period in self.all for graph in period.graphs]

    def takes(self, executions: Sequence[DeviceExecution], origin: Origin) -> bool:
        return self.all[0].takes(executions, origin)

    def receive(self, site: Site, executions: Sequence[DeviceExecution], origin: Origin) -> None:
        """As one of them: all begin at the same places."""
        for places in (places for period in self.all for places in period.places):
            places.losses.forget()
        self.all[0].receive(site, executions, origin)

    def launch(self, site: Site, executions: Sequence[DeviceExecution], origin: Origin) -> None:
        """The next one in turn, in later runs too."""
        self.all[self._next].launch(site, executions, origin)
        self._next = (self._next + 1) % len(self.all)

    def finish_stamps(self) -> None:
        """Waits for the time stamps of all launches."""
        for period in self.all:
            if period.stamps is not None:
                period.stamps.finish()

    def finish(self, executions: Sequence[DeviceExecution], first: Origin, launches: int) -> None:
        """After `launches` of all of them together."""
        for period in self.all[1:]:
            for places, execution in zip(period.places, executions, strict=True):
                places.losses.read(execution.arrived)
        self.all[0].finish(executions, first, launches)


def capture_periods(
    site: Site, work: Work, executions: Sequence[DeviceExecution], origin: Origin, count: int
) -> Periods:
    """`site.executables` captures of the same iterations; each leaves the executions as it found them."""
    found: list[Period] = []
    for _ in range(site.executables):
        found.append(capture_period(site, work, executions, origin, count, found[-1] if found else None))
    return Periods(found)
