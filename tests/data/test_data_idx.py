"""MNIST's files: good ones in both forms, every way to damage one, and what is said where one is missing."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asyncpipe.data import data_shape, load
from asyncpipe.data.catalog import DataShape
from asyncpipe.data.idx import LARGEST, idx_dimensions, read_idx
from asyncpipe.errors import MachineError, UsageError

FASHION = Path("/usr/share/datasets/fashion-mnist")
TRAIN, TEST = 7, 3


def idx(dimensions: tuple[int, ...], data: bytes) -> bytes:
    return bytes((0, 0, 8, len(dimensions))) + struct.pack(f">{len(dimensions)}I", *dimensions) + data


def pixels(samples: int) -> bytes:
    return bytes((sample + pixel) % 256 for sample in range(samples) for pixel in range(784))


def labels(samples: int) -> bytes:
    return bytes((3 * sample) % 10 for sample in range(samples))


def as_it_is(data: bytes) -> bytes:
    return data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_files(tmp_path, "", as_it_is)


def write_files(folder: Path, ending: str, pack: Callable[[bytes], bytes]) -> Path:
    """A small data set under the official names."""
    for part, samples in (("train", TRAIN), ("t10k", TEST)):
        images = idx((samples, 28, 28), pixels(samples))
        (folder / f"{part}-images-idx3-ubyte{ending}").write_bytes(pack(images))
        (folder / f"{part}-labels-idx1-ubyte{ending}").write_bytes(pack(idx((samples,), labels(samples))))
    return folder


def refusal(root: Path, name: str = "mnist") -> MachineError:
    with pytest.raises(MachineError) as caught:
        load(name, {"root": str(root)})
    return caught.value


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize(("ending", "pack"), [("", as_it_is), (".gz", gzip.compress)])
def test_files_are_read_plain_and_compressed(
    tmp_path: Path, name: str, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    data = load(name, {"root": str(write_files(tmp_path, ending, pack))})
    assert (data.classes, data.sample_shape) == (10, (1, 28, 28))
    for split, samples in ((data.train, TRAIN), (data.test, TEST)):
        assert split.inputs.shape == (samples, 1, 28, 28)
        assert (split.inputs * 255).round().byte().numpy().tobytes() == pixels(samples)
        assert (split.inputs.dtype, split.inputs.max().item()) == (torch.float32, 1)
        assert split.targets.tolist() == list(labels(samples))
        assert split.targets.dtype == torch.int64


def test_plain_file_is_preferred(root: Path) -> None:
    (root / "train-labels-idx1-ubyte.gz").write_bytes(b"not read")
    assert len(load("mnist", {"root": str(root)}).train) == TRAIN


def test_relative_root_is_relative_to_the_working_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert len(load("mnist", {"root": root.name}).test) == TEST


@pytest.mark.skipif(not FASHION.is_dir(), reason=f"Debian's dataset-fashion-mnist is not in {FASHION}")
def test_fashion_mnist_is_found_where_debian_puts_it() -> None:
    assert data_shape("fashion-mnist", {}) == DataShape((1, 28, 28), 10, 60_000)
    data = load("fashion-mnist", {})
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.targets.bincount().tolist() == [6_000] * 10
    assert data.test.targets.bincount().tolist() == [1_000] * 10
    assert data.train.targets[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    mean, deviation = data.train.inputs.mean(), data.train.inputs.std()
    assert (round(mean.item(), 4), round(deviation.item(), 4)) == (0.2860, 0.3530)


def test_mnist_without_a_root_says_what_to_do() -> None:
    with pytest.raises(MachineError) as caught:
        load("mnist", {})
    assert caught.value.message == "data mnist does not ship with asyncpipe and 'root' names no folder"
    assert "fetch the four .gz files" in caught.value.hint


def test_missing_file_is_named_with_the_places_looked_at(root: Path) -> None:
    (root / "t10k-labels-idx1-ubyte").unlink()
    error = refusal(root, "fashion-mnist")
    assert error.message == (
        f"data fashion-mnist needs the file t10k-labels-idx1-ubyte: {root} holds neither "
        "t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"
    )
    assert "dataset-fashion-mnist" in error.hint
    assert error.exit_code == 4


def test_missing_folder_is_told_apart_from_a_missing_file(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    expected = f"data mnist needs the file train-images-idx3-ubyte: {missing} is no folder"
    assert refusal(missing).message == expected


IMAGES = idx((TRAIN, 28, 28), pixels(TRAIN))
SIZE = TRAIN * 784


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "expected a header of 16 bytes, found 0 bytes in all"),
        (IMAGES[:9], "expected a header of 16 bytes, found 9 bytes in all"),
        (IMAGES[:-1], f"expected {SIZE:,} bytes of data, as its header says, found {SIZE - 1:,}"),
        (IMAGES[:16], f"expected {SIZE:,} bytes of data, as its header says, found 0"),
        (IMAGES + b"x", f"expected {SIZE:,} bytes of data, as its header says, found more"),
        (gzip.compress(IMAGES), "expected it to begin with the bytes 00 00 08 03, found 1f 8b 08 00"),
        (idx((TRAIN,), labels(TRAIN)), "expected it to begin with the bytes 00 00 08 03, found 00 00 08 01"),
        (b"\0\0\x0d\x03" + IMAGES[4:], "expected it to begin with the bytes 00 00 08 03, found 00 00 0d 03"),
        (idx((TRAIN, 28, 27), b""), "expected items of shape (28, 28), found (28, 27)"),
        (idx((0, 28, 28), b""), "its header claims 0 items"),
        (
            idx((2**32 - 1, 28, 28), b""),
            f"its header claims {(2**32 - 1) * 784:,} bytes of data, more than the {LARGEST:,} allowed",
        ),
    ],
)
def test_damaged_file_is_refused_with_its_byte_counts(root: Path, content: bytes, cause: str) -> None:
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(content)
    error = refusal(root)
    assert error.message == f"{path} is damaged or no idx file: {cause}"
    assert error.hint == "fetch the file again"


@pytest.mark.parametrize("damage", ["cut", "flipped", "not gzip"])
def test_damaged_compression_is_refused(tmp_path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(IMAGES, mtime=0))
    if damage == "cut":
        packed = packed[: len(packed) // 2]
    elif damage == "flipped":
        packed[-5] ^= 1
    else:
        packed = bytearray(b"plain text")
    path = tmp_path / "images.gz"
    path.write_bytes(packed)
    with pytest.raises(MachineError, match=f"{path} is damaged .* reading breaks off after at least"):
        read_idx(path, (28, 28))


def test_claim_of_a_header_reserves_no_memory(tmp_path: Path) -> None:
    """Two gigabytes are claimed, three bytes are there."""
    path = tmp_path / "labels"
    path.write_bytes(idx((LARGEST,), b"abc"))
    with pytest.raises(MachineError, match="bytes of data, as its header says, found 3\n"):
        read_idx(path, ())


def test_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=f"cannot read {tmp_path}: Is a directory"):
        idx_dimensions(tmp_path, 1)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(MachineError, match="/proc/self/mem is damaged or no idx file: reading breaks off"):
        idx_dimensions(Path("/proc/self/mem"), 1)


def test_different_numbers_of_images_and_labels_are_refused(root: Path) -> None:
    (root / "train-labels-idx1-ubyte").write_bytes(idx((2,), b"\0\1"))
    images, labels = root / "train-images-idx3-ubyte", root / "train-labels-idx1-ubyte"
    assert refusal(root).message == f"{images} holds 7 images, but {labels} holds 2 labels"


def test_label_out_of_range_is_refused(root: Path) -> None:
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx((TEST,), b"\0\x0a\1"))
    expected = f"{root / 't10k-labels-idx1-ubyte'}: expected labels from 0 to 9, found 10"
    assert refusal(root).message == expected


def test_shape_follows_the_files_that_are_there(root: Path, tmp_path: Path) -> None:
    assert data_shape("mnist", {"root": str(root)}) == DataShape((1, 28, 28), 10, TRAIN)
    assert data_shape("mnist", {"root": str(tmp_path / "nowhere")}) == DataShape((1, 28, 28), 10, 60_000)
    assert data_shape("mnist", {}) == DataShape((1, 28, 28), 10, 60_000)


@pytest.mark.parametrize("value", [7, "", ["a"]])
def test_root_must_be_a_folder_name(value: object) -> None:
    with pytest.raises(UsageError, match="option 'root' must be a folder, found"):
        load("mnist", {"root": value})
