"""Where the user's code is to blame that a stage cannot be traced or captured: the module and the line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from asyncpipe.errors import Diagnostic, Position, UserCodeError
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.stage_code import StageCode
from asyncpipe.runtime.traced.torch_tracing import Fakes
from asyncpipe.runtime.traced.user_run import UserRun

__all__ = ["Origin", "origin_of", "untraceable"]

_INNER = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))
_DATA_DEPENDENT = ("DataDependent", "DynamicOutputShape", "GuardOnDataDependent")

_REMEDY = "compute with tensor operations only (torch.where for a choice, no .item())"
_REMEDIES = {"ParameterWritten": "compute what the layer uses from the parameter (x = weight.clamp(-1, 1))"}

Frames = Sequence[tuple[FrameType, int]]
"""Frames from the outermost one, each with the index of its last instruction."""
Origin = tuple[str, Position | None]
"""(`, module 1 (Linear),` or nothing, the line of the user's code)."""


def untraceable(stage: int, module: nn.Module, error: Exception) -> UserCodeError:
    """AP710: the error of tracing `module`, with stage, innermost module and innermost line outside of torch."""
    where, position = _origin(_frames_of(error), module)
    kind = type(error).__name__
    reason = str(error).strip().partition("\n")[0]
    if any(name in kind for name in _DATA_DEPENDENT) or "trying to get value out of" in str(error):
        reason = f"what it does depends on the values of its data ({reason})"
    return UserCodeError.of(
        Diagnostic(
            "AP710",
            f"stage {stage}{where} cannot be traced: {kind}: {reason}",
            position,
            f"{_REMEDIES.get(kind, _REMEDY)}, or use --backend threads, which runs any module",
        )
    )


def origin_of(operation: str, code: StageCode, call: Call, tensors: Sequence[torch.Tensor]) -> Origin:
    """What in a stage's forward calls an operation such as `aten.inverse`, found by running it on tensors without data.

    tensors: its parameters and buffers. Nothing for an operation of the backward alone.
    """
    fakes = Fakes()
    run = UserRun(code, call, (False,) * len(call.inputs))
    watch = _Watch(operation)

    def watched(*arguments: torch.Tensor) -> Any:
        with watch:
            return run.forward(*arguments)

    fakes.run(watched, fakes.of([*call.inputs, *call.target_tensors, *tensors]))
    return _origin(watch.frames, code.module)


class _Watch(TorchDispatchMode):
    """Keeps the frames of the first call of an operation; another overload, or its form in place, counts too."""

    def __init__(self, operation: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wanted = _base_name(operation)
        self.frames: Frames = ()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.frames and _base_name(str(func)) == self._wanted:
            self.frames = _frames_now()
        return func(*args, **(kwargs or {}))


def _base_name(operation: str) -> str:
    """`aten.relu` of `aten.relu_.default`."""
    return ".".join(operation.split(".")[:2]).rstrip("_")


def _frames_now() -> Frames:
    """Of the run of the user's code that calls this."""
    frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not UserRun.forward.__code__:
        frames.append((frame, frame.f_lasti))
        frame = frame.f_back
    return frames[::-1]


def _frames_of(error: BaseException) -> Frames:
    frames = []
    at = error.__traceback__
    while at is not None:
        frames.append((at.tb_frame, at.tb_lasti))
        at = at.tb_next
    return frames


def _origin(frames: Frames, root: nn.Module) -> Origin:
    """The innermost module of `root`, and the innermost line outside of torch, that these frames run."""
    names = {id(module): name for name, module in root.named_modules()}
    owners = [frame.f_locals.get(frame.f_code.co_varnames[0]) for frame, _ in frames if frame.f_code.co_argcount]
    modules = (owner for owner in reversed(owners) if isinstance(owner, nn.Module) and names.get(id(owner)))
    module = next((f", module {names[id(owner)]} ({type(owner).__name__})," for owner in modules), "")
    own = (at for at in reversed(frames) if not at[0].f_code.co_filename.startswith(("<", *_INNER)))
    return module, next((_position(*at) for at in own), None)


def _position(frame: FrameType, instruction: int) -> Position:
    """Of an expression on one line its length too; the file as seen from the working directory, if it is below."""
    line, end_line, column, end_column = list(frame.f_code.co_positions())[instruction // 2]
    length = (end_column or 1) - (column or 0) if line == end_line else 1
    return Position(_shown(frame.f_code.co_filename), line or frame.f_lineno, (column or 0) + 1, max(length, 1))


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
