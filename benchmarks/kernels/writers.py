"""Two writers of the same weights at once: how many of their updates are lost, counted exactly.

Every update of the first writer adds 1, every one of the second 4096, and each makes fewer than 4096: float32 holds
all sums exactly, and the two digits of a weight to the base 4096 say whose updates arrived.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from arena import Machine
from bench import Bench, Result
from lanes import Lanes
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers, States
from asyncpipe.kernels.fused.grid import Grid
from asyncpipe.kernels.fused.launch import FusedUpdate, new_counters
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.scalars import Scalars

__all__ = ["count_lost_updates"]

BASE = 4096
ADDED = (1.0, float(BASE))
MODES = {"racy": (False, False), "atomic": (True, False), "ordered": (False, True)}
"""Each (atomic adds, an edge between every two updates)."""


def count_lost_updates(bench: Bench) -> Result:
    """ArithmeticError where atomic or ordered writers lose one; racy ones may lose any number, even none."""
    on_gpu = bench.machine.device.type == "cuda"
    elements, launches, replays = (2**20, 250, 4) if on_gpu else (40, 2, 2)
    grids = {"32 programs each": Grid(32), "full grid each": bench.machine.grid}
    if not on_gpu:
        grids = {"full grid each": bench.machine.grid}
    results: Result = {"elements": elements, "updates_of_each_writer": launches * replays, "grids": {}}
    for grid_name, grid in grids.items():
        results["grids"][grid_name] = {
            mode: _run(bench.machine, mode, grid, elements, launches, replays) for mode in MODES
        }
    return results


def _run(machine: Machine, mode: str, grid: Grid, elements: int, launches: int, replays: int) -> dict[str, float]:
    atomic, ordered = MODES[mode]
    weights = torch.zeros(elements, device=machine.device)
    writers = [_writer(machine, weights, added, atomic, grid) for added in ADDED]
    lanes = Lanes(machine.device, 2)

    def issue(count: int) -> None:
        lanes.fork()
        for _ in range(count):
            for lane, write in enumerate(writers):
                if ordered:
                    lanes.edge(1 - lane, lane)
                with lanes.on(lane):
                    write()
        lanes.join()

    seconds = _repeat(machine, issue, weights, launches, replays)
    return _count(mode, weights, launches * replays) | {"microseconds_per_update": 1e6 * seconds / launches / 2}


def _writer(machine: Machine, weights: Tensor, added: float, atomic: bool, grid: Grid) -> Callable[[], None]:
    """sgd with lr 1 against a constant gradient, with counters of its own: the two launches overlap."""
    gradient = torch.full_like(weights, -added)
    update = FusedUpdate(
        "sgd",
        Options(atomic=atomic),
        Buffers(weights),
        States(),
        new_counters("sgd", machine.device),
        Scalars(machine.device, lr=1.0),
        grid,
    )
    return lambda: update.flat(gradient)


def _repeat(machine: Machine, issue: Callable[[int], None], weights: Tensor, launches: int, replays: int) -> float:
    """Seconds of one replay. A graph keeps both streams full, which issuing from Python would not."""
    replay: Callable[[], object] = lambda: issue(launches)  # noqa: E731
    if machine.device.type == "cuda":
        issue(1)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            issue(launches)
        replay = graph.replay
        weights.zero_()
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(replays):
        replay()
    if machine.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / replays


def _count(mode: str, weights: Tensor, updates: int) -> dict[str, float]:
    values = weights.to(torch.int64)
    arrived = [int((values % BASE).sum()), int((values // BASE).sum())]
    made = updates * weights.numel()
    lost = [made - count for count in arrived]
    if mode != "racy" and any(lost):
        raise ArithmeticError(f"{mode} writers: expected no lost update, found {lost} of {made} each")
    return {"made": 2 * made, "lost": sum(lost), "lost_share": sum(lost) / (2 * made)}
