"""The data set that ships with asyncpipe: 1,797 handwritten digits of 8 x 8 pixels (SOURCES.md)."""

from __future__ import annotations

import gzip
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray

from asyncpipe.data.dataset import DataSet, Split

__all__ = ["load_digits", "split_by_class"]


def load_digits() -> DataSet:
    """Images (1, 8, 8) as float32 in [0, 1], targets int64; 1,442 to train on, 355 to test with."""
    file = resources.files("asyncpipe.data").joinpath("digits.csv.gz")
    with file.open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    images: NDArray[np.float32] = table[:, :-1].astype(np.float32).reshape(-1, 1, 8, 8)
    images /= 16
    targets = table[:, -1].astype(np.int64)
    test = split_by_class(targets)
    return DataSet(
        train=_split(images[~test], targets[~test]),
        test=_split(images[test], targets[test]),
        classes=10,
        sample_shape=(1, 8, 8),
    )


def split_by_class(targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples test: in the file's order, every fifth one of its class. No chance is in it."""
    test = np.zeros(len(targets), dtype=np.bool_)
    for target in np.unique(targets):
        test[np.flatnonzero(targets == target)[4::5]] = True
    return test


def _split(images: NDArray[np.float32], targets: NDArray[np.int64]) -> Split:
    return Split(torch.from_numpy(images), torch.from_numpy(targets))
