"""An update next to matrix products that read the same weights, as a forward of another microbatch does."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from arena import fused_update, new_arenas
from bench import Bench, Result
from cases import OPTIMIZERS, STORAGES, bytes_per_parameter
from clock import Work, interleave, ratios, spread
from lanes import Lanes

from asyncpipe.kernels.fused.grid import Grid

__all__ = ["CAPS", "measure_gemm"]

WIDTH, MATRICES = 4096, 6
SMOKE_WIDTH = 4
CAPS = (16, 32, 132)
"""Programs of a capped grid: a sixteenth, a quarter, and one for each multiprocessor of an H100 or H200."""


def measure_gemm(bench: Bench) -> Result:
    """bf16 weights with a float32 master copy: the products read them while the update stores them."""
    on_gpu = bench.machine.device.type == "cuda"
    width = WIDTH if on_gpu else SMOKE_WIDTH
    optimizer, storage = OPTIMIZERS["sgd"], STORAGES["bf16 + fp32 master"]
    arena = new_arenas(bench.machine, ((width, width),) * MATRICES, optimizer, storage, sets=1)[0]
    products = _products(arena.weights.view(MATRICES, width, width))
    grids = {"full grid": bench.machine.grid} | _capped(bench.machine.grid)
    works: dict[str, Work] = {"products alone": lambda step: products()}
    for name, grid in grids.items():
        update = fused_update(bench.machine, arena, optimizer, storage, grid=grid)
        works |= _together(bench, name, functools.partial(update.flat, arena.gradient), products)
    samples = {name: bench.clock.prepare(work, 1) for name, work in works.items()}
    seconds = interleave(bench.clock, samples, bench.rounds)
    parameters = MATRICES * width * width
    return {
        "parameters": parameters,
        "update_bytes": parameters * bytes_per_parameter(optimizer, storage),
        "microseconds": {name: spread([1e6 * taken for taken in values]) for name, values in seconds.items()},
        "two_streams_of_one": {
            name: ratios(seconds[f"two streams, {name}"], seconds["one stream, full grid"]) for name in grids
        },
        "two_streams_of_products": {
            name: ratios(seconds[f"two streams, {name}"], seconds["products alone"]) for name in grids
        },
    }


def _capped(grid: Grid) -> dict[str, Grid]:
    return {f"{cap} programs": Grid(cap, grid.block, grid.warps) for cap in CAPS if cap < grid.programs}


def _products(weights: torch.Tensor) -> Callable[[], None]:
    """A chain of y <- x W', one for each matrix; outputs are overwritten in turns."""
    inputs = torch.randn_like(weights[0])
    outputs = [torch.empty_like(inputs) for _ in range(2)]

    def run() -> None:
        for index, matrix in enumerate(weights):
            torch.mm(inputs, matrix.t(), out=outputs[index % 2])

    return run


def _together(bench: Bench, name: str, update: Callable[[], None], products: Callable[[], None]) -> dict[str, Work]:
    lanes = Lanes(bench.machine.device, 2)

    def one_stream(step: int) -> None:
        update()
        products()

    def two_streams(step: int) -> None:
        lanes.fork()
        # The smaller side first: issued last it would wait for a place.
        with lanes.on(0):
            update()
        with lanes.on(1):
            products()
        lanes.join()

    return {
        f"update alone, {name}": lambda step: update(),
        f"one stream, {name}": one_stream,
        f"two streams, {name}": two_streams,
    }
