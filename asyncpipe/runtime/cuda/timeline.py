"""Who is ordered after whom: vector clocks over streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Clock", "Timeline"]

Clock = Mapping[int, int]
"""By stream, the last of its calls that comes before; streams that are missing have none."""


@dataclass
class Timeline:
    """The calls of one stream in one history: outside captures, or within one capture."""

    number: int
    clock: dict[int, int] = field(default_factory=dict)

    @property
    def position(self) -> int:
        """The last call."""
        return self.clock.get(self.number, 0)

    def advance(self) -> int:
        """One more call; its position."""
        self.clock[self.number] = self.position + 1
        return self.position

    def join(self, clock: Clock) -> None:
        """Later calls come after all that `clock` has."""
        for stream, position in clock.items():
            self.clock[stream] = max(position, self.clock.get(stream, 0))

    def covers(self, stream: int, position: int) -> bool:
        """Whether the next call comes after that one."""
        return self.clock.get(stream, 0) >= position

    def snapshot(self) -> dict[int, int]:
        return dict(self.clock)
