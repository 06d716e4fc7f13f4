"""Options, grids and tables that contradict themselves are refused when they are made."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from asyncpipe.kernels.fused.grid import Grid, choose_grid
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.table import GradientTable
from tests.kernels.fused.memory import SMALL, Memory

CPU = torch.device("cpu")


def rejected(message: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transforms": ("shrink", "warp", "bend")},
            "transforms are shrink, clip_norm, delay_compensation, found bend, warp",
        ),
        ({"transforms": ("shrink", "shrink")}, "a transform is there twice: ('shrink', 'shrink')"),
        ({"decay": "coupld"}, "decay is none, coupled, decoupled, found coupld"),
        ({"rounding": "up"}, "rounding is nearest, stochastic, found up"),
        ({"nesterov": True}, "nesterov needs momentum"),
        ({"spike": True}, "spike compensation needs momentum"),
        (
            {"spike": True, "nesterov": True, "momentum": True},
            "spike compensation replaces nesterov: choose one of them",
        ),
        (
            {"spike": True, "nesterov": True},
            "nesterov needs momentum; spike compensation needs momentum;"
            " spike compensation replaces nesterov: choose one of them",
        ),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_rejected(options: dict[str, Any], message: str) -> None:
    with rejected(message):
        Options(**options)


@pytest.mark.parametrize("block", [0, 8, 100, -16])
def test_blocks_are_powers_of_two(block: int) -> None:
    with rejected(f"expected a block of a power of two, at least 16, found {block}"):
        Grid(1, block)


@pytest.mark.parametrize(("programs", "warps"), [(0, 4), (-1, 4), (1, 0)])
def test_a_grid_has_programs_and_warps(programs: int, warps: int) -> None:
    found = f"Grid(programs={programs}, block=16, warps={warps})"
    with rejected(f"expected at least 1 program and 1 warp, found {found}"):
        Grid(programs, 16, warps)


@pytest.mark.parametrize(("blocks", "programs"), [(0, 1), (1, 1), (3, 3), (1000, 3)])
def test_a_launch_has_no_more_programs_than_blocks_nor_than_its_cap(blocks: int, programs: int) -> None:
    assert Grid(3, 16).count(blocks) == programs


def test_a_cap_limits_the_chosen_grid(device: torch.device) -> None:
    assert choose_grid(device, cap=1).programs == 1
    assert choose_grid(device, cap=10**9) == choose_grid(device)


@pytest.mark.parametrize("starts", [(0, 24), (8, 32), (0, -16)], ids=str)
def test_tensors_of_a_table_start_at_multiples_of_sixteen(starts: tuple[int, int]) -> None:
    wrong = [start for start in starts if start % 16 or start < 0]
    with rejected(f"expected tensors that start at multiples of 16 elements, found {wrong}"):
        GradientTable(starts, (8, 8), CPU)


def test_tensors_of_a_table_do_not_overlap() -> None:
    """Two programs would update the same element."""
    GradientTable((32, 0, 16, 16), (8, 16, 16, 0), CPU)
    with rejected("expected tensors without common elements, found ones that start inside others: [16]"):
        GradientTable((16, 0), (8, 17), CPU)


def test_a_table_of_another_arena_or_block_is_rejected(memory: Memory) -> None:
    update = memory.update("sgd", Options(), {}, memory.full(32, 0.0))
    with rejected("expected a table of at most 32 elements in blocks of 16, found 33 in blocks of 16"):
        update.tensors(GradientTable([0, 32], [16, 1], memory.device, SMALL.block), [None, None])
    with rejected("expected a table of at most 32 elements in blocks of 16, found 16 in blocks of 64"):
        update.tensors(GradientTable([0], [16], memory.device, 64), [None])


def test_a_table_takes_one_gradient_for_each_tensor_all_of_one_dtype(memory: Memory) -> None:
    update = memory.update("sgd", Options(), {}, memory.full(32, 0.0))
    table = GradientTable([0, 16], [16, 16], memory.device, SMALL.block)
    with rejected("expected 2 gradients, found 1"):
        update.tensors(table, [None])
    with rejected("gradient 1: expected torch.float32, found torch.bfloat16"):
        update.tensors(table, [memory.full(16, 0.0), memory.full(16, 0.0, torch.bfloat16)])


def test_gradients_of_integers_are_rejected(memory: Memory) -> None:
    update = memory.update("sgd", Options(), {}, memory.full(16, 0.0))
    table = GradientTable([0], [16], memory.device, SMALL.block)
    integers = torch.zeros(16, dtype=torch.int64, device=memory.device)
    with rejected(
        "gradient 0: expected torch.float32 or torch.bfloat16 or torch.float16 or torch.float64, found torch.int64"
    ):
        update.tensors(table, [integers])
