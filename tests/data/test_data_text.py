"""A plain file for language models: ids, windows, the split by position, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from asyncpipe.data import data_shape, load
from asyncpipe.data.catalog import DataShape
from asyncpipe.data.dataset import DataSet
from asyncpipe.errors import MachineError, UsageError

TEXT = "hello world\r\n" * 10
"""130 characters: the line end, carriage return, space, d, e, h, l, o, r, w."""
IDS = {character: place for place, character in enumerate("\n\r dehlorw")}


def small(folder: Path, **options: object) -> DataSet:
    (folder / "book.txt").write_bytes(TEXT.encode())
    return load("text", {"file": str(folder / "book.txt"), "context": 4, **options})


def test_windows_follow_each_other_and_targets_are_one_place_later(tmp_path: Path) -> None:
    data = small(tmp_path)
    ids = [IDS[character] for character in TEXT]
    train, test = ids[:117], ids[117:]
    for split, part in ((data.train, train), (data.test, test)):
        count = (len(part) - 1) // 4
        inputs, targets = split.take(torch.arange(count))
        assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)
        assert (inputs.shape, targets.shape, len(split)) == ((count, 4), (count, 4), count)
        assert inputs.reshape(-1).tolist() == part[: 4 * count]
        assert targets.reshape(-1).tolist() == part[1 : 4 * count + 1]
    assert (data.classes, data.vocabulary, data.sample_shape, data.target_shape) == (10, 10, (4,), (4,))


def test_bytes_are_their_own_ids(tmp_path: Path) -> None:
    data = small(tmp_path, level="byte", test=0.5)
    inputs, _ = data.train.take(torch.arange(16))
    assert bytes(inputs.reshape(-1).tolist()) == TEXT.encode()[:64]
    assert (data.classes, data.vocabulary) == (256, 256)


def test_many_characters_are_ids_too(tmp_path: Path) -> None:
    """More than a byte numbers, and one outside the first 65,536."""
    text = "".join(map(chr, range(0x100, 0x300))) + "\U0001f600a" * 300
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    data = load("text", {"file": "book.txt", "root": str(tmp_path), "context": 1})
    assert data.vocabulary == 514
    assert data.train.take(torch.arange(512, 515))[0].reshape(-1).tolist() == [513, 0, 513]


def test_windows_share_memory_with_their_targets(tmp_path: Path) -> None:
    train = small(tmp_path).train
    assert train.inputs.untyped_storage().data_ptr() == train.targets.untyped_storage().data_ptr()


def test_stated_vocabulary_makes_room_and_needs_no_file(tmp_path: Path) -> None:
    assert small(tmp_path, vocabulary=65).classes == 65
    shape = data_shape("text", {"file": "nowhere.txt", "vocabulary": 65})
    assert shape == DataShape((256,), 65, None, 65, (256,))
    assert data_shape("text", {"file": "nowhere.txt", "level": "byte", "context": 8}).vocabulary == 256


def test_vocabulary_is_read_from_the_file_where_it_is_not_stated(tmp_path: Path) -> None:
    small(tmp_path)
    assert data_shape("text", {"file": "book.txt", "root": str(tmp_path)}).vocabulary == 10


def test_missing_file_is_named_and_said_where_from() -> None:
    for ask in (load, data_shape):
        with pytest.raises(MachineError) as caught:
            ask("text", {"file": "nowhere.txt"})
        assert caught.value.message == "data text needs the file nowhere.txt, which is not there"
        assert "https://raw.githubusercontent.com/karpathy/char-rnn/master" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"", "is empty"), (b"caf\xe9 noir", "is no UTF-8 text: byte 3 is 0xe9\n  help: convert it, or take its bytes")],
)
def test_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(MachineError, match=f"book.txt {cause}"):
        load("text", {"file": "book.txt", "root": str(tmp_path)})


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"context": 200}, "leaves 117 tokens to train on, fewer than a window of 200 and one more"),
        ({"context": 13}, "leaves 13 tokens to test with, fewer than a window of 13 and one more"),
        ({"test": 0}, "leaves 0 tokens to test with"),
        ({"test": 1}, "option 'test' must be a number of at least 0 and less than 1, found 1"),
        ({"vocabulary": 9}, "has 10 characters, more than its option 'vocabulary' states, 9"),
        ({"level": "word"}, "option 'level' must be char or byte, found 'word'"),
        ({"level": "byte", "vocabulary": 256}, "option 'vocabulary' is for characters"),
        ({"file": None}, "data text needs the option 'file'"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, object], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        small(tmp_path, **options)
