"""A flat table: every action of every device written out, in arrays. Text form of an action: `2F0`, `3RECV_F0`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asyncpipe.errors import UsageError

__all__ = ["OPS", "RECV_B", "RECV_F", "SEND_B", "SEND_F", "B", "F", "FlatTable", "I", "Int64", "Site", "W", "from_text"]

OPS = ("F", "B", "I", "W", "SEND_F", "RECV_F", "SEND_B", "RECV_B")
F, B, I, W, SEND_F, RECV_F, SEND_B, RECV_B = range(8)  # noqa: E741 - the field's own letter
Int64 = NDArray[np.int64]
_ACTION = re.compile(r"(\d+)(F|B|I|W|SEND_F|RECV_F|SEND_B|RECV_B)(\d+)")


class Site(NamedTuple):
    """Where an action stands: its device, its 0-based position in that device's order, its text."""

    device: int
    position: int
    action: str

    def __str__(self) -> str:
        return f"{self.action} (device {self.device}, position {self.position})"


@dataclass(frozen=True, eq=False)
class FlatTable:
    """The orders of all devices, one after the other; `op` holds indices into `OPS`.

    Device d runs the actions `offsets[d]` to `offsets[d + 1] - 1`. `lowered` where transfers between devices are
    actions of their own: SEND_F and SEND_B hand over the output of `stage` and the gradient for the stage below it, and
    never wait for the receiver; RECV_F and RECV_B wait for what `stage` needs from the stage below and above.
    """

    op: NDArray[np.int8]
    stage: NDArray[np.int32]
    microbatch: NDArray[np.int32]
    offsets: Int64
    stages: int
    microbatches: int
    lowered: bool = False

    def __len__(self) -> int:
        return len(self.op)

    @property
    def devices(self) -> int:
        return len(self.offsets) - 1

    def text(self, index: int) -> str:
        """The action at this index of the arrays."""
        op = int(self.op[index])
        name = OPS[op] if 0 <= op < len(OPS) else f"?{op}?"
        return f"{self.stage[index]}{name}{self.microbatch[index]}"

    def site(self, index: int) -> Site:
        device = int(np.searchsorted(self.offsets[1:], index, side="right"))
        return Site(device, index - int(self.offsets[device]), self.text(index))

    def rows(self) -> list[list[str]]:
        """The text of each device's actions."""
        return [[self.text(i) for i in range(a, b)] for a, b in pairwise(self.offsets.tolist())]


def from_text(
    rows: Sequence[Sequence[str]], stages: int | None = None, microbatches: int | None = None, lowered: bool = False
) -> FlatTable:
    """The table of these actions; numbers not given are the highest ones plus 1. UsageError for what is no action."""
    cells = [_parse(text, device, position) for device, row in enumerate(rows) for position, text in enumerate(row)]
    values = np.array(cells, np.int64).reshape(-1, 3)
    highest = values.max(axis=0, initial=-1)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return FlatTable(
        values[:, 1].astype(np.int8),
        values[:, 0].astype(np.int32),
        values[:, 2].astype(np.int32),
        offsets,
        int(highest[0]) + 1 if stages is None else stages,
        int(highest[2]) + 1 if microbatches is None else microbatches,
        lowered,
    )


def _parse(text: str, device: int, position: int) -> tuple[int, int, int]:
    match = _ACTION.fullmatch(text)
    if match is None or max(len(match[1]), len(match[3])) > 9:
        where = f"device {device}, position {position}"
        raise UsageError(
            f"{where}: expected an action such as 2F0, found {text!r}", f"the operations are {', '.join(OPS)}"
        )
    return int(match[1]), OPS.index(match[2]), int(match[3])
