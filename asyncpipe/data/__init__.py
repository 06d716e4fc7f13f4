"""Built-in data sets: `load` reads one with torch, `data_shape` tells its sizes without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from asyncpipe.data.catalog import NAMES, data_root, data_shape

if TYPE_CHECKING:
    from asyncpipe.data.dataset import DataSet

__all__ = ["NAMES", "data_shape", "load"]


def load(name: str, options: Mapping[str, object]) -> DataSet:
    """The data set `name`; UsageError for a wrong name or option, MachineError for missing files."""
    root = data_root(name, options)
    if name == "digits":
        from asyncpipe.data.digits import load_digits

        return load_digits()
    from asyncpipe.data.mnist import load_mnist

    return load_mnist(name, root)
