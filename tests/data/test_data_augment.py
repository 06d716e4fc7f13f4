"""Augmentation: what it does to an image, and that it is a function of (seed, epoch, sample)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asyncpipe.data.augment import Pixels, crop_images, flip_images, uniform
from asyncpipe.data.batches import Batches
from asyncpipe.data.dataset import Split

PIXELS = Pixels((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), crop=4, flip=True)


def images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(1, 256, (count, 3, 8, 6), dtype=torch.uint8, generator=generator)


def test_crop_is_the_image_between_zeros_moved_to_each_place() -> None:
    """Against slices of the padded image: 25 places of a margin of 2."""
    stored = images(25)
    top, left = (grid.reshape(-1) for grid in np.meshgrid(np.arange(5), np.arange(5)))
    found = crop_images(stored, 2, (top + 0.5) / 5, (left + 0.5) / 5)
    for n in range(25):
        padded = torch.zeros(3, 12, 10, dtype=torch.uint8)
        padded[:, 2:10, 2:8] = stored[n]
        assert torch.equal(found[n], padded[:, top[n] : top[n] + 8, left[n] : left[n] + 6])


def test_flip_mirrors_the_chosen_images_only() -> None:
    stored = images(4)
    found = flip_images(stored.clone(), np.array([True, False, False, True]))
    for n, mirrored in enumerate((True, False, False, True)):
        assert torch.equal(found[n], stored[n].flip(2) if mirrored else stored[n])


def test_places_and_flips_are_equally_frequent() -> None:
    """81 places, 40,500 samples: 500 expected each, standard deviation 22."""
    top, left, mirrored = uniform(0, 0, torch.arange(40_500), 3)
    counts = np.bincount((top * 9).astype(int) * 9 + (left * 9).astype(int), minlength=81)
    assert counts.min() > 400
    assert counts.max() < 600
    assert abs((mirrored < 0.5).mean() - 0.5) < 0.01


def test_numbers_of_neighbours_are_not_correlated() -> None:
    """Of one sample, of neighbours, of epochs and of seeds: all within 5 standard deviations of none."""
    first = np.stack(uniform(0, 0, torch.arange(10_000), 8))
    others = [np.roll(first, 1, axis=0), np.roll(first, 1, axis=1)]
    others += [np.stack(uniform(seed, epoch, torch.arange(10_000), 8)) for seed, epoch in ((0, 1), (1, 0))]
    for other in others:
        assert abs(np.corrcoef(first.reshape(-1), other.reshape(-1))[0, 1]) < 5 / np.sqrt(first.size)


def test_numbers_never_change() -> None:
    """A run is repeated on another machine, and by a later version. From SplitMix64 with Python's own integers."""
    (found,) = uniform(3, 5, torch.tensor([0, 1, 49_999]), 1)
    assert found.tolist() == [0.8722360914247513, 0.5420670652614982, 0.5400442103501716]


def test_one_number_more_in_use_leaves_the_others() -> None:
    samples = torch.arange(100)
    for few, many in zip(uniform(1, 2, samples, 3), uniform(1, 2, samples, 5), strict=False):
        assert np.array_equal(few, many)


@given(st.permutations(range(12)), st.integers(1, 12), st.integers(0, 3), st.integers(0, 3))
def test_sample_is_augmented_alike_in_any_batch(order: list[int], size: int, seed: int, epoch: int) -> None:
    split = Split(images(12), torch.arange(12), PIXELS)
    whole, _ = split.take(torch.arange(12), seed, epoch)
    for start in range(0, 12, size):
        chosen = torch.tensor(order[start : start + size])
        assert torch.equal(split.take(chosen, seed, epoch)[0], whole[chosen])


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0)])
def test_seeds_and_epochs_augment_differently(seed: int, epoch: int) -> None:
    split = Split(images(12), torch.arange(12), PIXELS)
    every = torch.arange(12)
    assert not torch.equal(split.take(every, seed, epoch)[0], split.take(every, 0, 0)[0])


def test_batches_of_an_epoch_are_augmented_by_its_seed_and_number() -> None:
    split = Split(images(12), torch.arange(12), PIXELS)
    for inputs, targets in Batches(split, 5, seed=2).batches(epoch=3):
        assert torch.equal(inputs, split.take(targets, seed=2, epoch=3)[0])


def test_augmentation_leaves_the_stored_images_and_random_numbers_alone() -> None:
    split = Split(images(12), torch.arange(12), PIXELS)
    before = torch.get_rng_state()
    inputs, _ = split.take(torch.arange(12))
    inputs.zero_()
    assert torch.equal(split.inputs, images(12))
    assert torch.equal(torch.get_rng_state(), before)


def test_resumed_epoch_is_augmented_as_the_whole_one() -> None:
    batches = Batches(Split(images(12), torch.arange(12), PIXELS), 3, seed=1)
    whole = list(batches.batches(epoch=2))
    for kept, (inputs, targets) in zip(whole[2:], batches.batches(epoch=2, skip=2), strict=True):
        assert torch.equal(inputs, kept[0])
        assert torch.equal(targets, kept[1])


@pytest.mark.cuda
def test_images_on_a_gpu_are_augmented_alike() -> None:
    stored = images(12)
    on_gpu = Split(stored.cuda(), torch.arange(12).cuda(), PIXELS).take(torch.arange(12), 1, 2)[0]
    assert torch.equal(on_gpu.cpu(), Split(stored, torch.arange(12), PIXELS).take(torch.arange(12), 1, 2)[0])
