"""MNIST and Fashion-MNIST from their official idx files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asyncpipe.data.catalog import MnistOptions
from asyncpipe.data.dataset import DataSet, Split
from asyncpipe.data.idx import find_idx, read_idx
from asyncpipe.errors import MachineError

__all__ = ["load_mnist"]

CLASSES = 10
WHERE_FROM = {
    "mnist": "fetch the four .gz files from https://ossci-datasets.s3.amazonaws.com/mnist into a folder and "
    "name it with 'root'",
    "fashion-mnist": "install Debian's package dataset-fashion-mnist, or fetch the four .gz files from "
    "https://github.com/zalandoresearch/fashion-mnist into a folder and name it with 'root'",
}


def load_mnist(name: str, options: MnistOptions) -> DataSet:
    """Images (1, 28, 28) as float32 in [0, 1], targets int64.

    MachineError where a file is missing (what, where, how to get it) or damaged.
    """
    if options.root is None:
        raise MachineError(f"data {name} does not ship with asyncpipe and 'root' names no folder", WHERE_FROM[name])
    root = Path(options.root).expanduser()
    return DataSet(
        train=_split(name, root, "train"),
        test=_split(name, root, "t10k"),
        classes=CLASSES,
        sample_shape=(1, 28, 28),
    )


def _split(name: str, folder: Path, part: str) -> Split:
    images = _file(name, folder, f"{part}-images-idx3-ubyte")
    labels = _file(name, folder, f"{part}-labels-idx1-ubyte")
    pixels, classes = _read(images, (28, 28)), _read(labels, ())
    if len(pixels) != len(classes):
        raise MachineError(
            f"{images} holds {len(pixels):,} images, but {labels} holds {len(classes):,} labels",
            "fetch both files again, from one source",
        )
    if int(classes.max()) >= CLASSES:
        raise MachineError(f"{labels}: expected labels from 0 to 9, found {int(classes.max())}", "fetch it again")
    return Split(pixels.unsqueeze(1).float().div_(255), classes.long())


def _file(name: str, folder: Path, file: str) -> Path:
    path = find_idx(folder, file)
    if path is None:
        missing = f"{folder} holds neither {file} nor {file}.gz" if folder.is_dir() else f"{folder} is no folder"
        raise MachineError(f"data {name} needs the file {file}: {missing}", WHERE_FROM[name])
    return path


def _read(path: Path, item: tuple[int, ...]) -> Tensor:
    items, data = read_idx(path, item)
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).reshape(items, *item))
