"""What is wrong with a flat table: each fault with the device, the position and the action."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from asyncpipe.tables.flat_table import FlatTable, Int64, Site

__all__ = ["Fault", "Faults"]


@dataclass(frozen=True)
class Fault:
    """`kind` is range, duplicate, missing, backward, device, transfer, order or deadlock.

    `sites` names the actions concerned, the wrong one first; none where an action is missing. Those of a deadlock are
    its cycle: an action, what it waits for on another device, the action at which that device stands, and so on.
    """

    kind: str
    message: str
    sites: tuple[Site, ...] = ()

    def __str__(self) -> str:
        where = f"device {self.sites[0].device}, position {self.sites[0].position}: " if self.sites else ""
        return f"{where}{self.message}"


@dataclass
class Faults:
    """The faults of a table; of each check the first `most`, and the number of all of them in `total`."""

    table: FlatTable
    most: int
    found: list[Fault] = field(default_factory=list)
    total: int = 0

    def __bool__(self) -> bool:
        return self.total > 0

    def __str__(self) -> str:
        more = self.total - len(self.found)
        return "\n".join([*map(str, self.found), *([f"and {more} more"] if more else [])])

    def add(self, kind: str, message: str, *indices: int) -> None:
        self.found.append(Fault(kind, message, tuple(map(self.table.site, indices))))
        self.total += 1

    def add_each(self, kind: str, indices: Int64, message: str) -> None:
        """One fault for each index; `{}` in the message is the action."""
        for index in indices[: self.most].tolist():
            self.add(kind, message.format(self.table.text(index)), index)
        self.total += max(0, len(indices) - self.most)

    def add_pairs(self, kind: str, pairs: Iterable[tuple[int, int]], count: int, message: str) -> None:
        """One fault for each pair of indices; the two `{}` in the message are the actions."""
        for pair in pairs:
            self.add(kind, message.format(*map(self.table.text, pair)), *pair)
        self.total += max(0, count - self.most)

    def add_absent(self, kind: str, stage_and_microbatch: Int64, op: str, message: str) -> None:
        """One fault for each row (stage, microbatch); `{}` in the message is the action that is not there."""
        for stage, microbatch in stage_and_microbatch[: self.most].tolist():
            self.add(kind, message.format(f"{stage}{op}{microbatch}"))
        self.total += max(0, len(stage_and_microbatch) - self.most)
