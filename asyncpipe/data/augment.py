"""Pixels into model inputs: random crop and flip, normalisation. What is random is a function, not a state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["Pixels", "crop_images", "flip_images", "normalise", "uniform"]

_WORDS = 8
"""Random numbers that each sample has; a constant, so that one more in use leaves the others as they are."""
_AUGMENTATION = 1
"""Tells these numbers from those that shuffle, which come from (seed, epoch)."""


@dataclass(frozen=True)
class Pixels:
    """Prepares images stored as bytes (batch, channels, height, width): float32, normalised by channel.

    With `crop` and `flip` it augments first; both are drawn for each (seed, epoch, sample).
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    crop: int = 0
    flip: bool = False

    def __call__(self, inputs: Tensor, targets: Tensor, chosen: Tensor, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        if self.crop or self.flip:
            top, left, mirrored = uniform(seed, epoch, chosen, 3)
            inputs = crop_images(inputs, self.crop, top, left) if self.crop else inputs
            inputs = flip_images(inputs, mirrored < 0.5) if self.flip else inputs
        return normalise(inputs, self.mean, self.deviation), targets


def uniform(seed: int, epoch: int, samples: Tensor, count: int) -> tuple[NDArray[np.float64], ...]:
    """`count` arrays of one number in [0, 1) for each sample: SplitMix64 (Steele et al. 2014) of its number.

    The same whatever batch, thread or device a sample is in.
    """
    key = np.random.SeedSequence((seed, epoch, _AUGMENTATION)).generate_state(1, np.uint64)
    first = samples.cpu().numpy().astype(np.uint64) * np.uint64(_WORDS)
    return tuple(_mix(key + (first + np.uint64(word + 1)) * np.uint64(0x9E3779B97F4A7C15)) for word in range(count))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.float64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def crop_images(images: Tensor, margin: int, top: NDArray[np.float64], left: NDArray[np.float64]) -> Tensor:
    """Each image moved by -`margin` to `margin` pixels, zeros where it was not; `top` and `left` in [0, 1)."""
    height, width = images.shape[2:]
    windows = pad(images, (margin,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    places = 2 * margin + 1
    rows, columns = (torch.from_numpy((u * places).astype(np.int64)).to(images.device) for u in (top, left))
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


def flip_images(images: Tensor, mirrored: NDArray[np.bool_]) -> Tensor:
    """Left and right exchanged, in place, in the images that are `mirrored`."""
    chosen = torch.from_numpy(np.flatnonzero(mirrored)).to(images.device)
    return images.index_copy_(0, chosen, images.index_select(0, chosen).flip(3))


def normalise(images: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """Bytes to float32: (pixel / 255 - mean) / deviation for each channel."""
    shift, scale = (torch.tensor(values, device=images.device).view(-1, 1, 1) * 255 for values in (mean, deviation))
    return images.float().sub_(shift).div_(scale)
