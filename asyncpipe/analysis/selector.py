"""Which streams a delay or a straggler means.

    backward         every stream of the group        device[2]        all that device 2 runs
    backward[0]      one stream                       replica[1]       all that replica 1 runs
    replica[1].backward[0]                            *                everything
    worker[0]|replica[0]                              the first of these that the schedule has

A group of the schedule wins over the words `device` and `replica`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from asyncpipe.errors import UsageError, did_you_mean
from asyncpipe.ir import Program

__all__ = ["Chosen", "Selector", "parse_selector"]

_NAME = r"[A-Za-z][A-Za-z0-9_-]*(?:\[(?:\d+|\d+->\d+)\])?"
_PART = rf"(?:replica\[(\d+)\]\.)?(\*|{_NAME})"
_NUMBERED = r"(device|replica)\[(\d+)\]"


@dataclass(frozen=True)
class Chosen:
    """Streams by number, in one replica or in all. `together`: they count as one, as a device does."""

    streams: frozenset[int]
    replica: int | None
    together: bool


@dataclass(frozen=True)
class Selector:
    text: str
    parts: tuple[tuple[int | None, str], ...]
    """(replica, name) of each alternative."""

    def choose(self, program: Program) -> Chosen:
        """What the first alternative that the program has means there; UsageError if it has none of them."""
        for replica, name in self.parts:
            found = _choose(program, replica, name)
            if found is not None:
                return found
        raise UsageError(f"{self.text}: {program.schedule} has no such stream", _known(self.parts[0][1], program))

    def __str__(self) -> str:
        return self.text


def parse_selector(text: str) -> Selector:
    """The selector that `text` names; ValueError for anything else."""
    parts = []
    for part in text.split("|"):
        match = re.fullmatch(_PART, part.strip())
        if match is None:
            raise ValueError(f"expected a stream such as backward[0], device[1] or replica[2], found {part.strip()!r}")
        parts.append((None if match[1] is None else int(match[1]), match[2]))
    return Selector(text, tuple(parts))


def _choose(program: Program, replica: int | None, name: str) -> Chosen | None:
    if replica is not None and replica >= program.replicas:
        return None
    named = [i for i, s in enumerate(program.streams) if name in (s.name, s.name.partition("[")[0])]
    if named:
        return Chosen(frozenset(named), replica, False)
    everything = frozenset(range(len(program.streams)))
    if name == "*":
        return Chosen(everything, replica, True)
    numbered = re.fullmatch(_NUMBERED, name)
    if numbered is None:
        return None
    number = int(numbered[2])
    if numbered[1] == "replica":
        return Chosen(everything, number, True) if number < program.replicas and replica is None else None
    device = frozenset(i for i in everything if program.streams[i].device == number)
    return Chosen(device, replica, True) if device else None


def _known(name: str, program: Program) -> str:
    names = [stream.name for stream in program.streams]
    groups = [group for group in dict.fromkeys(n.partition("[")[0] for n in names) if group not in names]
    if len(names) > 16:
        return f"its groups are {', '.join(dict.fromkeys(n.partition('[')[0] for n in names))}"
    return did_you_mean(name, [*groups, *names])
