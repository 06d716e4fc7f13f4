"""User code that runs eagerly and cannot be captured: which operation, which stage, which line."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from torch import Tensor, fx

from asyncpipe.errors import AsyncpipeError, Diagnostic, UserCodeError
from asyncpipe.runtime.out_of_memory import is_out_of_memory
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.blame import origin_of
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.divide import Division

__all__ = ["naming_what_cannot_be_captured", "refuse_host_work"]

_HINT = (
    "a graph runs without the host: replace what copies to it, waits for it or chooses shapes by data; or use"
    " --backend streams, which runs such operations"
)
_OPERATION = re.compile(r"torch\.ops\.(\w+\.\w+(?:\.\w+)?)")


@contextmanager
def naming_what_cannot_be_captured() -> Iterator[None]:
    """AP711 for an error that an operation of a stage raises within; other errors stay as they are."""
    try:
        yield
    except Exception as error:
        found = None if _is_about_memory(error) else _failed(error)
        if found is None:
            raise
        stage, call, operation = found
        raise _uncapturable(stage, call, operation, _reason(error)) from error


def refuse_host_work(stage: TracedStage) -> None:
    """AP711 for operations on other devices than the stage's: a capture cannot hold the host's part of them."""
    for call, division in stage.traces.calls:
        if (node := _elsewhere(division, stage)) is not None:
            where = node.meta["val"].device
            raise _uncapturable(stage, call, str(node.target), f"it works on {where}, the stage is on {_home(stage)}")


def _elsewhere(division: Division, stage: TracedStage) -> fx.Node | None:
    nodes = (node for node in division.joint.graph.graph.nodes if node.op == "call_function")
    made = ((node, node.meta.get("val")) for node in nodes)
    return next((node for node, val in made if isinstance(val, Tensor) and val.device.type != _home(stage)), None)


def _home(stage: TracedStage) -> str:
    return stage.arena.layout.device.type


def _uncapturable(stage: TracedStage, call: Call, operation: str, reason: str) -> UserCodeError:
    traces = stage.traces
    module, position = origin_of(operation, traces.code, call, [*traces.arena.views, *traces.buffers])
    part = "" if position else " of its backward"
    message = f"stage {stage.number}{module} cannot be captured: {operation}{part}: {reason}"
    return UserCodeError.of(Diagnostic("AP711", message, position, _HINT))


def _is_about_memory(error: BaseException) -> bool:
    return any(is_out_of_memory(one) for one in _story(error))


def _reason(error: BaseException) -> str:
    """The first line of what was raised first."""
    return str(_story(error)[-1]).strip().partition("\n")[0]


def _story(error: BaseException) -> list[BaseException]:
    """An error, and those that it came of."""
    found = [error]
    while (cause := found[-1].__cause__) is not None:
        found.append(cause)
    return found


def _failed(error: BaseException) -> tuple[TracedStage, Call, str] | None:
    """The stage, its call and the operation whose graph raised."""
    for one in reversed(_story(error)):
        frames = list(_frames(one.__traceback__))
        stages = [stage for frame, _ in frames if isinstance(stage := _self(frame), TracedStage)]
        lines = [line for frame, line in frames if isinstance(_self(frame), fx.GraphModule)]
        operation = _OPERATION.search(lines[-1]) if lines else None
        if stages and (call := _call(stages[-1])) is not None and (operation or not isinstance(one, AsyncpipeError)):
            # What Inductor has compiled shows no operations.
            return stages[-1], call, operation[1] if operation else "a compiled operation"
    return None


def _frames(at: TracebackType | None) -> Iterator[tuple[FrameType, str]]:
    """Each with the text of its line; the code of a graph is known to linecache."""
    while at is not None:
        yield at.tb_frame, linecache.getline(at.tb_frame.f_code.co_filename, at.tb_lineno, at.tb_frame.f_globals)
        at = at.tb_next


def _self(frame: FrameType) -> object:
    return frame.f_locals.get("self")


def _call(stage: TracedStage) -> Call | None:
    """One of those that it was traced for: all of them run the same lines."""
    return next((call for call, _ in stage.traces.calls), None)
