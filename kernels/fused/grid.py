"""How a launch is divided: named numbers with their derivation, instead of tuning at run time.

A block is BLOCK elements of every tensor, worked on by WARPS warps. 128 threads that each load 16 bytes of a two-byte
dtype make 1024 elements; of float32 that is two such loads for each tensor, which are in flight together.

By Little's law a memory of 4.3 TB/s and 0.8 us needs 3.4 MB in flight, 26 KB for each of an H200's 132
multiprocessors. A block of sgd with momentum has 12 KB in flight, so three programs at a time would do. PROGRAMS for
each multiprocessor are what fits (2,048 threads), so that a program that computes is covered by others that load. More
would wait for a place, and each would cost a ticket (device/finish.py). A smaller cap leaves multiprocessors to other
streams. Derived, not measured yet: benchmarks/kernels sweeps both numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

__all__ = ["BLOCK", "PROGRAMS", "WARPS", "Grid", "choose_grid"]

BLOCK = 1024
WARPS = 4
PROGRAMS = 16


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
