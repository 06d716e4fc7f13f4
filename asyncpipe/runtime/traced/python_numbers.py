"""Numbers that user code draws outside of torch: a trace would repeat the first ones for ever."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy

from asyncpipe.errors import UserCodeError

__all__ = ["refusing_python_numbers"]


@contextmanager
def refusing_python_numbers(stage: int) -> Iterator[None]:
    """UserCodeError if the code within moves the global generator of `random` or numpy; both stay as they were."""
    python, arrays = random.getstate(), numpy.random.get_state()
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # Two traces of such code may differ.
        failure = error
    moved = [] if random.getstate() == python else ["random"]
    moved += [] if _same(numpy.random.get_state(), arrays) else ["numpy.random"]
    random.setstate(python)
    numpy.random.set_state(arrays)
    if moved:
        raise UserCodeError(
            f"stage {stage} draws numbers from {' and '.join(moved)} in its forward; traced once, it would repeat them",
            "draw with torch on the device of the model, as nn.Dropout does, or use --backend threads",
        ) from failure
    if failure is not None:
        raise failure


def _same(one: object, other: object) -> bool:
    """Of two states: (name, key, position, ...)."""
    assert isinstance(one, tuple)
    assert isinstance(other, tuple)
    return numpy.array_equal(one[1], other[1]) and one[2:] == other[2:]
