"""The built-in data sets, their options, and what is known of them without reading samples: no torch, no numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncpipe.data.folders import class_names
from asyncpipe.data.idx import find_idx, idx_dimensions
from asyncpipe.data.text_file import characters
from asyncpipe.errors import UsageError
from asyncpipe.options import Boolean, Choice, Integer, Real, Text, option, read_options, suggestion

__all__ = [
    "NAMES",
    "CifarOptions",
    "DataShape",
    "ImageFolderOptions",
    "ImdbOptions",
    "MnistOptions",
    "TextOptions",
    "data_options",
    "data_shape",
]

ROOT = option(None, Text("a folder"))


@dataclass(frozen=True)
class DataShape:
    """Sizes of a data set as the model meets it."""

    sample_shape: tuple[int, ...]
    classes: int
    """How many values a target takes."""
    train_samples: int | None
    """None where only reading the data would tell."""
    vocabulary: int | None = None
    """Inputs are token ids below it; None: they are float32."""
    target_shape: tuple[int, ...] = ()
    """() for one class of a sample, (context,) for one of each position."""


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""


@dataclass(frozen=True)
class MnistOptions:
    """Folder of the idx files."""

    root: str | None = ROOT


@dataclass(frozen=True)
class FashionMnistOptions(MnistOptions):
    """By default where Debian's package dataset-fashion-mnist puts the files."""

    root: str | None = option("/usr/share/datasets/fashion-mnist", Text("a folder"))


@dataclass(frozen=True)
class CifarOptions:
    """Folder of the batches, or the one around it; augmentation of the training part.

    `crop: n` cuts 32 x 32 at random from the image with n pixels of zeros around it; `flip` mirrors one in two.
    """

    root: str | None = ROOT
    crop: int = option(0, Integer(0, 32))
    flip: bool = option(False, Boolean())


@dataclass(frozen=True)
class ImdbOptions:
    """Folder aclImdb, or the one around it; token ids with padding and unknown; tokens of a review."""

    root: str | None = ROOT
    vocabulary: int = option(10_000, Integer(3, 10_000_000))
    length: int = option(400, Integer(1, 100_000))


@dataclass(frozen=True)
class TextOptions:
    """The file, relative to `root`; tokens of a window; what a token is; the share at the end that tests.

    `vocabulary` is for characters: it makes room for that many, and states how many without reading the file.
    """

    root: str | None = ROOT
    file: str | None = option(None, Text("a file"))
    context: int = option(256, Integer(1, 1_000_000))
    level: str = option("char", Choice(("char", "byte")))
    vocabulary: int | None = option(None, Integer(1, 0x110000))
    test: float = option(0.1, Real(0, 1))


@dataclass(frozen=True)
class ImageFolderOptions:
    """Folder with `train` and `val` or `test`; images are `size` x `size`, cut where the shorter side is `resize`.

    `train_crop`: the centre as for tests, a random place, or a random area of 8 to 100 % with an aspect of 3/4 to 4/3
    (Szegedy et al. 2015, arXiv 1409.4842). `classes` states their number without looking at the folder.
    """

    root: str | None = ROOT
    classes: int | None = option(None, Integer(1, 1_000_000))
    size: int = option(224, Integer(1, 4096))
    resize: int | None = option(None, Integer(1, 8192))
    train_crop: str = option("center", Choice(("center", "random", "resized")))
    flip: bool = option(False, Boolean())

    @property
    def shorter_side(self) -> int:
        """By default as 256 is to 224, the usual proportion."""
        return self.size * 8 // 7 if self.resize is None else self.resize


def data_shape(name: str, options: Mapping[str, object]) -> DataShape:
    """Sizes of the built-in data set `name`; UsageError for a wrong name or option.

    Known without the files, but for the characters of a text and the classes of a folder, where an option does not
    state them (MachineError where the file or folder is missing). mnist: the samples of the file's header, if any.
    """
    return _find(name).shape(data_options(name, options))


def data_options(name: str, options: Mapping[str, object]) -> Any:
    """The checked options of the built-in data set `name`, an instance of its dataclass."""
    values = read_options(_find(name).options, f"data {name}", options)
    if isinstance(values, TextOptions):
        _check_text(values)
    if isinstance(values, ImageFolderOptions) and values.shorter_side < values.size:
        message = f"data {name}: option 'resize' must be at least 'size', {values.size}, found {values.resize}"
        raise UsageError(message, "an image of `size` pixels is cut from one with a shorter side of `resize`")
    return values


@dataclass(frozen=True)
class _BuiltIn:
    options: type[Any]
    shape: Callable[[Any], DataShape]


def _digits(options: NoOptions) -> DataShape:
    return DataShape((1, 8, 8), 10, 1_442)


def _mnist(options: MnistOptions) -> DataShape:
    path = None if options.root is None else find_idx(Path(options.root).expanduser(), "train-images-idx3-ubyte")
    return DataShape((1, 28, 28), 10, 60_000 if path is None else idx_dimensions(path, 3)[0])


def _cifar(classes: int) -> Callable[[CifarOptions], DataShape]:
    return lambda options: DataShape((3, 32, 32), classes, 50_000)


def _imdb(options: ImdbOptions) -> DataShape:
    return DataShape((options.length,), 2, 25_000, options.vocabulary)


def _text(options: TextOptions) -> DataShape:
    values = 256 if options.level == "byte" else options.vocabulary or len(characters(options.root, options.file))
    return DataShape((options.context,), values, None, values, (options.context,))


def _image_folder(options: ImageFolderOptions) -> DataShape:
    return DataShape((3, options.size, options.size), options.classes or len(class_names(options.root)), None)


def _check_text(options: TextOptions) -> None:
    if options.file is None:
        raise UsageError("data text needs the option 'file'", "as in {use: text, file: book.txt}")
    if options.level == "byte" and options.vocabulary is not None:
        raise UsageError("data text: option 'vocabulary' is for characters; bytes have 256 values", "leave it out")


_BUILT_IN = {
    "digits": _BuiltIn(NoOptions, _digits),
    "mnist": _BuiltIn(MnistOptions, _mnist),
    "fashion-mnist": _BuiltIn(FashionMnistOptions, _mnist),
    "cifar10": _BuiltIn(CifarOptions, _cifar(10)),
    "cifar100": _BuiltIn(CifarOptions, _cifar(100)),
    "imdb": _BuiltIn(ImdbOptions, _imdb),
    "text": _BuiltIn(TextOptions, _text),
    "imagefolder": _BuiltIn(ImageFolderOptions, _image_folder),
}

NAMES = tuple(_BUILT_IN)


def _find(name: str) -> _BuiltIn:
    if name not in _BUILT_IN:
        hint = f"data sets: {', '.join(NAMES)}"
        raise UsageError(f"no built-in data set is called {name!r}{suggestion(name, NAMES)}", hint)
    return _BUILT_IN[name]
