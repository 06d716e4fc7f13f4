"""Proposed stages: layers cut so that the largest stage costs least, never where a cut cannot be."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncpipe.staging import cut_evenly

__all__ = ["Proposal", "in_a_row", "proposals", "ranges_text"]

_MOST_NAMED = 8


@dataclass(frozen=True)
class Proposal:
    """One cut. shares: of the forward's cost, by stage. handed_over: bytes that a microbatch brings over each cut.

    option: what makes `run` cut so, in words of a command line.
    """

    parts: tuple[range, ...]
    shares: tuple[float, ...]
    handed_over: tuple[int, ...]
    option: tuple[str, str]

    @property
    def asked_by(self) -> str:
        return shlex.join(self.option)

    @property
    def balance(self) -> float:
        """The largest stage over the mean: with a stream for each stage, the time that this cut costs; 1 is best."""
        return max(self.shares) * len(self.parts)


def proposals(
    seconds: Sequence[float],
    output_bytes: Sequence[int],
    blocked: Mapping[int, str],
    asked: int | None,
    by_default: Sequence[float],
) -> list[Proposal]:
    """Cuts into 2, 4, 8 and 16 stages, or as many as `asked`. `blocked`: the layers after which no cut can be.

    Fewer where that many cannot be; nothing where there is but one. `by_default`: the costs by which `run --stages`
    cuts.
    """
    groups = _groups(len(seconds), blocked)
    counts = [min(asked, len(groups))] if asked else [2**k for k in range(1, 5) if 2**k <= len(groups)]
    return [_proposal(_cut(groups, seconds, n), seconds, output_bytes, by_default) for n in counts if n > 1]


def _groups(layers: int, blocked: Mapping[int, str]) -> list[range]:
    """Layers that stay together."""
    starts = [0, *(i + 1 for i in range(layers - 1) if i not in blocked)]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], layers], strict=True)]


def _cut(groups: Sequence[range], seconds: Sequence[float], count: int) -> tuple[range, ...]:
    parts = cut_evenly([sum(seconds[i] for i in group) for group in groups], count)
    return tuple(range(groups[part[0]].start, groups[part[-1]].stop) for part in parts)


def _proposal(
    parts: tuple[range, ...], seconds: Sequence[float], output_bytes: Sequence[int], by_default: Sequence[float]
) -> Proposal:
    total = sum(seconds) or 1.0
    shares = tuple(sum(seconds[i] for i in part) / total for part in parts)
    plain = cut_evenly(by_default, len(parts)) == parts
    option = ("--stages", str(len(parts))) if plain else ("-o", stages_override(parts))
    return Proposal(parts, shares, tuple(output_bytes[part[-1]] for part in parts[:-1]), option)


def stages_override(parts: Sequence[range]) -> str:
    """The stages by name, as a schedule has them."""
    named = (f"{{name: s{number}, layers: {_range(part)}}}" for number, part in enumerate(parts))
    return f"stages=[{', '.join(named)}]"


def ranges_text(parts: Sequence[range]) -> str:
    """`0-2 3 4-7`; of many the first and the last."""
    return in_a_row(list(map(_range, parts)))


def in_a_row(words: Sequence[str]) -> str:
    shown = words if len(words) <= _MOST_NAMED else [*words[: _MOST_NAMED - 2], "...", words[-1]]
    return " ".join(shown)


def _range(part: range) -> str:
    return str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}"
