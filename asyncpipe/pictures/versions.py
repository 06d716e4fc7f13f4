"""Which weight version each action reads and writes, counted while a program runs or is replayed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from asyncpipe.ir import Action, Op, Program

__all__ = ["Versions"]

_BACKWARD = (Op.B, Op.I, Op.R)


class Versions:
    """Counts the updates of each stage; call `read` at starts and `write` at ends, in the order of their effect.

    An update shows where it is made at its end, and on the device of the forward when its transfer has ended.
    """

    def __init__(self, program: Program, launched: Iterable[Action]) -> None:
        self._program = program
        self._sent = {(action.stage, action.index) for action in launched if action.op is Op.SEND_U}
        self._applied = [0] * program.stages
        self._landed = [0] * program.stages
        self._read: dict[tuple[int, int], int] = {}
        lag = re.fullmatch(r"lag\((\d+)\)", program.forward_weights)
        self._lag = int(lag[1]) if lag else None
        self._stashed = program.backward_weights == "same"

    def read(self, action: Action) -> int | None:
        """The version that an action reads when it starts now; None if it reads no parameters."""
        stage, op, index = action
        if op is Op.F:
            update = index // self._program.every
            version = self._landed[stage] if self._lag is None else max(0, update - self._lag)
            self._read[stage, index] = version
            return version
        if op not in _BACKWARD:
            return None
        latest = self._applied[stage]
        return self._read.get((stage, index), latest) if self._stashed else latest

    def write(self, action: Action) -> tuple[int | None, int | None]:
        """(version, staleness) of an update that ends now; (None, None) for any other action."""
        stage, op, update = action
        if op is Op.SEND_U or (op is Op.U and (stage, update) not in self._sent):
            self._landed[stage] += 1
        if op is not Op.U:
            return None, None
        found = self._applied[stage]
        self._applied[stage] += 1
        first = update * self._program.every
        microbatches = range(first, first + self._program.update_size(update))
        read = [self._read[stage, m] for m in microbatches if (stage, m) in self._read]
        return found + 1, found - min(read) if read else None
