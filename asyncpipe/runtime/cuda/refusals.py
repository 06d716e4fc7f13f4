"""What a graph cannot have: it repeats one period, and nothing in it may change on the host from launch to launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from asyncpipe.ir import Program
from asyncpipe.runtime.platform import Refusal

__all__ = ["cannot_repeat"]

_HINT = "use --backend streams, which issues every action anew"


class _Changing(NamedTuple):
    """key: of the schedule. text: of a program that has it, else nothing."""

    key: str
    text: Callable[[Program], str]
    why: str


_CHANGING = (
    _Changing(
        "update",
        lambda program: "" if program.scope == "all" else f"update.scope: {program.scope}",
        "whose owner of a stage changes from microbatch to microbatch",
    ),
    _Changing(
        "update",
        lambda program: "" if program.commit == 1 else f"update.commit: {program.commit}",
        "which takes updates back that others have read",
    ),
    _Changing(
        "replicas",
        lambda program: "replicas.sync: push" if program.sync[:1] == ("push",) else "",
        "whose peers are drawn anew for each update",
    ),
)


def cannot_repeat(program: Program) -> list[Refusal]:
    """AP713 for each part of a program that changes from period to period on the host."""
    found = ((one, one.text(program)) for one in _CHANGING)
    return [
        Refusal(one.key, "AP713", f"a graph repeats one period, and cannot have {text}, {one.why}", _HINT)
        for one, text in found
        if text
    ]
