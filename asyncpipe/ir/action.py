"""Actions: the scheduled operations, with their text form and its parser.

`2F0` is the forward pass of stage 2 for microbatch 0. The index of an update `U` counts updates, not
microbatches. Inside a loop body the index is relative to the body's own counter: `2F[m]`, `0B[m-4]`, `1U[g-1]`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

__all__ = ["AUTHORED", "TRANSFERS", "Action", "Op", "parse_action", "parse_relative", "relative_text"]


class Op(StrEnum):
    """The operations, in torch's dialect: `B` is the full backward, `B` = `I` + `W`.

    A schedule's streams run those of `AUTHORED`; transfers and `SYNC` are the compiler's.
    """

    by_update: bool
    """Whether the second index counts updates; that of all others counts microbatches."""

    F = "F"
    B = "B"
    I = "I"  # noqa: E741 - the field's own letter for the input-gradient half of a backward
    W = "W"
    U = "U"
    R = "R"
    SYNC = "SYNC"
    SEND_F = "SEND_F"
    SEND_B = "SEND_B"
    SEND_A = "SEND_A"
    SEND_U = "SEND_U"

    def __init__(self, value: str) -> None:
        self.by_update = value in ("U", "SYNC", "SEND_U")

    @property
    def words(self) -> str:
        return _WORDS[self.value]

    @property
    def is_transfer(self) -> bool:
        return self.value.startswith("SEND")


AUTHORED = (Op.F, Op.B, Op.I, Op.W, Op.U, Op.R)
TRANSFERS = (Op.SEND_F, Op.SEND_B, Op.SEND_A, Op.SEND_U)
_WORDS = {
    "F": "forward",
    "B": "backward",
    "I": "input gradient",
    "W": "weight gradient",
    "U": "update",
    "R": "recompute",
    "SYNC": "replica synchronisation",
    "SEND_F": "transfer of an output",
    "SEND_B": "transfer of a gradient",
    "SEND_A": "transfer of saved activations",
    "SEND_U": "transfer of updated parameters",
}


class Action(NamedTuple):
    """One scheduled operation. `index` is a microbatch, or an update where `op.by_update`."""

    stage: int
    op: Op
    index: int  # type: ignore[assignment]  # tuple.index is of no use here

    def __str__(self) -> str:
        return f"{self.stage}{self.op}{self.index}"

    def shifted(self, offset: int) -> Action:
        return Action(self.stage, self.op, self.index + offset)

    def later(self, microbatches: int, every: int) -> Action:
        """The same action that many microbatches later, a multiple of the `every` that one update takes."""
        return Action(self.stage, self.op, self.index + (microbatches // every if self.op.by_update else microbatches))


_OP = "SEND_[FBAU]|SYNC|[FBIWUR]"
_ABSOLUTE = re.compile(rf"(\d+)({_OP})(\d+)")
_RELATIVE = re.compile(rf"(\d+)({_OP})\[([mg])([+-]\d+)?\]")


def parse_action(text: str) -> Action:
    """The action that `text` (`2F0`) names; ValueError for anything else."""
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected an action such as 2F0, found {text!r}")
    return Action(int(match[1]), Op(match[2]), int(match[3]))


def relative_text(action: Action) -> str:
    """The text of an action whose index is an offset from the body's counter: `0B[m-4]`."""
    counter = "g" if action.op.by_update else "m"
    return f"{action.stage}{action.op}[{counter}{f'{action.index:+d}' if action.index else ''}]"


def parse_relative(text: str) -> Action:
    """The inverse of `relative_text`; ValueError for anything else."""
    match = _RELATIVE.fullmatch(text)
    if match is None or (match[3] == "g") is not Op(match[2]).by_update:
        raise ValueError(f"expected a relative action such as 2F[m-1], found {text!r}")
    return Action(int(match[1]), Op(match[2]), int(match[4] or 0))
