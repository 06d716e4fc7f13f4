"""How a launch is divided: the numbers that kernels/fused/grid.py derives, against their neighbours."""

from __future__ import annotations

from dataclasses import replace

from arena import Machine, fused_update, new_arenas
from bench import Bench, Contender, Result, measure
from cases import OPTIMIZERS, STORAGES, bytes_per_parameter
from clock import Sample
from gemm import CAPS
from shapes import lengths_of

from asyncpipe.kernels.fused import grid as derived
from asyncpipe.kernels.fused.grid import Grid

__all__ = ["measure_grids"]

BLOCKS = (512, 1024, 2048)
WARPS = (4, 8)
PROGRAMS = (4, 8, 16, 32)


def measure_grids(bench: Bench, optimizer_name: str, size: str) -> Result:
    """Flat, fp32, every combination and some caps; `times_of` is relative to the derived choice."""
    optimizer, storage, shapes = OPTIMIZERS[optimizer_name], STORAGES["fp32"], bench.size(size)
    arenas = new_arenas(bench.machine, shapes, optimizer, storage)
    parameters = sum(lengths_of(shapes))
    moved = parameters * bytes_per_parameter(optimizer, storage)

    def prepare(grid: Grid) -> Sample:
        updates = [fused_update(bench.machine, arena, optimizer, storage, grid=grid) for arena in arenas]
        gradients = [arena.gradient for arena in arenas]
        return bench.clock.prepare(
            lambda step: updates[step % len(updates)].flat(gradients[step % len(updates)]), len(arenas)
        )

    grids = _grids(bench.machine)
    base = _name(bench.machine.grid) if bench.machine.device.type == "cuda" else next(iter(grids))
    contenders = {name: Contender(prepare(grid), moved) for name, grid in grids.items()}
    result = measure(bench, contenders, len(arenas), (base,))
    times = {name: row["microseconds"]["median"] for name, row in result["contenders"].items()}
    fastest = min(times, key=lambda name: times[name])
    verdict = {"derived": base, "fastest": fastest, "derived_of_fastest": times[base] / times[fastest]}
    return {"optimizer": optimizer_name, "storage": "fp32", "size": size, "parameters": parameters, **verdict, **result}


def _grids(machine: Machine) -> dict[str, Grid]:
    if machine.device.type != "cuda":
        small = (machine.grid, replace(machine.grid, programs=1))
        return {_name(grid): grid for grid in small}
    multiprocessors = machine.grid.programs // derived.PROGRAMS
    grids = [
        Grid(multiprocessors * programs, block, warps) for block in BLOCKS for warps in WARPS for programs in PROGRAMS
    ]
    grids += [Grid(cap, machine.grid.block, machine.grid.warps) for cap in CAPS]
    return {_name(grid): grid for grid in (machine.grid, *grids)}


def _name(grid: Grid) -> str:
    return f"block {grid.block}, {grid.warps} warps, {grid.programs} programs"
