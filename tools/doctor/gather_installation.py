"""asyncpipe's own files, and the data sets whose files are where they should be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from asyncpipe.errors import UserError
from asyncpipe.tools.doctor.environment import Installation

__all__ = ["DATA_SETS", "data_problem", "gather_installation"]

_IMAGES = "train-images-idx3-ubyte"
DATA_SETS = {
    "fashion-mnist": ("", (_IMAGES, f"{_IMAGES}.gz")),
    "mnist": ("", (_IMAGES, f"{_IMAGES}.gz")),
    "cifar10": ("cifar-10-batches-py", ("data_batch_1",)),
    "cifar100": ("cifar-100-python", ("train",)),
    "imdb": ("aclImdb", ("train",)),
    "imagefolder": ("", ("train",)),
}
"""The folder that an archive unpacks, and the files of which one must be in it, or in the folder that is named."""


def gather_installation(data: Mapping[str, str]) -> Installation:
    """`data` are folders by the names of data sets."""
    import asyncpipe

    folder = Path(asyncpipe.__file__).parent
    schedules, jobs, problem = _library()
    ships = "" if (folder / "data" / "digits.csv.gz").exists() else f"{folder / 'data'} lacks digits.csv.gz"
    roots = {**_default_roots(), **data}
    return Installation(
        version=asyncpipe.__version__,
        folder=str(folder),
        schedules=schedules,
        jobs=jobs,
        problem=problem,
        data={"digits": ships, **{name: data_problem(name, root) for name, root in roots.items()}},
        data_asked=tuple(data),
    )


def data_problem(name: str, root: str) -> str:
    """Why the files of a data set are not in `root`; empty where they are."""
    inner, files = DATA_SETS[name]
    folder = Path(os.path.expanduser(root))
    if any(os.path.exists(place / file) for place in (folder, folder / inner) for file in files):
        return ""
    problem = "does not hold it" if os.path.isdir(folder) else "is no folder"
    return f"data {name} needs {' or '.join(files)}: {folder} {problem}"


def _default_roots() -> dict[str, str]:
    """The folders where data sets are looked for when a job names none."""
    from asyncpipe.data.catalog import data_options

    roots = {name: getattr(data_options(name, {}), "root", None) for name in DATA_SETS}
    return {name: root for name, root in roots.items() if root is not None}


def _library() -> tuple[int, int, str]:
    """How many schedules and jobs can be read, and the first thing that is wrong with them."""
    from asyncpipe.schedule import library, load
    from asyncpipe.schedule.job import job_library

    try:
        schedules = [load(name) for name in library()]
        jobs = job_library()
    except (UserError, OSError) as error:
        return 0, 0, str(error).partition("\n")[0]
    if not schedules or not jobs:
        return len(schedules), len(jobs), "it has no schedules or jobs"
    return len(schedules), len(jobs), ""
