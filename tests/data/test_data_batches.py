"""Mini-batches: each sample once, the same order for the same seed and epoch, and resuming anywhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asyncpipe.data.batches import Batches
from asyncpipe.data.dataset import Split
from asyncpipe.errors import UsageError


def split_of(samples: int) -> Split:
    """Sample i is (i, i), its target 100 + i."""
    numbers = torch.arange(samples)
    return Split(numbers.float().unsqueeze(1).expand(-1, 2).contiguous(), 100 + numbers)


def samples_of(batches: Batches, epoch: int = 0, skip: int = 0) -> list[list[int]]:
    return [(targets - 100).tolist() for _, targets in batches.batches(epoch, skip)]


@given(st.integers(1, 50), st.integers(1, 60), st.booleans(), st.booleans(), st.integers(0, 3))
def test_every_sample_comes_at_most_once_and_only_a_dropped_rest_never(
    samples: int, batch: int, shuffle: bool, drop_last: bool, epoch: int
) -> None:
    if drop_last and batch > samples:
        return
    batches = Batches(split_of(samples), batch, shuffle=shuffle, drop_last=drop_last)
    found = samples_of(batches, epoch)
    assert len(found) == len(batches) == (samples // batch if drop_last else -(-samples // batch))
    assert [len(part) for part in found[:-1]] == [batch] * (len(found) - 1)
    flat = [sample for part in found for sample in part]
    assert len(set(flat)) == len(flat) == (len(batches) * batch if drop_last else samples)
    assert set(flat) <= set(range(samples))


def test_inputs_stay_with_their_targets() -> None:
    for inputs, targets in Batches(split_of(20), 6).batches():
        assert torch.equal(inputs, (targets - 100).float().unsqueeze(1).expand(-1, 2))


def test_tests_come_in_order_with_the_short_rest() -> None:
    batches = Batches(split_of(7), 3, shuffle=False, drop_last=False)
    assert samples_of(batches) == samples_of(batches, epoch=5) == [[0, 1, 2], [3, 4, 5], [6]]


def test_same_seed_and_epoch_give_the_same_order() -> None:
    torch.manual_seed(1)
    one = samples_of(Batches(split_of(30), 7, seed=4), epoch=2)
    torch.manual_seed(2)
    assert samples_of(Batches(split_of(30), 7, seed=4), epoch=2) == one


def test_order_never_changes() -> None:
    """A resumed run and a repeated one must see what the first one saw, on another machine too."""
    assert samples_of(Batches(split_of(10), 5, seed=3), epoch=1) == [[6, 0, 9, 7, 3], [1, 2, 8, 4, 5]]


def test_epochs_and_seeds_differ_and_do_not_repeat_each_other() -> None:
    orders = [samples_of(Batches(split_of(30), 30, seed=seed), epoch)[0] for seed in range(4) for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 16


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    samples_of(Batches(split_of(30), 7))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_skipping_gives_the_tail_of_the_epoch(shuffle: bool, drop_last: bool) -> None:
    batches = Batches(split_of(23), 5, seed=1, shuffle=shuffle, drop_last=drop_last)
    whole = samples_of(batches, epoch=3)
    for skip in range(len(batches) + 1):
        assert samples_of(batches, epoch=3, skip=skip) == whole[skip:]


def test_skipped_batches_are_never_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(split_of(100), 2)
    gathered: list[int] = []
    gather = batches._at

    def count(chosen: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        gathered.append(len(chosen))
        return gather(chosen, epoch)

    monkeypatch.setattr(batches, "_at", count)
    assert len(list(batches.batches(skip=48))) == 2
    assert gathered == [2, 2]


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_fresh_contiguous_and_aligned(shuffle: bool) -> None:
    split = Split(torch.rand(50, 3, 5), torch.arange(50, dtype=torch.int32))
    kept = split.inputs.clone(), split.targets.clone()
    batches = list(Batches(split, 7, shuffle=shuffle, drop_last=False).batches())
    pairs = [tensor for batch in batches for tensor in batch]
    assert len({tensor.data_ptr() for tensor in pairs}) == len(pairs) == 16
    assert [tensor.data_ptr() % 64 for tensor in pairs] == [0] * 16
    assert all(tensor.is_contiguous() for tensor in pairs)
    for tensor in pairs:
        tensor.zero_()
    assert torch.equal(split.inputs, kept[0])
    assert torch.equal(split.targets, kept[1])


@pytest.mark.parametrize(("epoch", "skip"), [(-1, 0), (0, -1), (0, 5)])
def test_epoch_and_skip_out_of_range_are_refused_at_once(epoch: int, skip: int) -> None:
    batches = Batches(split_of(23), 5)
    with pytest.raises(UsageError, match="0 to 4 batches to skip"):
        batches.batches(epoch, skip)


@pytest.mark.parametrize(("batch", "seed"), [(0, 0), (-3, 0), (4, -1)])
def test_batch_and_seed_out_of_range_are_refused(batch: int, seed: int) -> None:
    with pytest.raises(UsageError, match=f"found batch {batch} and seed {seed}"):
        Batches(split_of(9), batch, seed=seed)


def test_split_smaller_than_a_batch_is_refused_unless_short_ones_are_kept() -> None:
    with pytest.raises(UsageError, match=r"3 samples, fewer than one batch of 4\n  help: a batch of at most 3 fits"):
        Batches(split_of(3), 4)
    assert len(Batches(split_of(3), 4, drop_last=False)) == 1


@pytest.mark.cuda
def test_batches_stay_on_the_device_of_their_split() -> None:
    split = split_of(10)
    batches = Batches(Split(split.inputs.cuda(), split.targets.cuda()), 4, seed=2)
    expected = samples_of(Batches(split, 4, seed=2))
    assert [(targets.cpu() - 100).tolist() for _, targets in batches.batches()] == expected
