"""Built-in data sets: `load` reads one with torch, `data_shape` tells its sizes without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from asyncpipe.data.catalog import NAMES, DataShape, data_options, data_shape

if TYPE_CHECKING:
    from asyncpipe.data.dataset import DataSet

__all__ = ["NAMES", "DataShape", "data_shape", "load"]


def load(name: str, options: Mapping[str, object]) -> DataSet:
    """The data set `name`; UsageError for a wrong name or option, MachineError for missing files."""
    from asyncpipe.data.loaders import LOADERS

    checked = data_options(name, options)
    return LOADERS[name](checked)
