"""Actions: the scheduled operations, with their text form and its parser.

`2F0` is the forward pass of stage 2 for microbatch 0. The index of an update `U` counts updates, not
microbatches. Inside a loop body the index is relative to the body's own counter: `2F[m]`, `0B[m-4]`, `1U[g-1]`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Action", "Op", "parse_action", "parse_relative", "relative_text"]


class Op(StrEnum):
    """The operations, in torch's dialect: `B` is the full backward, `B` = `I` + `W`."""

    F = "F"
    B = "B"
    I = "I"  # noqa: E741 - the field's own letter for the input-gradient half of a backward
    W = "W"
    U = "U"

    @property
    def words(self) -> str:
        return _WORDS[self.value]


_WORDS = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient", "U": "update"}


class Action(NamedTuple):
    """One scheduled operation. `index` is a microbatch, or for `U` an update."""

    stage: int
    op: Op
    index: int  # type: ignore[assignment]  # tuple.index is of no use here

    def __str__(self) -> str:
        return f"{self.stage}{self.op}{self.index}"

    def shifted(self, offset: int) -> Action:
        return Action(self.stage, self.op, self.index + offset)


_ABSOLUTE = re.compile(r"(\d+)([FBIWU])(\d+)")
_RELATIVE = re.compile(r"(\d+)([FBIWU])\[([mg])([+-]\d+)?\]")


def parse_action(text: str) -> Action:
    """The action that `text` (`2F0`) names; ValueError for anything else."""
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected an action such as 2F0, found {text!r}")
    return Action(int(match[1]), Op(match[2]), int(match[3]))


def relative_text(action: Action) -> str:
    """The text of an action whose index is an offset from the body's counter: `0B[m-4]`."""
    counter = "g" if action.op is Op.U else "m"
    return f"{action.stage}{action.op}[{counter}{f'{action.index:+d}' if action.index else ''}]"


def parse_relative(text: str) -> Action:
    """The inverse of `relative_text`; ValueError for anything else."""
    match = _RELATIVE.fullmatch(text)
    if match is None or (match[3] == "g") != (match[2] == "U"):
        raise ValueError(f"expected a relative action such as 2F[m-1], found {text!r}")
    return Action(int(match[1]), Op(match[2]), int(match[4] or 0))
