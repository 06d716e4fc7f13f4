"""An order without a pattern: what a greedy scheduler does when every action takes a random time."""

from __future__ import annotations

import heapq
import random

import numpy as np

from asyncpipe.tables.flat import FlatTable

__all__ = ["irregular"]

_F, _B = 0, 1
_IN_FLIGHT = 48


def irregular(devices: int, stages: int, microbatches: int, seed: int = 0) -> FlatTable:
    """Backwards first, then low microbatches; forwards take 1 to 20 units of time, backwards twice that."""
    rng = random.Random(seed)
    rows: list[list[tuple[int, int, int]]] = [[] for _ in range(devices)]
    ready: list[list[tuple[int, int, int]]] = [[] for _ in range(devices)]
    running: list[tuple[int, int, int, int, int]] = []
    idle = set(range(devices))

    def offer(op: int, stage: int, microbatch: int) -> None:
        heapq.heappush(ready[stage % devices], (-op, microbatch, stage))

    def start(now: int) -> None:
        for device in sorted(idle):
            if ready[device]:
                op, microbatch, stage = heapq.heappop(ready[device])
                rows[device].append((-op, stage, microbatch))
                heapq.heappush(running, (now + rng.randint(1, 20) * (1 - op), device, -op, stage, microbatch))
                idle.discard(device)

    fed = min(_IN_FLIGHT, microbatches)
    for microbatch in range(fed):
        offer(_F, 0, microbatch)
    start(0)
    while running:
        now, device, op, stage, microbatch = heapq.heappop(running)
        idle.add(device)
        if op == _F:
            offer(*((_F, stage + 1, microbatch) if stage < stages - 1 else (_B, stage, microbatch)))
        elif stage:
            offer(_B, stage - 1, microbatch)
        elif fed < microbatches:
            offer(_F, 0, fed)
            fed += 1
        start(now)
    cells = np.array([cell for row in rows for cell in row], np.int32)
    offsets = np.cumsum([0, *map(len, rows)])
    return FlatTable(cells[:, 0].astype(np.int8), cells[:, 1].copy(), cells[:, 2].copy(), offsets, stages, microbatches)
