"""The data set that ships: what is in the file, and the split, which no random number decides."""

from __future__ import annotations

import hashlib
import importlib.resources
import re

import numpy as np
import pytest
import torch

from asyncpipe.data import load
from asyncpipe.data.dataset import DataSet
from asyncpipe.data.digits import split_by_class


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load("digits", {})


def test_images_are_floats_from_0_to_1(digits: DataSet) -> None:
    for split, samples in ((digits.train, 1442), (digits.test, 355)):
        assert split.inputs.shape == (samples, 1, 8, 8)
        assert split.inputs.dtype == torch.float32
        assert split.inputs.is_contiguous()
        assert (split.inputs.min().item(), split.inputs.max().item()) == (0, 1)
        assert torch.equal(split.inputs * 16, (split.inputs * 16).round())


def test_targets_are_the_ten_digits(digits: DataSet) -> None:
    train, test = digits.train.targets, digits.test.targets
    assert train.dtype == test.dtype == torch.int64
    assert (train.bincount() + test.bincount()).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_a_fifth_of_each_class_is_for_tests(digits: DataSet) -> None:
    assert digits.test.targets.bincount().tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]


def test_no_test_image_is_trained_on(digits: DataSet) -> None:
    train = {image.numpy().tobytes() for image in digits.train.inputs}
    assert not train & {image.numpy().tobytes() for image in digits.test.inputs}


def test_first_image_is_the_first_line_of_the_file(digits: DataSet) -> None:
    """The first line of the well-known file, a zero; it is the first of its class, hence not for tests."""
    rows = [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]
    assert (digits.train.inputs[0, 0, :2] * 16).tolist() == rows
    assert digits.train.targets[0] == 0


def test_every_fifth_of_a_class_tests_in_the_order_of_the_file() -> None:
    targets = np.array([0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0], dtype=np.int64)
    assert np.flatnonzero(split_by_class(targets)).tolist() == [6, 10]


def test_split_never_changes(digits: DataSet) -> None:
    """Accuracies of different versions of asyncpipe must be about the same test images."""
    digest = hashlib.sha256(digits.test.inputs.numpy().tobytes() + digits.test.targets.numpy().tobytes())
    assert digest.hexdigest() == "fd0f84111b16dfaca20405b6b3e7297382a2077efbd2137cc42c7974b0a9dd19"


def test_source_and_licence_ship_with_the_data() -> None:
    text = importlib.resources.files("asyncpipe.data").joinpath("SOURCES.md").read_text(encoding="utf-8")
    assert re.search(r"Alpaydin.*Kaynak", text)
    assert "CC BY 4.0" in text
