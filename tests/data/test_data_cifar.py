"""CIFAR's batches in the official form, what is wrong with damaged ones, and what is said where one is missing."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from asyncpipe.data import load
from asyncpipe.data.batches import Batches
from asyncpipe.errors import MachineError

BATCH = 4
FILES = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{number}" for number in range(1, 6)], "test_batch", "labels", 10),
    "cifar100": ("cifar-100-python", ["train"], "test", "fine_labels", 100),
}


def batch(first: int, labels: str, classes: int) -> dict[bytes, object]:
    """Four images; of image n, pixel p of channel c is 64 c + n + p % 32."""
    pixels = np.arange(3)[:, None] * 64 + np.arange(1024) % 32
    images = (np.arange(first, first + BATCH)[:, None] + pixels.reshape(1, 3072)).astype(np.uint8)
    values = [(7 * number) % classes for number in range(first, first + BATCH)]
    names = [b"" for _ in values]
    return {b"batch_label": b"a batch", labels.encode(): values, b"data": images, b"filenames": names}


def write_files(root: Path, name: str) -> Path:
    """Small batches under the official names, in the official folder."""
    folder, train, test, labels, classes = FILES[name]
    (root / folder).mkdir()
    for number, file in enumerate([*train, test]):
        (root / folder / file).write_bytes(pickle.dumps(batch(BATCH * number, labels, classes), 2))
    return root / folder


def refusal(root: Path, name: str = "cifar10") -> MachineError:
    with pytest.raises(MachineError) as caught:
        load(name, {"root": str(root)})
    return caught.value


@pytest.mark.parametrize("name", FILES)
def test_batches_follow_each_other_and_channels_are_planes(tmp_path: Path, name: str) -> None:
    folder = write_files(tmp_path, name)
    _, train, _, _, classes = FILES[name]
    for root in (tmp_path, folder):
        data = load(name, {"root": str(root)})
        assert (len(data.train), len(data.test)) == (BATCH * len(train), BATCH)
        assert (data.sample_shape, data.classes, data.vocabulary, data.target_shape) == ((3, 32, 32), classes, None, ())
        assert data.train.inputs[3, 2].tolist() == [[131 + column for column in range(32)]] * 32
        assert data.train.targets.tolist() == [(7 * number) % classes for number in range(len(data.train))]
        assert data.test.inputs[0, 0, 0, 0] == len(data.train)
        assert (data.train.inputs.dtype, data.train.targets.dtype) == (torch.uint8, torch.int64)


@pytest.mark.parametrize(
    ("name", "mean", "deviation"),
    [
        ("cifar10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        ("cifar100", [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    ],
)
def test_batches_are_normalised_by_the_published_mean_and_deviation(
    tmp_path: Path, name: str, mean: list[float], deviation: list[float]
) -> None:
    write_files(tmp_path, name)
    data = load(name, {"root": str(tmp_path), "crop": 4, "flip": True})
    ((inputs, _),) = Batches(data.test, BATCH, shuffle=False).batches()
    expected = data.test.inputs.double() / 255
    expected = (expected - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    assert inputs.dtype == torch.float32
    assert (inputs - expected).abs().max() < 1e-6


def test_only_the_training_part_is_augmented(tmp_path: Path) -> None:
    write_files(tmp_path, "cifar10")
    plain = load("cifar10", {"root": str(tmp_path)})
    augmented = load("cifar10", {"root": str(tmp_path), "crop": 4, "flip": True})
    every = torch.arange(BATCH)
    assert torch.equal(augmented.test.take(every)[0], plain.test.take(every)[0])
    assert not torch.equal(augmented.train.take(every)[0], plain.train.take(every)[0])


@pytest.mark.parametrize("name", FILES)
def test_missing_files_say_where_to_get_them(tmp_path: Path, name: str) -> None:
    archive = name.replace("cifar", "cifar-") + "-python.tar.gz"
    folder, train, test, _, _ = FILES[name]
    with pytest.raises(MachineError) as caught:
        load(name, {})
    hint = f"unpack https://www.cs.toronto.edu/~kriz/{archive} and name {folder}, or the folder around it, with 'root'"
    assert (caught.value.hint, caught.value.exit_code) == (hint, 4)
    assert caught.value.message == f"data {name} does not ship with asyncpipe and 'root' names no folder"
    nowhere = tmp_path / "nowhere"
    assert refusal(nowhere, name).message == f"data {name} needs {train[0]}: {nowhere} is no folder"
    error = refusal(tmp_path, name)
    assert error.message == f"data {name} needs {train[0]}: neither {tmp_path} nor {tmp_path / folder} holds it"
    missing = write_files(tmp_path, name) / test
    missing.unlink()
    error = refusal(tmp_path, name)
    assert (error.message, error.hint) == (f"cannot read {missing}: No such file or directory", hint)


GOOD = batch(0, "labels", 10)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ([1, 2], "expected an array 'data' of shape (samples, 3072), found none"),
        ({**GOOD, b"data": [1, 2]}, "expected an array 'data' of shape (samples, 3072), found none"),
        (
            {**GOOD, b"data": np.zeros((4, 3071), np.uint8)},
            "expected an array 'data' of shape (samples, 3072), found shape (4, 3071)",
        ),
        (
            {**GOOD, b"data": np.zeros(3072, np.uint8)},
            "expected an array 'data' of shape (samples, 3072), found shape (3072,)",
        ),
        ({b"data": GOOD[b"data"]}, "expected a list 'labels' of 4 labels, found none"),
        ({**GOOD, b"labels": [1, 2, 3]}, "expected a list 'labels' of 4 labels, found 3"),
        ({**GOOD, b"labels": [1, 2, 3, 10]}, "expected labels from 0 to 9, found 10"),
        ({**GOOD, b"labels": [1, 2, 3, True]}, "expected labels from 0 to 9, found True"),
    ],
)
def test_batch_that_holds_something_else_is_refused(tmp_path: Path, content: object, cause: str) -> None:
    path = write_files(tmp_path, "cifar10") / "data_batch_4"
    path.write_bytes(pickle.dumps(content, 2))
    assert refusal(tmp_path).message == f"{path} is damaged or no batch of cifar-10-batches-py: {cause}"


def test_cut_batch_is_refused(tmp_path: Path) -> None:
    path = write_files(tmp_path, "cifar10") / "test_batch"
    path.write_bytes(path.read_bytes()[:-500])
    assert refusal(tmp_path).message.startswith(f"{path} is damaged or no pickle of numbers: ")
