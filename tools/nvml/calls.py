"""Calls of nvidia-ml-py whose errors are readings: what never answers is asked once, a lost GPU not again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias

from asyncpipe.tools.nvml.readings import Reading, Unavailable

__all__ = ["Attempt", "Calls", "reason_of", "reason_of_number"]

Attempt: TypeAlias = Callable[[Any], Any]
"""A function of the module pynvml; AttributeError where this version of it lacks a name."""

_NEVER = {
    2: "not defined for this GPU",
    3: "not supported by this GPU",
    4: "no permission",
    6: "not found",
    13: "the driver is too old for it",
    25: "the driver has another version of it",
    26: "the driver has it no more",
}
_LOST = {
    15: "the GPU is lost",
    16: "the GPU needs a reset",
    28: "the GPU is not there any more",
}
_FAILED = {
    1: "NVML was shut down",
    9: "the NVIDIA driver is not loaded",
    10: "NVML did not answer in time",
    12: "libnvidia-ml.so.1 is not on this machine",
    18: "the driver was updated under a running kernel module: restart the machine",
    999: "NVML reports an unknown error",
}
_TOO_OLD_BINDINGS = Unavailable("nvidia-ml-py is too old for it")


def reason_of(error: Any) -> Unavailable:
    """An NVMLError as a reading."""
    return reason_of_number(error.value, str(error))


def reason_of_number(number: int, text: str = "") -> Unavailable:
    """A return value of NVML as a reading; `text` for those that have no words here."""
    if number in _NEVER:
        return Unavailable(_NEVER[number])
    return Unavailable(_LOST.get(number) or _FAILED.get(number) or f"NVML: {text or f'error {number}'}", "failed")


class Calls:
    """Asks one GPU through the module `pynvml`, or a stand-in with the same functions."""

    def __init__(self, pynvml: Any) -> None:
        self._pynvml = pynvml
        self._never: dict[Hashable, Unavailable] = {}
        self.lost: Unavailable | None = None

    def ask(self, question: Hashable, attempts: Sequence[Attempt]) -> Reading[Any]:
        """The answer of the first attempt that this driver and this nvidia-ml-py have.

        A `question` that can never be answered here gets its reason without another call.
        """
        known = self.lost or self._never.get(question)
        if known is not None:
            return known
        answer: Reading[Any] = _TOO_OLD_BINDINGS
        for attempt in attempts:
            answer = self.attempt(attempt)
            if not isinstance(answer, Unavailable) or answer.when != "never" or self.lost:
                return answer
        assert isinstance(answer, Unavailable)
        self._never[question] = answer
        return answer

    def attempt(self, attempt: Attempt) -> Reading[Any]:
        """Call it now, also where the GPU is lost: to free memory of this process, say."""
        try:
            return attempt(self._pynvml)
        except AttributeError:
            return _TOO_OLD_BINDINGS
        except self._pynvml.NVMLError as error:
            found = reason_of(error)
            if error.value in _LOST:
                self.lost = found
            return found
