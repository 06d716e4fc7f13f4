"""Images in one folder per class, decoded when a batch asks for them: memory holds names and that batch only."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asyncpipe.data.augment import flip_images, normalise, uniform
from asyncpipe.data.catalog import ImageFolderOptions
from asyncpipe.data.dataset import DataSet, Split
from asyncpipe.data.folders import class_names, image_folder, listing, subfolders
from asyncpipe.errors import MachineError, UsageError

__all__ = ["ImageFiles", "load_image_folder"]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, the usual ones for photographs."""
ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the file's image."""
Draws = tuple[float, ...]
"""Four numbers in [0, 1) for one image."""


def load_image_folder(options: ImageFolderOptions) -> DataSet:
    """Images (3, size, size) as float32, normalised by ImageNet's mean and deviation; classes sorted by name.

    MachineError for missing folders or a missing pillow, UsageError where the options and the folders disagree.
    """
    _check_pillow()
    train, test = image_folder(options.root)
    names = class_names(options.root)
    classes = options.classes or len(names)
    if classes < len(names):
        message = f"data imagefolder: {train} has {len(names):,} classes, more than its option 'classes' states"
        raise UsageError(f"{message}, {classes:,}", f"write classes: {len(names)}, or leave it out")
    return DataSet(
        train=_split(train, names, options, options.train_crop, options.flip),
        test=_split(test, names, options, "center", False),
        classes=classes,
        sample_shape=(3, options.size, options.size),
    )


def _split(folder: Path, names: list[str], options: ImageFolderOptions, crop: str, flip: bool) -> Split:
    """The stored inputs are the numbers of the samples; `ImageFiles` reads their files."""
    if unknown := sorted(set(subfolders(folder)) - set(names)):
        raise UsageError(f"data imagefolder: {folder} holds classes that are not trained on: {', '.join(unknown)}")
    parts = [_images(folder / name) for name in names]
    if not any(parts):
        raise MachineError(f"data imagefolder: {folder} holds no image", f"images end in {', '.join(sorted(ENDINGS))}")
    files = tuple(file for part in parts for file in part)
    targets = torch.repeat_interleave(torch.arange(len(names)), torch.tensor([len(part) for part in parts]))
    reader = ImageFiles(files, options.size, options.shorter_side, crop, flip)
    return Split(torch.arange(len(files)), targets, reader)


def _images(folder: Path) -> list[Path]:
    """Sorted by name; none where the folder of a class is missing among those to test with."""
    return [path for path in listing(folder) if path.suffix.lower() in ENDINGS] if folder.is_dir() else []


@dataclass(frozen=True)
class ImageFiles:
    """Prepares numbers of files: decodes, cuts, scales (bilinear, antialiased), flips and normalises their images."""

    files: tuple[Path, ...]
    size: int
    shorter_side: int
    crop: str
    flip: bool

    def __call__(self, inputs: Tensor, targets: Tensor, chosen: Tensor, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        mirrored, *draws = uniform(seed, epoch, chosen, 5)
        each = list(zip(*(draw.tolist() for draw in draws), strict=True))
        files = [self.files[number] for number in inputs.tolist()]
        # Decoding releases the interpreter's lock; what each thread does depends on nothing but its image.
        with ThreadPoolExecutor(min(len(files), len(os.sched_getaffinity(0)))) as threads:
            pixels = list(threads.map(self._read, files, each))
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        images = flip_images(images, mirrored < 0.5) if self.flip else images
        return normalise(images, MEAN, DEVIATION), targets

    def _read(self, file: Path, draws: Draws) -> NDArray[np.uint8]:
        """Pixels (size, size, 3); MachineError for a file that is no image."""
        from PIL import Image

        try:
            with Image.open(file) as image:
                box = BOXES[self.crop](image.size, self.size / self.shorter_side, draws)
                scaled = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR, box)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise MachineError(f"{file} is no image that pillow can read: {error}", "mend or remove it") from error
        return np.asarray(scaled)


def center_box(size: tuple[int, int], share: float, draws: Draws) -> Box:
    """The centre; its side is `share` of the shorter side."""
    return _square(size, share, 0.5, 0.5)


def random_box(size: tuple[int, int], share: float, draws: Draws) -> Box:
    """As large as the centre's, anywhere."""
    return _square(size, share, draws[0], draws[1])


def resized_box(size: tuple[int, int], share: float, draws: Draws) -> Box:
    """An area of 8 to 100 %, an aspect log-uniform from 3/4 to 4/3, anywhere; a side that is too long is cut."""
    area = size[0] * size[1] * (AREA[0] + draws[2] * (AREA[1] - AREA[0]))
    aspect = math.exp(math.log(ASPECT[0]) + draws[3] * math.log(ASPECT[1] / ASPECT[0]))
    return _placed(size, min(math.sqrt(area * aspect), size[0]), min(math.sqrt(area / aspect), size[1]), *draws[:2])


def _square(size: tuple[int, int], share: float, across: float, down: float) -> Box:
    return _placed(size, min(size) * share, min(size) * share, across, down)


def _placed(size: tuple[int, int], width: float, height: float, across: float, down: float) -> Box:
    left, top = across * (size[0] - width), down * (size[1] - height)
    return left, top, min(left + width, size[0]), min(top + height, size[1])


BOXES: dict[str, Callable[[tuple[int, int], float, Draws], Box]] = {
    "center": center_box,
    "random": random_box,
    "resized": resized_box,
}


def _check_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        message = "data imagefolder decodes images with pillow, which is not installed"
        raise MachineError(message, "pip install pillow") from error
