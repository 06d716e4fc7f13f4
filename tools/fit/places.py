"""Where something happens in the user's model: the module, and the line of the user's code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import nn

import asyncpipe

__all__ = ["Place", "Places"]

_OWN = str(Path(__file__).resolve().parent)
_LINKED = str(Path(__file__).absolute().parent)
_NOT_THE_USERS = (str(Path(torch.__file__).parent), f"{Path(asyncpipe.__file__).resolve().parent}{os.sep}", "<")


@dataclass(frozen=True)
class Place:
    """`module` is its name in the model, `kind` its class; file and line are empty and 0 where no code of the user's
    is concerned."""

    module: str = ""
    kind: str = ""
    file: str = ""
    line: int = 0

    @classmethod
    def of_file(cls, file: str, line: int) -> Place:
        return cls(file=_relative(file), line=line)

    def __str__(self) -> str:
        name = f"{self.module} ({self.kind})" if self.module else self.kind
        line = f"{self.file}:{self.line}" if self.file else ""
        return f"{name} at {line}" if name and line else name or line


class Places:
    """Names of a model's modules, by which frames of the interpreter are told apart."""

    def __init__(self, model: nn.Module) -> None:
        self._names = {id(module): name for name, module in model.named_modules()}

    def of(self, module: nn.Module) -> Place:
        return Place(self._names.get(id(module), ""), type(module).__name__)

    def here(self) -> Place:
        """The innermost module whose forward is running, and the innermost line of the user's."""
        frames = list(_running())
        inner = next((module for frame in frames if (module := self._module(frame)) is not None), None)
        file, line = next((place for frame in frames if (place := _line(frame)) is not None), ("", 0))
        named = Place() if inner is None else self.of(inner)
        return Place(named.module, named.kind, file, line)

    def _module(self, frame: FrameType) -> nn.Module | None:
        code = frame.f_code
        owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        return owner if isinstance(owner, nn.Module) and id(owner) in self._names else None


def _running() -> Iterator[FrameType]:
    """The frames between the operation and where this package called the model, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_own(frame):
        frame = frame.f_back
    while frame is not None and not _is_own(frame):
        yield frame
        frame = frame.f_back


def _is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith((_OWN, _LINKED))


def _line(frame: FrameType) -> tuple[str, int] | None:
    file = frame.f_code.co_filename
    return None if file.startswith(_NOT_THE_USERS) else (_relative(file), frame.f_lineno)


def _relative(file: str) -> str:
    """As the user would name it from the working directory."""
    below = os.path.relpath(file)
    return file if below.startswith("..") else below
