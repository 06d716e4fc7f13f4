"""Where the user's code is to blame that a stage cannot be traced: the module and the line."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from asyncpipe.errors import UserCodeError

__all__ = ["untraceable"]

_INNER = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))
_DATA_DEPENDENT = ("DataDependent", "DynamicOutputShape", "GuardOnDataDependent")


def untraceable(stage: int, module: nn.Module, error: Exception) -> UserCodeError:
    """The error of tracing `module`, with stage, innermost module and innermost line outside of torch."""
    frames = list(traceback.walk_tb(error.__traceback__))
    where = _module_of([frame for frame, _ in frames], module)
    line = _line_of(frames)
    kind = type(error).__name__
    reason = str(error).strip().partition("\n")[0]
    if any(name in kind for name in _DATA_DEPENDENT) or "trying to get value out of" in str(error):
        reason = f"what it does depends on the values of its data ({reason})"
    return UserCodeError(
        f"stage {stage}{where} cannot be traced{line}: {kind}: {reason}",
        "compute with tensor operations only (torch.where for a choice, no .item()), or use --backend threads, which"
        " runs any module",
    )


def _module_of(frames: list[FrameType], root: nn.Module) -> str:
    names = {id(module): name for name, module in root.named_modules()}
    owners = [frame.f_locals.get(frame.f_code.co_varnames[0]) for frame in frames if frame.f_code.co_argcount]
    for owner in reversed(owners):
        if isinstance(owner, nn.Module) and names.get(id(owner)):
            return f", module {names[id(owner)]} ({type(owner).__name__}),"
    return ""


def _line_of(frames: list[tuple[FrameType, int]]) -> str:
    for frame, line in reversed(frames):
        file = frame.f_code.co_filename
        if not file.startswith(("<", *_INNER)):
            return f" at {file}:{line}"
    return ""
