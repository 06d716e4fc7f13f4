"""Names and options of the built-in data sets, and their sizes, which need no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asyncpipe.data import data_shape, load
from asyncpipe.data.catalog import DataShape
from asyncpipe.data.dataset import Split
from asyncpipe.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("door", [load, data_shape])
def test_unknown_data_set_names_the_nearest_and_all(door: Callable[[str, dict[str, object]], object]) -> None:
    with pytest.raises(UsageError) as caught:
        door("fashon-mnist", {})
    assert caught.value.message == "no built-in data set is called 'fashon-mnist' (did you mean 'fashion-mnist'?)"
    assert caught.value.hint == "data sets: digits, mnist, fashion-mnist, cifar10, cifar100, imdb, text, imagefolder"


def test_unknown_option_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        load("mnist", {"rot": "x"})
    assert caught.value.message == "data mnist has no option 'rot' (did you mean 'root'?)"
    assert caught.value.hint == "options of data mnist: root: a folder"


def test_digits_take_no_option() -> None:
    with pytest.raises(UsageError, match="data digits has no option 'root'\n  help: it takes none"):
        data_shape("digits", {"root": "x"})


def test_shape_is_that_of_the_loaded_data() -> None:
    data = load("digits", {})
    assert data_shape("digits", {}) == DataShape(data.sample_shape, data.classes, len(data.train))
    assert data.train.inputs.shape[1:] == data.sample_shape


def test_shapes_need_no_torch() -> None:
    code = (
        "import sys\nfrom asyncpipe.data import NAMES, data_shape\n"
        "options = {'text': {'file': 'book.txt', 'vocabulary': 65}, 'imagefolder': {'classes': 7}}\n"
        "print(*[data_shape(name, options.get(name, {})).classes for name in NAMES])\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["10", "10", "10", "10", "100", "2", "65", "7", "False", "False"]


def test_split_needs_a_target_for_each_sample() -> None:
    with pytest.raises(UsageError, match="one target for each sample, found 3 samples and 2 targets"):
        Split(torch.zeros(3, 1), torch.zeros(2))
