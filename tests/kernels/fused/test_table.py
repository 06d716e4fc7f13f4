"""Gradients that arrive as separate tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers
from asyncpipe.kernels.fused.grid import Grid
from asyncpipe.kernels.fused.issuing import ADDRESSES, CapturedAddresses
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.table import KEPT, GradientTable
from tests.kernels.fused.memory import Memory, grid_for, relative_error, same_bits
from tests.kernels.fused.reference import Reference
from tests.kernels.fused.variants import VARIANTS

GRID = Grid(programs=3, block=32)
LENGTHS = (1, 15, 16, 17, 0, 100, 3)
STARTS = (0, 16, 32, 64, 96, 112, 224)
END = 240
"""With gaps behind most tensors, and one whole unused piece of 16 before the last but one."""
UNUSED = torch.ones(END, dtype=torch.bool)
for start, length in zip(STARTS, LENGTHS, strict=True):
    UNUSED[start : start + length] = False


def cut(flat: Tensor) -> list[Tensor]:
    return [flat[start : start + length] for start, length in zip(STARTS, LENGTHS, strict=True)]


def table(memory: Memory, block: int = GRID.block) -> GradientTable:
    return GradientTable(STARTS, LENGTHS, memory.device, block)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("momentum, decay", torch.float32),
        ("adamw, amsgrad", torch.bfloat16),
        ("nadam", torch.float64),
        ("lion, decay", torch.float16),
    ],
)
def test_tensors_get_the_bits_of_a_flat_gradient(memory: Memory, name: str, dtype: torch.dtype) -> None:
    rule, options, numbers = VARIANTS[name]
    values = torch.randn(END)
    flat, apart = memory.place(values), memory.place(values)
    updates = [memory.update(rule, options, numbers, weights, grid=GRID) for weights in (flat, apart)]
    for _ in range(2):
        gradient = torch.randn(END).to(dtype)
        updates[0].flat(memory.place(gradient))
        updates[1].tensors(table(memory), [memory.place(piece) for piece in cut(gradient)])
    assert all(same_bits(*pieces) for pieces in zip(cut(apart), cut(flat), strict=True))


@pytest.mark.parametrize("missing", [(), (1, 3), (0,), range(7)], ids=str)
def test_gaps_and_tensors_without_a_gradient_stay(memory: Memory, missing: tuple[int, ...]) -> None:
    """Weights, states, and all that follows the weights."""
    rule, options, numbers = VARIANTS["adamw, amsgrad"]
    names = ("weights", "peer", "ahead", "drift", "corrected")
    placed = {name: memory.place(torch.randn(END)) for name in names}
    update = memory.update(rule, options, numbers, Buffers(**placed), grid=GRID)
    tensors = [*placed.values(), *update.states]
    before = [tensor.cpu().clone() for tensor in tensors]
    kept = UNUSED.clone()
    for index in missing:
        kept[STARTS[index] : STARTS[index] + LENGTHS[index]] = True
    gradients = [None if i in missing else memory.full(length, 1.0) for i, length in enumerate(LENGTHS)]
    update.tensors(table(memory), gradients)
    for tensor, old in zip(tensors, before, strict=True):
        assert torch.equal(tensor.cpu() == old, kept), "what has a gradient changes, all else stays"


def test_norm_is_that_of_all_tensors_together(memory: Memory) -> None:
    options, numbers = Options(transforms=("clip_norm",)), {"lr": 1.0, "clip_norm": 1.0}
    weights = memory.full(END, 0.0)
    gradients: list[Tensor | None] = [memory.place(torch.randn(length)) for length in LENGTHS]
    gradients[3] = None
    update = memory.update("sgd", options, numbers, weights, grid=GRID)
    update.tensors(table(memory), gradients)
    together = torch.cat([gradient for gradient in gradients if gradient is not None]).double()
    assert update.counters.norm.item() == pytest.approx(float(together.square().sum()), rel=1e-6)
    assert float(weights.double().norm()) == pytest.approx(1.0, rel=1e-6)


def test_norm_forgets_a_launch_with_more_programs(memory: Memory) -> None:
    options, numbers = Options(transforms=("clip_norm",)), {"lr": 1.0, "clip_norm": 1.0}
    update = memory.update("sgd", options, numbers, memory.full(END, 0.0), grid=GRID)
    update.flat(memory.full(END, 5.0))
    assert update.counters.norm.item() == 25.0 * END
    update.tensors(GradientTable([0], [4], memory.device, GRID.block), [memory.full(4, 3.0)])
    assert update.counters.norm.item() == 36.0


def test_delay_compensation_reads_the_weights_at_each_tensors_place(memory: Memory) -> None:
    options = Options(transforms=("delay_compensation", "clip_norm"))
    numbers = {"lr": 0.5, "delay_compensation": 2.0, "clip_norm": 0.5}
    gradient = torch.randn(END).masked_fill_(UNUSED, 0.0)
    weights, read = memory.place(torch.randn(END)), memory.place(torch.randn(END))
    reference = Reference("sgd", options, numbers, weights)
    update = memory.update("sgd", options, numbers, Buffers(weights, read=read), grid=GRID)
    update.tensors(table(memory), [memory.place(piece) for piece in cut(gradient)])
    reference.update(gradient, read)
    assert relative_error(weights, reference.weights) <= 1e-6


def test_65_537_elements_in_many_tensors(memory: Memory) -> None:
    starts, lengths = [0, 4096, 20_496], [4096, 16_385, 45_041]
    grid = Grid(programs=5, block=16_384)
    values, gradient = torch.randn(65_537), torch.randn(65_537)
    weights = memory.place(values)
    update = memory.update("sgd", Options(), {"lr": 0.5}, weights, grid=grid)
    pieces = [gradient[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    update.tensors(GradientTable(starts, lengths, memory.device, grid.block), [memory.place(piece) for piece in pieces])
    expected = values - 0.5 * gradient
    expected[20_481:20_496] = values[20_481:20_496]
    assert same_bits(weights, expected)


def test_gradients_of_several_dimensions_are_taken_as_they_lie(memory: Memory) -> None:
    columns = memory.place(torch.arange(12.0)).view(3, 4).T
    weights = memory.full(12, 0.0)
    update = memory.update("sgd", Options(), {"lr": -1.0}, weights, grid=GRID)
    update.tensors(GradientTable([0], [12], memory.device, GRID.block), [columns])
    assert weights.tolist() == list(range(12))


def test_gradients_may_move_between_launches(memory: Memory) -> None:
    """More addresses than are kept, and then one of the first again."""
    whole = GradientTable([0], [16], memory.device, GRID.block)
    weights = memory.full(16, 0.0)
    update = memory.update("sgd", Options(), {"lr": -1.0}, weights, grid=GRID)
    gradients = [memory.full(16, float(i)) for i in range(KEPT + 2)]
    for gradient in (*gradients, gradients[1]):
        update.tensors(whole, [gradient])
    assert weights.tolist() == [sum(range(KEPT + 2)) + 1.0] * 16


@pytest.mark.parametrize("n", [17, 1000])
@pytest.mark.parametrize("rule", ["sgd", "adam", "nadam", "lion"])
def test_the_number_of_programs_changes_no_bit(memory: Memory, rule: str, n: int) -> None:
    _, options, numbers = VARIANTS[{"sgd": "nesterov, decay", "adam": "adamw"}.get(rule, rule)]
    values, gradient = torch.randn(n), torch.randn(n)
    found = []
    for programs in (1, 3, 16):
        found.append(memory.place(values))
        grid = Grid(programs, block=grid_for(n).block // (4 if n > 100 else 1))
        memory.update(rule, options, numbers, found[-1], grid=grid).flat(memory.place(gradient))
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])


def test_captured_lists_of_addresses_start_at_16_bytes_as_eager_ones_do(memory: Memory) -> None:
    """Kernels are compiled for an alignment, and a capture cannot load others."""
    captured = CapturedAddresses(6, memory.device)
    lists = [captured.take([1, 2, 3]), captured.take([4, 5, 6])]
    captured.upload()
    assert [addresses.tolist() for addresses in lists] == [[1, 2, 3], [4, 5, 6]]
    assert [addresses.data_ptr() % 16 for addresses in lists] == [0, 0]
    with pytest.raises(RuntimeError, match="expected at most 6 addresses in one capture, found more"):
        captured.take([0] * 6)


def test_within_a_capture_a_table_takes_its_addresses_from_there(memory: Memory) -> None:
    gradient = memory.full(16, -1.0)
    one = GradientTable([0], [16], memory.device, GRID.block)
    captured = CapturedAddresses(1, memory.device)
    token = ADDRESSES.set(captured)
    try:
        addresses = one.addresses([gradient], torch.float32)
    finally:
        ADDRESSES.reset(token)
    assert addresses.tolist() == [0]
    captured.upload()
    assert addresses.tolist() == [gradient.data_ptr()]
