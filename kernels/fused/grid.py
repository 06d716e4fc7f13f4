"""How a launch is divided: named numbers with their derivation, instead of tuning at run time.

A block is BLOCK elements of every tensor, worked on by WARPS warps. 128 threads that each load 16 bytes of a two-byte
dtype make 1024 elements; of float32 that is two such loads for each tensor, which are in flight together.

By Little's law a memory of 4.3 TB/s and 0.8 us needs 3.4 MB in flight, 26 KB for each of an H200's 132
multiprocessors. The block that loads least (a norm, bfloat16 sgd without momentum) has 4 KB in flight, sgd with
momentum in float32 12 KB: PROGRAMS for each multiprocessor are enough for all. With REGISTERS for each thread, which
lets the compiler issue all loads of a block before the first of them is used, at least four programs fit at once;
where fewer than eight fit, those that come second still load 30 KB. More programs would be more tickets
(device/finish.py). A smaller cap leaves multiprocessors to other streams.

Derived from the compiled code, not measured yet: benchmarks/kernels sweeps these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

__all__ = ["BLOCK", "PROGRAMS", "REGISTERS", "WARPS", "Grid", "choose_grid"]

BLOCK = 1024
WARPS = 4
PROGRAMS = 8
REGISTERS = 128


@dataclass(frozen=True)
class Grid:
    """At most `programs` programs of `warps` warps, each going from block to block of `block` elements."""

    programs: int
    block: int = BLOCK
    warps: int = WARPS

    def __post_init__(self) -> None:
        if self.programs < 1 or self.warps < 1:
            raise ValueError(f"expected at least 1 program and 1 warp, found {self}")
        if self.block < 16 or self.block != triton.next_power_of_2(self.block):
            raise ValueError(f"expected a block of a power of two, at least 16, found {self.block}")

    def count(self, blocks: int) -> int:
        """Programs for that many blocks; at least one, since the update is counted even where nothing is stored."""
        return max(1, min(blocks, self.programs))


def choose_grid(device: torch.device, cap: int | None = None) -> Grid:
    """The grid for a device, with at most `cap` programs."""
    multiprocessors = 1
    if device.type == "cuda":
        multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    programs = multiprocessors * PROGRAMS
    return Grid(programs if cap is None else min(cap, programs))
