"""Runs whose streams are metered, whatever else surrounds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from asyncpipe.runtime.backends import Backend
from asyncpipe.runtime.busy import BusyMeter
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.training.sessions import Sessions

__all__ = ["Metered"]


@dataclass(frozen=True)
class Metered:
    """`inner`, with `meter` on the group of each run."""

    inner: Sessions
    meter: BusyMeter = field(default_factory=BusyMeter)

    @property
    def threads(self) -> int | None:
        return self.inner.threads

    @contextmanager
    def around(self, group: ReplicaGroup, backend: Backend, model: nn.Module) -> Iterator[tuple[ReplicaGroup, Backend]]:
        with self.inner.around(group, backend, model) as (used, run):
            yield self.meter.attach(used), run

    def words(self) -> dict[str, Any]:
        return self.inner.words()
