"""Streams and events of the recording runtime."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.runtime.cuda.recording.graph import RecordedGraph
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation

__all__ = ["RecordedEvent", "RecordedStream"]


@dataclass(frozen=True)
class RecordedStream:
    number: int
    device: int
    priority: int = 0
    sms: int = 0


@dataclass
class RecordedEvent:
    """`clock`: of the last of its `records`; None before the first, which settles its device."""

    number: int
    external: bool
    clock: dict[int, int] | None = None
    records: int = 0
    device: int | None = None
    graph: RecordedGraph | None = None

    def stand_for(self, clock: dict[int, int]) -> None:
        self.clock, self.records = clock, self.records + 1

    def settle(self, device: int) -> None:
        """Violation on another device than the first time."""
        if self.device is None:
            self.device = device
        if self.device != device:
            raise Violation(
                Kind.EVENT_DEVICE, f"event {self.number} of device {self.device} is recorded on device {device}"
            )

    def require_created(self) -> None:
        """Violation where a wait would be left out of a capture."""
        if self.device is None:
            raise Violation(Kind.NEVER_RECORDED, f"torch makes event {self.number} when it is recorded: no node waits")

    def recorded(self, who: str) -> dict[int, int]:
        """What waits for it come after."""
        if self.clock is None:
            raise Violation(Kind.NEVER_RECORDED, f"{who} waits for event {self.number}, and goes on")
        return self.clock
