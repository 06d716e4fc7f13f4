"""The built-in data sets, their options, and what is known of them without reading them: no torch."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from asyncpipe.data.idx import find_idx, idx_dimensions
from asyncpipe.errors import UsageError

__all__ = ["NAMES", "data_root", "data_shape"]


@dataclass(frozen=True)
class BuiltIn:
    """A data set by its sizes; `options` are the names of the options that it takes."""

    sample_shape: tuple[int, ...]
    classes: int
    train_samples: int
    options: tuple[str, ...] = ()
    default_root: str | None = None


_BUILT_IN = {
    "digits": BuiltIn((1, 8, 8), 10, 1_442),
    "mnist": BuiltIn((1, 28, 28), 10, 60_000, ("root",)),
    # Where Debian's package dataset-fashion-mnist puts it.
    "fashion-mnist": BuiltIn((1, 28, 28), 10, 60_000, ("root",), "/usr/share/datasets/fashion-mnist"),
}

NAMES = tuple(_BUILT_IN)


def data_shape(name: str, options: Mapping[str, object]) -> tuple[tuple[int, ...], int, int]:
    """Shape of one sample, classes, and training samples, for the built-in data set `name`.

    mnist and fashion-mnist: the training samples are those that the file's header claims, or the official
    60,000 where there is no file. UsageError for a wrong name or option.
    """
    root = data_root(name, options)
    known = _BUILT_IN[name]
    path = None if root is None else find_idx(root, "train-images-idx3-ubyte")
    samples = known.train_samples if path is None else idx_dimensions(path, 3)[0]
    return known.sample_shape, known.classes, samples


def data_root(name: str, options: Mapping[str, object]) -> Path | None:
    """The folder that holds the data set's files, None where there is none; UsageError for a wrong option.

    `root: folder` names it; a relative one is relative to the working directory.
    """
    known = _find(name)
    for option in options:
        if option not in known.options:
            hint = f"options of data {name}: {', '.join(known.options)}" if known.options else "it takes none"
            raise UsageError(f"data {name} has no option {option!r}{_suggestion(str(option), known.options)}", hint)
    root = options.get("root", known.default_root)
    if root is not None and (not isinstance(root, str) or not root):
        raise UsageError(f"data {name}: option 'root' must be the folder of the idx files, found {root!r}")
    return None if root is None else Path(root).expanduser()


def _find(name: str) -> BuiltIn:
    if name not in _BUILT_IN:
        hint = f"data sets: {', '.join(NAMES)}"
        raise UsageError(f"no built-in data set is called {name!r}{_suggestion(name, NAMES)}", hint)
    return _BUILT_IN[name]


def _suggestion(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
