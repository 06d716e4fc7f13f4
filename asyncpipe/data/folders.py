"""Folders of data sets: where their files are, and what is said where they are not. No torch, no numpy."""

from __future__ import annotations

import os
from pathlib import Path

from asyncpipe.errors import MachineError

__all__ = ["class_names", "data_folder", "image_folder", "listing", "read_bytes", "subfolders"]

IMAGES = (
    "arrange the images as ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg (or `test`), and name the folder "
    "with root: ROOT"
)


def data_folder(name: str, root: str | None, inner: str, file: str, hint: str) -> Path:
    """The folder of `file`: `root` itself, or `inner` in it, if any. MachineError that says how to get it."""
    if root is None:
        raise MachineError(f"data {name} does not ship with asyncpipe and 'root' names no folder", hint)
    folder = Path(root).expanduser()
    for place in (folder, folder / inner):
        if os.path.exists(place / file):  # False, not an error, where the user may not look
            return place
    if not os.path.isdir(folder):
        raise MachineError(f"data {name} needs {file}: {folder} is no folder", hint)
    places = f"neither {folder} nor {folder / inner} holds it" if inner else f"{folder} does not hold it"
    raise MachineError(f"data {name} needs {file}: {places}", hint)


def read_bytes(path: Path, hint: str) -> bytes:
    """All of a file; MachineError where it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}", hint) from error


def image_folder(root: str | None) -> tuple[Path, Path]:
    """The training and the test folder in `root`."""
    folder = data_folder("imagefolder", root, "", "train", IMAGES)
    for name in ("val", "test"):
        if os.path.isdir(folder / name):
            return folder / "train", folder / name
    raise MachineError(f"data imagefolder needs a folder to test with: {folder} holds neither val nor test", IMAGES)


def class_names(root: str | None) -> list[str]:
    """Names of the class folders to train on, sorted: the class of a name is its place."""
    train, _ = image_folder(root)
    names = subfolders(train)
    if not names:
        raise MachineError(f"data imagefolder: {train} holds no folder of a class", IMAGES)
    return names


def subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in `folder`, hidden ones left out."""
    return [path.name for path in listing(folder) if path.is_dir() and not path.name.startswith(".")]


def listing(folder: Path) -> list[Path]:
    """What is in `folder`, sorted by name; MachineError where that cannot be read."""
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise MachineError(f"cannot read {folder}: {error.strerror}", "check its name and permissions") from error
