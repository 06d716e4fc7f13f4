"""What a captured period cost: how many nodes, how long it took, how much memory it keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from asyncpipe.runtime.cuda.api import Cuda, Graph

__all__ = ["GraphFacts", "measuring"]


@dataclass
class GraphFacts:
    """nodes: of all graphs, None where the driver does not tell. capture_s: of the capture, executable graphs included.
    period: microbatches of one launch, for each replica. pool_bytes: what the devices have less of since, the fixed
    places of batches included.
    """

    period: int
    graphs: int = 0
    nodes: int | None = None
    capture_s: float = 0.0
    pool_bytes: int = 0

    def count(self, graphs: Sequence[Graph]) -> None:
        counts = [graph.nodes for graph in graphs]
        self.graphs = len(counts)
        self.nodes = None if None in counts else sum(counts)

    @property
    def words(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def measuring(cuda: Cuda, devices: Sequence[int], period: int) -> Iterator[GraphFacts]:
    """Fills in seconds and bytes of what happens within."""
    facts, before, began = GraphFacts(period), _used(cuda, devices), time.perf_counter()
    yield facts
    facts.capture_s = time.perf_counter() - began
    facts.pool_bytes = _used(cuda, devices) - before


def _used(cuda: Cuda, devices: Sequence[int]) -> int:
    return sum(cuda.memory(device).used for device in devices)
