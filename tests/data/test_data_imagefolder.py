"""Folders of images: which part of an image is taken, what is drawn, and what is wrong with folders and files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from asyncpipe.data import data_shape, load
from asyncpipe.data.catalog import DataShape
from asyncpipe.data.dataset import DataSet
from asyncpipe.data.imagefolder import center_box, random_box, resized_box
from asyncpipe.errors import MachineError, UsageError

Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")

MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def write_files(root: Path, test: str = "val") -> Path:
    """12 x 8 pixels: red is the column, green the row, blue the number of the image; one file of grey."""
    across, down = np.meshgrid(np.arange(12), np.arange(8))
    for part, count in (("train", 3), (test, 1)):
        for name in ("dog", "cat"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.stack([across, down, np.full_like(across, number)], 2).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    Image.new("L", (12, 8), 77).save(root / "train" / "dog" / "grey.PNG")
    (root / "train" / "dog" / "notes.txt").write_text("not an image")
    return root


def small(root: Path, **options: object) -> DataSet:
    return load("imagefolder", {"root": str(write_files(root)), "size": 8, "resize": 8, **options})


def pixels(data: DataSet, sample: int, epoch: int = 0) -> list[list[list[int]]]:
    inputs, _ = data.train.take(torch.tensor([sample]), 0, epoch)
    bytes_ = (inputs[0] * DEVIATION.view(3, 1, 1) + MEAN.view(3, 1, 1)) * 255
    assert (bytes_ - bytes_.round()).abs().max() < 1e-3
    found: list[list[list[int]]] = bytes_.round().int().tolist()
    return found


@pytest.mark.parametrize("test", ["val", "test"])
def test_classes_are_sorted_folders_and_images_sorted_files(tmp_path: Path, test: str) -> None:
    options = {"root": str(write_files(tmp_path, test)), "size": 8, "resize": 8}
    data = load("imagefolder", options)
    assert data.train.targets.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.test.targets.tolist() == [0, 1]
    assert [pixels(data, sample)[2][0][0] for sample in range(7)] == [0, 1, 2, 0, 1, 2, 77]
    assert data_shape("imagefolder", options) == DataShape((3, 8, 8), 2, None)
    assert (data.sample_shape, data.classes) == ((3, 8, 8), 2)


def test_centre_is_cut_in_the_middle_without_changing_pixels(tmp_path: Path) -> None:
    red, green, blue = pixels(small(tmp_path), 1)
    assert red == [list(range(2, 10))] * 8
    assert green == [[row] * 8 for row in range(8)]
    assert blue == [[1] * 8] * 8


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    assert pixels(small(tmp_path), 6) == [[[77] * 8] * 8] * 3


def test_flips_are_drawn_for_each_epoch_and_sample_of_the_training_part(tmp_path: Path) -> None:
    """A mirrored image has its columns, which red counts, in descending order."""
    data = small(tmp_path, flip=True)
    rows = [[pixels(data, sample, epoch)[0][0] for sample in range(3)] for epoch in range(6)]
    assert all(row in (list(range(2, 10)), list(range(9, 1, -1))) for epoch in rows for row in epoch)
    assert len({tuple(row[0] == 9 for row in epoch) for epoch in rows}) > 2
    upright, _ = data.test.take(torch.arange(2), 0, 3)
    assert (upright[:, 0, 0, 0] < upright[:, 0, 0, -1]).all()


def test_sample_is_the_same_in_any_batch(tmp_path: Path) -> None:
    data = small(tmp_path, train_crop="resized", flip=True)
    whole, _ = data.train.take(torch.arange(7), 1, 2)
    some, _ = data.train.take(torch.tensor([5, 0, 3]), 1, 2)
    assert torch.equal(some, whole[[5, 0, 3]])
    assert not torch.equal(whole, data.train.take(torch.arange(7), 1, 3)[0])
    assert whole.is_contiguous()


@pytest.mark.parametrize("size", [(12, 8), (8, 12), (500, 375)])
def test_boxes_are_inside_the_image_with_the_area_that_was_drawn(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    for draws in generator.random((200, 4)).tolist():
        for box in (center_box, random_box, resized_box):
            left, top, right, bottom = box(size, 7 / 8, draws)
            assert 0 <= left < right <= size[0]
            assert 0 <= top < bottom <= size[1]
        width, height = right - left, bottom - top
        assert width * height <= size[0] * size[1] * (0.08 + 0.92 * draws[2]) + 1e-6
        if width < size[0] and height < size[1]:
            assert width * height == pytest.approx(size[0] * size[1] * (0.08 + 0.92 * draws[2]))
            assert 3 / 4 <= width / height <= 4 / 3 + 1e-9
    side = 7 / 8 * min(size)
    left, top, right, bottom = random_box(size, 7 / 8, (0.0, 0.0, 0.0, 0.0))
    assert (left, top, right, bottom) == (0, 0, side, side)
    left, top, right, bottom = center_box(size, 7 / 8, draws)
    assert (left + right, top + bottom, right - left) == pytest.approx((size[0], size[1], side))


def test_stated_classes_need_no_folder() -> None:
    assert data_shape("imagefolder", {"classes": 1000}) == DataShape((3, 224, 224), 1000, None)


def test_missing_folders_say_how_to_arrange_them(tmp_path: Path) -> None:
    for ask in (load, data_shape):
        with pytest.raises(MachineError) as caught:
            ask("imagefolder", {})
        assert caught.value.message == "data imagefolder does not ship with asyncpipe and 'root' names no folder"
        assert caught.value.hint.startswith("arrange the images as ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg")
    options = {"root": str(tmp_path)}
    with pytest.raises(MachineError, match=f"data imagefolder needs train: {tmp_path} does not hold it"):
        data_shape("imagefolder", options)
    (tmp_path / "train").mkdir()
    with pytest.raises(MachineError, match=f"{tmp_path} holds neither val nor test"):
        data_shape("imagefolder", options)
    (tmp_path / "val").mkdir()
    with pytest.raises(MachineError, match=f"{tmp_path / 'train'} holds no folder of a class"):
        load("imagefolder", options)
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(MachineError, match=f"{tmp_path / 'train'} holds no image\n  help: images end in .bmp"):
        load("imagefolder", options)


def test_class_without_training_images_is_refused(tmp_path: Path) -> None:
    (write_files(tmp_path) / "val" / "mouse").mkdir()
    with pytest.raises(UsageError, match=f"{tmp_path / 'val'} holds classes that are not trained on: mouse"):
        load("imagefolder", {"root": str(tmp_path)})


def test_more_classes_than_stated_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has 2 classes, more than its option 'classes' states, 1"):
        small(tmp_path, classes=1)


def test_size_beyond_the_shorter_side_is_refused() -> None:
    with pytest.raises(UsageError, match="option 'resize' must be at least 'size', 64, found 32"):
        data_shape("imagefolder", {"size": 64, "resize": 32, "classes": 2})


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_damaged_image_is_named(tmp_path: Path, damage: str) -> None:
    data = small(tmp_path)
    path = tmp_path / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:60] if damage == "cut" else b"text")
    with pytest.raises(MachineError, match=f"{path} is no image that pillow can read: "):
        data.train.take(torch.arange(7))


def test_missing_pillow_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MachineError) as caught:
        load("imagefolder", {"root": str(tmp_path)})
    assert caught.value.message == "data imagefolder decodes images with pillow, which is not installed"
    assert caught.value.hint == "pip install pillow"
