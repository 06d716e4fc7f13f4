"""A plain text file: where it is, and its characters. No torch, no numpy."""

from __future__ import annotations

from pathlib import Path

from asyncpipe.data.folders import read_bytes
from asyncpipe.errors import MachineError

__all__ = ["characters", "read_characters", "read_text_bytes"]

WHERE_FROM = (
    "name a text with 'file', relative to 'root' or to the working directory; tiny-shakespeare is "
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)


def read_text_bytes(root: str | None, file: str | None) -> bytes:
    """The bytes of `file`, relative to `root`; MachineError where it is missing or empty."""
    path = _path(root, file)
    if not path.is_file():
        raise MachineError(f"data text needs the file {path}, which is not there", WHERE_FROM)
    content = read_bytes(path, "check the file's permissions")
    if not content:
        raise MachineError(f"{path} is empty", WHERE_FROM)
    return content


def read_characters(root: str | None, file: str | None) -> str:
    """The file as UTF-8 text, line ends as they are; MachineError for other bytes, with their place."""
    content = read_text_bytes(root, file)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{_path(root, file)} is no UTF-8 text: byte {error.start:,} is {content[error.start]:#04x}"
        raise MachineError(message, "convert it, or take its bytes (level: byte)") from error


def characters(root: str | None, file: str | None) -> list[str]:
    """The distinct characters of the file, sorted by code point: the id of one is its place."""
    return sorted(set(read_characters(root, file)))


def _path(root: str | None, file: str | None) -> Path:
    assert file is not None, "the options are checked"
    return Path(root or "").expanduser() / Path(file).expanduser()
