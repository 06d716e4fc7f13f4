"""Asynchronous, decoupled training as data: a schedule language, its compiler, and the back ends that run it.

Heavy parts load on first use: `import asyncpipe` brings no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpipe.api import compile, simulate
    from asyncpipe.schedule import load
    from asyncpipe.training import Trainer

__all__ = ["Trainer", "__version__", "compile", "load", "simulate"]
__version__ = "0.1.0"

_DOORS = {
    "Trainer": "asyncpipe.training",
    "load": "asyncpipe.schedule",
    "compile": "asyncpipe.api",
    "simulate": "asyncpipe.api",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'asyncpipe' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_DOORS[name]), name)
