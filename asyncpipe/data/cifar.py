"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their official batches for Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asyncpipe.data.augment import Pixels
from asyncpipe.data.catalog import CifarOptions
from asyncpipe.data.dataset import DataSet, Split
from asyncpipe.data.folders import data_folder
from asyncpipe.data.pickles import ByteArray, read_pickle
from asyncpipe.errors import MachineError

__all__ = ["load_cifar"]

SHAPE = (3, 32, 32)
PIXELS = 3_072


@dataclass(frozen=True)
class Format:
    """Archive, files, the key of the labels, and mean and deviation of the training pixels by channel, in [0, 1]."""

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: str
    classes: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    @property
    def where_from(self) -> str:
        address = f"https://www.cs.toronto.edu/~kriz/{self.archive}"
        return f"unpack {address} and name {self.folder}, or the folder around it, with 'root'"


FORMATS = {
    "cifar10": Format(
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        "labels",
        10,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Format(
        "cifar-100-python.tar.gz",
        "cifar-100-python",
        ("train",),
        "test",
        "fine_labels",
        100,
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
}


def load_cifar(name: str, options: CifarOptions) -> DataSet:
    """Images (3, 32, 32), red, green, blue; kept as bytes and normalised to float32 by the batch.

    MachineError where a file is missing (what, where, how to get it) or damaged.
    """
    format = FORMATS[name]
    folder = data_folder(name, options.root, format.folder, format.train[0], format.where_from)
    plain = Pixels(format.mean, format.deviation)
    augmented = Pixels(format.mean, format.deviation, options.crop, options.flip)
    return DataSet(
        train=_split(format, [folder / file for file in format.train], augmented),
        test=_split(format, [folder / format.test], plain),
        classes=format.classes,
        sample_shape=SHAPE,
    )


def _split(format: Format, files: list[Path], pixels: Pixels) -> Split:
    parts = [_batch(format, file) for file in files]
    images = np.concatenate([images for images, _ in parts]).reshape(-1, *SHAPE)
    labels = np.concatenate([labels for _, labels in parts])
    return Split(torch.from_numpy(images), torch.from_numpy(labels), pixels)


def _batch(format: Format, file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (samples, 3072), the red plane first, each row by row; labels (samples,)."""
    content = read_pickle(file, format.where_from)
    images, labels = _entry(content, "data"), _entry(content, format.labels)
    pixels = images.values if isinstance(images, ByteArray) and hasattr(images, "values") else None
    if pixels is None or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        found = "none" if pixels is None else f"shape {pixels.shape}"
        raise _damaged(format, file, f"expected an array 'data' of shape (samples, {PIXELS}), found {found}")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        found = f"{len(labels):,}" if isinstance(labels, list) else "none"
        raise _damaged(format, file, f"expected a list '{format.labels}' of {len(pixels):,} labels, found {found}")
    for label in labels:
        if type(label) is not int or not 0 <= label < format.classes:
            raise _damaged(format, file, f"expected labels from 0 to {format.classes - 1}, found {label!r}")
    return pixels, np.array(labels, dtype=np.int64)


def _entry(content: object, key: str) -> Any:
    """A value by its name, which Python 2 wrote as bytes."""
    return content.get(key.encode(), content.get(key)) if isinstance(content, dict) else None


def _damaged(format: Format, file: Path, cause: str) -> MachineError:
    return MachineError(f"{file} is damaged or no batch of {format.folder}: {cause}", format.where_from)
