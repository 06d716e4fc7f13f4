"""IMDb's folders: tokens, vocabulary and padding of small reviews, and what is said of missing and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from asyncpipe.data import load
from asyncpipe.data.dataset import DataSet
from asyncpipe.data.imdb import WHERE_FROM, tokens
from asyncpipe.errors import MachineError, UsageError

REVIEWS = {
    "train/neg/0_1.txt": "Bad, bad film.",
    "train/neg/1_2.txt": "A film<br /><br />I don't like",
    "train/pos/0_9.txt": "Good film; good, Good!",
    "test/neg/0_3.txt": "unheard of film",
    "test/pos/0_10.txt": "a b c d e film like good",
    "test/pos/1_8.txt": "...",
}
"""In the training part film and good come three times, bad twice, a, don't, i and like once."""


def write_files(root: Path) -> Path:
    for name, text in REVIEWS.items():
        path = root / "aclImdb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def small(root: Path, **options: object) -> DataSet:
    return load("imdb", {"root": str(write_files(root)), "length": 5, **options})


def refusal(root: Path) -> MachineError:
    with pytest.raises(MachineError) as caught:
        load("imdb", {"root": str(root)})
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's GOOD.<br /><br />Really-good!", ["it's", "good", "really", "good"]),
        ("'quoted' rock'n'roll dogs' 10/10", ["quoted", "rock'n'roll", "dogs", "10", "10"]),
        ("caf\xe9 snake_case \u4e2d\u6587 \x96", ["caf\xe9", "snake", "case", "\u4e2d\u6587"]),
        ("", []),
    ],
)
def test_tokens_are_words_in_lower_case(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_ids_follow_frequency_then_the_alphabet_and_padding_is_in_front(tmp_path: Path) -> None:
    data = small(tmp_path)
    film, good, bad, a, dont, i, like = range(2, 9)
    assert data.train.inputs.tolist() == [[0, 0, bad, bad, film], [a, film, i, dont, like], [0, good, film, good, good]]
    assert data.train.targets.tolist() == [0, 0, 1]
    assert data.test.inputs.tolist() == [[0, 0, 1, 1, film], [1, 1, film, like, good], [0, 0, 0, 0, 0]]
    assert data.test.targets.tolist() == [0, 1, 1]
    assert (data.classes, data.sample_shape, data.vocabulary) == (2, (5,), 10_000)


def test_small_vocabulary_keeps_the_most_frequent_words(tmp_path: Path) -> None:
    data = small(tmp_path, vocabulary=4)
    film, good = 2, 3
    assert data.train.inputs.tolist() == [[0, 0, 1, 1, film], [1, film, 1, 1, 1], [0, good, film, good, good]]
    assert data.vocabulary == 4


def test_long_review_keeps_its_end(tmp_path: Path) -> None:
    data = small(tmp_path, length=2)
    assert data.train.inputs.tolist() == [[4, 2], [6, 8], [3, 3]]


def test_batches_are_ids_for_an_embedding(tmp_path: Path) -> None:
    inputs, targets = small(tmp_path).train.take(torch.tensor([2, 0]))
    assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)
    assert (inputs.tolist(), targets.tolist()) == ([[0, 3, 2, 3, 3], [0, 0, 4, 4, 2]], [1, 0])


def test_root_is_the_folder_or_the_one_around_it(tmp_path: Path) -> None:
    around = small(tmp_path)
    inside = load("imdb", {"root": str(tmp_path / "aclImdb"), "length": 5})
    assert torch.equal(inside.train.inputs, around.train.inputs)


def test_missing_files_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="data imdb does not ship with asyncpipe and 'root' names no folder"):
        load("imdb", {})
    error = refusal(tmp_path)
    assert error.message == f"data imdb needs train/pos: neither {tmp_path} nor {tmp_path / 'aclImdb'} holds it"
    assert error.hint == WHERE_FROM
    assert "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz" in WHERE_FROM
    write_files(tmp_path)
    (tmp_path / "aclImdb/test/neg/0_3.txt").unlink()
    error = refusal(tmp_path)
    assert error.message == f"data imdb needs reviews in {tmp_path / 'aclImdb/test/neg'}, which holds no .txt file"
    (tmp_path / "aclImdb/test/neg").rmdir()
    assert refusal(tmp_path).message == f"cannot read {tmp_path / 'aclImdb/test/neg'}: No such file or directory"


def test_review_that_is_no_text_is_named_with_the_place(tmp_path: Path) -> None:
    path = write_files(tmp_path) / "aclImdb/train/pos/1_7.txt"
    path.write_bytes(b"caf\xe9 noir")
    assert refusal(tmp_path).message == f"{path} is damaged: no UTF-8 text, byte 3 is 0xe9"


@pytest.mark.parametrize(("option", "value"), [("vocabulary", 2), ("length", 0), ("length", True)])
def test_options_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"data imdb: option '{option}' must be an integer from"):
        load("imdb", {option: value})
