"""Pickles that hold numbers, texts and arrays of bytes, as the batches of CIFAR do. Nothing in them is executed.

A pickle names functions and calls them. The few names that such files need mean stand-ins here, which only note what
they are given; any other name is an error before anything is called, and numpy's own functions are never reached.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncpipe.data.folders import read_bytes
from asyncpipe.errors import MachineError

__all__ = ["ByteArray", "read_pickle"]

LARGEST = 2**29
"""Bytes of a file: those of CIFAR have up to 155 million."""


class ByteArray:
    """Stand-in for an array of unsigned bytes; `values` holds it once the pickle is read."""

    __slots__ = ("values",)

    values: NDArray[np.uint8]

    def __setstate__(self, state: Any) -> None:
        """(version, shape, data type, whether in Fortran's order, bytes), as numpy writes it."""
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Kind) or kind.name not in ("u1", b"u1", "uint8", b"uint8"):
            raise pickle.UnpicklingError("an array is not of unsigned bytes")
        if not isinstance(content, bytes) or not all(type(size) is int and size >= 0 for size in shape):
            raise pickle.UnpicklingError("an array has no shape or no bytes")
        if math.prod(shape) != len(content):
            raise pickle.UnpicklingError(f"an array of shape {tuple(shape)} has {len(content):,} bytes")
        flat = np.frombuffer(content, dtype=np.uint8)
        self.values = flat.reshape(shape, order="F" if fortran else "C")


class _Kind:
    """Stand-in for a data type; the byte order that follows says nothing about single bytes."""

    __slots__ = ("name",)

    def __init__(self, name: Any = None, *rest: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass


class _Name:
    """Stand-in for a function or class: it can be called, and nothing about it can be changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *values: Any) -> Any:
        return self._call(*values)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


def _array(*values: Any) -> ByteArray:
    return ByteArray()


def _encode(text: object, encoding: object) -> bytes:
    """How protocol 2 of Python 3 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("bytes are not written as latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _never(*values: Any) -> Any:
    raise pickle.UnpicklingError("it calls numpy.ndarray")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): _never,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which such files do not need")
        return _Name(_NAMES[module, name])


def read_pickle(path: Path, hint: str) -> object:
    """What the file holds, arrays as `ByteArray`, texts of Python 2 as bytes.

    MachineError for anything that is not such a file; `hint` says where to get it.
    """
    if path.is_file() and (size := path.stat().st_size) > LARGEST:
        raise MachineError(f"{path} has {size:,} bytes, more than the {LARGEST:,} allowed", hint)
    content = read_bytes(path, hint)
    try:
        _check_places(content)
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises almost anything
        text = " ".join(str(error).split())
        cause = text if isinstance(error, pickle.UnpicklingError) else f"{type(error).__name__}: {text}"
        raise MachineError(f"{path} is damaged or no pickle of numbers: {cause}; nothing was executed", hint) from error


def _check_places(content: bytes) -> None:
    """Python reserves memory up to the highest place where a pickle remembers a value, be there values or not."""
    for opcode, place, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(place or 0) < len(content):
            raise pickle.UnpicklingError(f"it remembers a value at place {place}")
