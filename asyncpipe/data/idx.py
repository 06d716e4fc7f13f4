"""The idx format of MNIST, unsigned bytes only, plain or gzip; no torch, no numpy.

Header, big-endian: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, then each as 32 bits
(http://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from asyncpipe.errors import MachineError

__all__ = ["find_idx", "idx_dimensions", "read_idx"]

File = BinaryIO | gzip.GzipFile

UNSIGNED_BYTE = 0x08
LARGEST = 2**31
"""Bytes of data that a file may claim: MNIST has 47 million, a damaged header any number."""


def find_idx(root: Path, name: str) -> Path | None:
    """The file `name` or `name.gz` in `root`, the plain one first."""
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def idx_dimensions(path: Path, count: int) -> tuple[int, ...]:
    """The `count` dimensions in the header; MachineError where the file is no idx file of unsigned bytes."""
    with _open(path) as file:
        return _header(path, file, count)


def read_idx(path: Path, item: tuple[int, ...]) -> tuple[int, bytearray]:
    """How many items of shape `item` the file holds, and their bytes; MachineError where it is damaged."""
    with _open(path) as file:
        items, *found = _header(path, file, 1 + len(item))
        if tuple(found) != item:
            raise _damaged(path, f"expected items of shape {item}, found {tuple(found)}")
        if items == 0:
            raise _damaged(path, "its header claims 0 items")
        return items, _data(path, file, items * math.prod(item))


def _open(path: Path) -> File:
    try:
        return gzip.GzipFile(path, "rb") if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}", "check the file's permissions") from error


def _header(path: Path, file: File, count: int) -> tuple[int, ...]:
    size = 4 + 4 * count
    header = _read(path, file, size)
    magic = bytes((0, 0, UNSIGNED_BYTE, count))
    if len(header) >= 4 and header[:4] != magic:
        raise _damaged(path, f"expected it to begin with the bytes {magic.hex(' ')}, found {header[:4].hex(' ')}")
    if len(header) < size:
        raise _damaged(path, f"expected a header of {size} bytes, found {len(header)} bytes in all")
    return struct.unpack(f">{count}I", header[4:])


def _data(path: Path, file: File, size: int) -> bytearray:
    if size > LARGEST:
        raise _damaged(path, f"its header claims {size:,} bytes of data, more than the {LARGEST:,} allowed")
    # One byte more than there should be, to see whether the file goes on.
    data = _read(path, file, size + 1)
    if len(data) > size:
        raise _damaged(path, f"expected {size:,} bytes of data, as its header says, found more")
    if len(data) < size:
        raise _damaged(path, f"expected {size:,} bytes of data, as its header says, found {len(data):,}")
    return data


def _read(path: Path, file: File, size: int) -> bytearray:
    """Up to `size` bytes, in pieces: memory follows what the file holds, not what its header claims."""
    data = bytearray()
    try:
        while len(data) < size and (piece := file.read(min(size - len(data), 2**20))):
            data += piece
    except (EOFError, OSError, zlib.error) as error:
        cause = f"reading breaks off after at least {len(data):,} of {size:,} bytes ({error})"
        raise _damaged(path, cause) from error
    return data


def _damaged(path: Path, cause: str) -> MachineError:
    return MachineError(f"{path} is damaged or no idx file: {cause}", "fetch the file again")
