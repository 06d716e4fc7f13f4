"""Compiles the fused kernels without a GPU and prints what their cubins hold, as JSON.

python -m tests.kernels.compile_report '{"architecture": 90, "names": ["sgd", "adam"], "misalign": null}' ...

A list with one report for each argument: names of variants, and perhaps a tensor to cut at one element, past the checks
of FusedUpdate. A process of its own: other tests interpret the kernels, and Triton decides between the two when they
are imported.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.nvidia.compiler import get_ptxas

from asyncpipe.kernels.fused.buffers import Buffers, Counters, States
from asyncpipe.kernels.fused.compiled import compiling_for
from asyncpipe.kernels.fused.device.rules import RULES
from asyncpipe.kernels.fused.grid import Grid
from asyncpipe.kernels.fused.launch import FusedUpdate, new_counters
from asyncpipe.kernels.fused.requirements import COUNTERS
from asyncpipe.kernels.fused.scalars import Scalars
from asyncpipe.kernels.fused.table import GradientTable
from asyncpipe.kernels.stamps.rows import StampRows
from tests.kernels.sass import count, disassemble, path_of_wide_accesses, resources
from tests.kernels.variants import VARIANTS, Variant

CPU = torch.device("cpu")
STARTS, LENGTHS = (0, 2016), (2000, 1061)
"""Of two tensors in an arena; neither is a multiple of a block."""
ELEMENTS = STARTS[-1] + LENGTHS[-1]
GRID = Grid(programs=64)
LENGTHS_OF_COUNTERS = {"reads": 2, "histogram": 8}


def main() -> None:
    json.dump([report(**json.loads(argument)) for argument in sys.argv[1:]], sys.stdout)


def report(architecture: int, names: Iterable[str], misalign: str | None) -> dict[str, Any]:
    """What the cubins of these variants hold, or which tool is missing."""
    missing = missing_tool(architecture)
    kernels: list[dict[str, Any]] = []
    stamp = None
    if not missing:
        with compiling_for(architecture), tempfile.TemporaryDirectory() as folder:
            for name in names:
                kernels += rows(name, misalign, Path(folder) / "kernel.cubin")
            stamp = stamp_row(Path(folder) / "kernel.cubin")
    said = {"missing": missing, "architecture": architecture, "triton": triton.__version__}
    return {**said, "rules": [*RULES], "kernels": kernels, "stamp": stamp}


def missing_tool(architecture: int) -> str | None:
    """Why this toolchain cannot compile for an architecture, or None."""
    known = subprocess.run([get_ptxas(architecture).path, "--help"], capture_output=True, text=True, check=True).stdout
    if re.search(rf"\bsm_{architecture}\b", known):
        return None
    return f"the assembler of Triton {triton.__version__} does not know sm_{architecture}"


def rows(name: str, misalign: str | None, cubin: Path) -> Iterator[dict[str, Any]]:
    """What the cubin of each kernel of one variant holds, in the order of their launches."""
    for kernel in compile_variant(VARIANTS[name], misalign):
        cubin.write_bytes(kernel.asm["cubin"])
        blocks = disassemble(triton.knobs.nvidia.nvdisasm.path, cubin)
        yield {
            "variant": name,
            "kernel": kernel.metadata.name,
            "block": GRID.block,
            "threads": 32 * kernel.metadata.num_warps,
            "resources": resources(triton.knobs.nvidia.cuobjdump.path, cubin),
            "instructions": count(instruction for block in blocks for instruction in block.instructions),
            "whole_block": count(path_of_wide_accesses(blocks)),
        }


def stamp_row(cubin: Path) -> dict[str, Any]:
    """The same of the time stamps, with the special registers that they read."""
    kernel = StampRows(64, 8, CPU).compile()
    cubin.write_bytes(kernel.asm["cubin"])
    blocks = disassemble(triton.knobs.nvidia.nvdisasm.path, cubin)
    return {
        "threads": 32 * kernel.metadata.num_warps,
        "resources": resources(triton.knobs.nvidia.cuobjdump.path, cubin),
        "instructions": count(instruction for block in blocks for instruction in block.instructions),
        "registers": sorted(re.findall(r"%(globaltimer|smid)\b", kernel.asm["ptx"])),
    }


def compile_variant(variant: Variant, misalign: str | None) -> list[Any]:
    """Triton's kernels for the architecture that is compiled for, from the launcher that a run uses."""
    given = {name: zeros(variant.dtype(name)) for name in variant.tensors()}
    update = FusedUpdate(
        variant.rule,
        variant.options,
        Buffers(**{name: given[name] for name in ("weights", *variant.buffers)}),
        States(**{name: given[name] for name in variant.states}),
        counters(variant),
        Scalars(CPU),
        GRID,
    )
    if misalign is not None:
        cut_at_one(update, misalign)
    if not variant.table:
        return update.compile(given["gradient"])
    gradients = [given["gradient"][start : start + length] for start, length in zip(STARTS, LENGTHS, strict=True)]
    return update.compile_tensors(GradientTable(STARTS, LENGTHS, CPU), gradients)


def cut_at_one(update: FusedUpdate, name: str) -> None:
    """Let a tensor of `Buffers` or `States` start behind a multiple of 16 bytes; it is checked once, when made."""
    group = "buffers" if name in Buffers._fields else "states"
    tensors = getattr(update, group)
    cut = torch.zeros(ELEMENTS + 1, dtype=getattr(tensors, name).dtype)[1:]
    setattr(update, group, tensors._replace(**{name: cut}))


def counters(variant: Variant) -> Counters:
    """Those of the rule, and those that the variant asks for."""
    asked = {name: torch.zeros(LENGTHS_OF_COUNTERS.get(name, 1), dtype=COUNTERS[name][0]) for name in variant.counters}
    return new_counters(variant.rule, CPU)._replace(**asked)


def zeros(dtype: str) -> Tensor:
    return torch.zeros(ELEMENTS, dtype=getattr(torch, dtype))


if __name__ == "__main__":
    main()
