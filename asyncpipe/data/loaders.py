"""Who loads which data set, from its checked options."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from asyncpipe.data.cifar import load_cifar
from asyncpipe.data.dataset import DataSet
from asyncpipe.data.digits import load_digits
from asyncpipe.data.imagefolder import load_image_folder
from asyncpipe.data.imdb import load_imdb
from asyncpipe.data.mnist import load_mnist
from asyncpipe.data.text import load_text

__all__ = ["LOADERS"]

LOADERS: dict[str, Callable[[Any], DataSet]] = {
    "digits": lambda options: load_digits(),
    "mnist": partial(load_mnist, "mnist"),
    "fashion-mnist": partial(load_mnist, "fashion-mnist"),
    "cifar10": partial(load_cifar, "cifar10"),
    "cifar100": partial(load_cifar, "cifar100"),
    "imdb": load_imdb,
    "text": load_text,
    "imagefolder": load_image_folder,
}
