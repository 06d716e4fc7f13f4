"""What the last program of a launch counts."""

from __future__ import annotations

import pytest
import torch

from asyncpipe.kernels.fused.grid import Grid
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.table import GradientTable
from tests.kernels.fused.memory import SMALL, Memory
from tests.kernels.fused.variants import ADAPTIVE, MOMENTUM


@pytest.mark.parametrize("grid", [Grid(1, 16), SMALL, Grid(16, 16)], ids=str)
@pytest.mark.parametrize("clipped", [False, True])
def test_step_and_version_count_launches_and_the_ticket_returns_to_zero(
    memory: Memory, grid: Grid, clipped: bool
) -> None:
    options = Options(momentum=True, transforms=("clip_norm",) if clipped else ())
    counters = {"version": memory.integers(40)}
    numbers = MOMENTUM | {"clip_norm": 1.0}
    update = memory.update("sgd", options, numbers, memory.full(70, 0.0), grid=grid, counters=counters)
    for _ in range(3):
        update.flat(memory.full(70, 1.0))
    assert update.counters.step.item() == 3
    assert update.counters.version.item() == 43
    assert update.counters.ticket.item() == 0


def test_streams_that_share_weights_count_one_version(memory: Memory) -> None:
    weights, version = memory.full(20, 0.0), memory.integers(0)
    streams = [memory.update("sgd", Options(), {"lr": 1.0}, weights, counters={"version": version}) for _ in range(2)]
    for at in (0, 1, 1):
        streams[at].flat(memory.full(20, 1.0))
    assert version.item() == 3
    assert [stream.counters.step.item() for stream in streams] == [1, 2]
    assert weights.tolist() == [-3.0] * 20


def test_version_counts_where_no_gradient_arrived(memory: Memory) -> None:
    table = GradientTable([0], [20], memory.device, 16)
    counters = {"version": memory.integers(0)}
    update = memory.update("sgd", Options(), {"lr": 1.0}, memory.full(20, 0.0), counters=counters)
    update.tensors(table, [None])
    assert (update.counters.step.item(), update.counters.version.item()) == (1, 1)


def test_histogram_counts_each_microbatch_and_its_last_entry_takes_the_rest(memory: Memory) -> None:
    reads, histogram = memory.integers(5, 3, 0, 6), memory.integers(0, 0, 0, 0)
    counters = {"version": memory.integers(5), "reads": reads, "histogram": histogram}
    update = memory.update("sgd", Options(), {"lr": 1.0}, memory.full(40, 0.0), counters=counters)
    update.flat(memory.full(40, 1.0))
    # Staleness 0, 2, 5 and -1: a read of a version to come counts as fresh.
    assert histogram.tolist() == [2, 0, 1, 1]
    reads.fill_(6)
    update.flat(memory.full(40, 1.0))
    assert histogram.tolist() == [6, 0, 1, 1]
    assert reads.tolist() == [6] * 4


def test_one_microbatch_and_one_entry_are_enough(memory: Memory) -> None:
    counters = {"version": memory.integers(5), "reads": memory.integers(0), "histogram": memory.integers(0)}
    update = memory.update("sgd", Options(), {"lr": 1.0}, memory.full(1, 0.0), counters=counters)
    update.flat(memory.full(1, 1.0))
    assert update.counters.histogram.tolist() == [1]


def test_product_is_that_of_all_momenta(memory: Memory) -> None:
    numbers = ADAPTIVE | {"momentum_decay": 0.1}
    update = memory.update("nadam", Options(), numbers, memory.full(40, 0.0))
    expected = 1.0
    for step in range(1, 6):
        update.flat(memory.full(40, 1.0))
        expected *= 0.9 * (1 - 0.5 * 0.96 ** (step * 0.1))
        assert update.counters.product.item() == pytest.approx(expected, rel=1e-15)


def test_rules_without_a_product_have_none(memory: Memory) -> None:
    assert memory.counters("nadam").product.tolist() == [1.0]
    assert memory.counters("adam").product is None


def test_scalars_changed_between_launches_take_effect(memory: Memory) -> None:
    weights = memory.full(20, 0.0)
    update = memory.update("sgd", Options(), {"lr": 1.0}, weights)
    update.flat(memory.full(20, -1.0))
    update.scalars.set(lr=0.5, scale=4.0)
    update.flat(memory.full(20, -1.0))
    update.scalars.view("lr").mul_(2.0)
    update.flat(memory.full(20, -1.0))
    assert weights.tolist() == [1.0 + 2.0 + 4.0] * 20


def test_unknown_scalars_are_refused(memory: Memory) -> None:
    with pytest.raises(KeyError, match="learning_rate"):
        memory.scalars(learning_rate=1.0)


def test_first_scalars_change_nothing(memory: Memory) -> None:
    scalars = memory.scalars()
    assert (scalars.view("scale").item(), scalars.view("shrink").item()) == (1.0, 1.0)
    assert float(scalars.tensor.sum()) == 2.0
    assert scalars.tensor.dtype == torch.float64
