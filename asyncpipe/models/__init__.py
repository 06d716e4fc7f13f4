"""Built-in models: `build` makes one with torch, `asyncpipe.models.describe` prices its layers without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from asyncpipe.models.plan import NAMES, plan

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NAMES", "build"]


def build(
    name: str,
    options: Mapping[str, object],
    sample_shape: tuple[int, ...],
    classes: int,
    vocabulary: int | None = None,
    target_shape: tuple[int, ...] | None = None,
) -> nn.Sequential:
    """The model `name`, (batch, *sample_shape) -> (batch, classes); UsageError for a wrong name or option.

    With a `vocabulary`, samples are token ids below it. Where targets have the shape of the samples, and for `gpt`
    always, the output is (batch, steps, classes). Weights come from torch's global generator: seed it before, the
    same seed gives the same weights.
    """
    from asyncpipe.models.modules import sequential

    return sequential(plan(name, options, sample_shape, classes, vocabulary, target_shape).children)
