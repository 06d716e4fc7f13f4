"""How each op looks, in every picture: one colour, one fill. The colours stay apart for the colour-blind (after Okabe
and Ito), and no picture relies on them alone: boxes carry their text."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.ir import Op

__all__ = ["HATCH", "LOOKS", "Look", "legend"]

HATCH = 8
"""The side of the square that a hatch fills, in pixels."""


@dataclass(frozen=True)
class Look:
    colour: str
    ink: str
    """The colour of text on `colour`."""
    hatch: str
    """Lines over the colour, as an SVG path in a square of `HATCH` pixels that repeats."""
    fill: str
    """The character that fills a box in a terminal."""
    ansi: str
    """The terminal's code for ink and colour."""


_DARK, _LIGHT = "#14181d", "#ffffff"
_RISING, _FALLING = "M-2 2L2 -2M0 8L8 0M6 10L10 6", "M-2 6L2 10M0 0L8 8M6 -2L10 2"
_SEND = Look("#b4bcc4", _DARK, "M2 0V8M6 0V8", ">", "30;47")

LOOKS = {
    Op.F: Look("#6db8ec", _DARK, "", "-", "30;46"),
    Op.B: Look("#f0a51e", _DARK, _RISING, "=", "30;43"),
    Op.I: Look("#f5dc5a", _DARK, _FALLING, "+", "30;103"),
    Op.W: Look("#3fb595", _DARK, "M0 4H8", "~", "30;42"),
    Op.U: Look("#c0271f", _LIGHT, "", "#", "97;41"),
    Op.R: Look("#d79cc4", _DARK, "M0 2H8M0 6H8", "%", "30;45"),
    Op.SYNC: Look("#1f5f9e", _LIGHT, _RISING + _FALLING, "@", "97;44"),
    Op.SEND_F: _SEND,
    Op.SEND_B: _SEND,
    Op.SEND_A: _SEND,
    Op.SEND_U: _SEND,
}


def legend(ops: set[Op]) -> list[tuple[str, str, Look]]:
    """(letters, words, look) of these ops, the transfers as one."""
    plain = [(op.value, op.words, LOOKS[op]) for op in LOOKS if op in ops and not op.is_transfer]
    return plain + [("SEND", "transfer", _SEND)] * any(op.is_transfer for op in ops)
