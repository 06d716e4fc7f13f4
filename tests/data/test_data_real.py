"""The real files, where ASYNCPIPE_DATA names the folder that holds them: official counts, means and vocabularies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from asyncpipe.data import load
from asyncpipe.data.dataset import DataSet

pytestmark = pytest.mark.slow


def real(name: str, inner: str, **options: object) -> DataSet:
    folder = os.environ.get("ASYNCPIPE_DATA")
    if folder is None:
        pytest.skip("ASYNCPIPE_DATA names no folder of real data")
    if not (Path(folder) / inner).exists():
        pytest.skip(f"{folder} holds no {inner}")
    return load(name, {"root": folder, **options})


@pytest.mark.parametrize(("name", "inner"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_cifar_is_balanced_and_has_its_published_mean_and_deviation(name: str, inner: str) -> None:
    data = real(name, inner)
    assert data.train.targets.bincount().tolist() == [50_000 // data.classes] * data.classes
    assert data.test.targets.bincount().tolist() == [10_000 // data.classes] * data.classes
    inputs, _ = data.train.take(torch.arange(50_000))
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-3
    assert (inputs.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_imdb_has_as_many_bad_as_good_reviews_and_a_full_vocabulary() -> None:
    """Copies without a few damaged reviews are in use, hence the tolerance."""
    data = real("imdb", "aclImdb")
    for split in (data.train, data.test):
        assert split.targets.bincount().tolist() == pytest.approx([12_500, 12_500], abs=10)
        assert split.inputs.max() == 9_999
        assert (split.inputs == 1).float().mean() < 0.05
    assert data.train.inputs.reshape(-1).bincount()[2:].argmax() == 0


def test_shakespeare_has_65_characters() -> None:
    data = real("text", "tinyshakespeare.txt", file="tinyshakespeare.txt")
    assert (data.vocabulary, len(data.train), len(data.test)) == (65, 3_921, 435)
