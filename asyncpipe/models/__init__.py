"""Built-in models: `build` makes one with torch, `asyncpipe.models.describe` prices its layers without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from asyncpipe.models.plan import NAMES, plan

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NAMES", "build"]


def build(name: str, options: Mapping[str, object], sample_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The model `name`, (batch, *sample_shape) -> (batch, classes); UsageError for a wrong name or option.

    Weights come from torch's global generator: seed it before, the same seed gives the same weights.
    """
    from asyncpipe.models.modules import sequential

    return sequential(plan(name, options, sample_shape, classes).children)
