"""The reviews of IMDb (Maas et al. 2011) from their official folders, as token ids.

A text becomes lower case and `<br />` a space. Tokens are runs of letters and digits, with apostrophes inside
(`don't`); all else separates. The vocabulary is that of the training part: id 0 pads, 1 is any unknown token, then
come the most frequent ones, equally frequent ones in alphabetical order. A longer review keeps its last tokens, a
shorter one is padded in front: the last step of a recurrent model is always text.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asyncpipe.data.catalog import ImdbOptions
from asyncpipe.data.dataset import DataSet, Split, as_tokens
from asyncpipe.data.folders import data_folder, listing, read_bytes
from asyncpipe.errors import MachineError

__all__ = ["load_imdb", "tokens"]

WHERE_FROM = (
    "unpack https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz and name aclImdb, or the folder "
    "around it, with 'root'"
)
CLASSES = ("neg", "pos")
PADDING, UNKNOWN, RESERVED = 0, 1, 2
TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

Ids = NDArray[np.int32]


def tokens(text: str) -> list[str]:
    """The tokens of a review, in order."""
    return TOKEN.findall(text.lower().replace("<br />", " "))


def load_imdb(options: ImdbOptions) -> DataSet:
    """Ids (length,), targets 0 for a bad and 1 for a good review; the bad ones first, each by name of its file.

    MachineError where a folder is missing (what, where, how to get it), holds no review, or one is no UTF-8 text.
    """
    root = data_folder("imdb", options.root, "aclImdb", "train/pos", WHERE_FROM)
    known = _Numbers()
    train = [_reviews(root / "train" / name, known) for name in CLASSES]
    words = list(known)
    test = [_reviews(root / "test" / name, known) for name in CLASSES]
    ids = np.full(len(known), UNKNOWN, dtype=np.int32)
    ids[: len(words)] = _ids(words, train, options.vocabulary)
    return DataSet(
        train=_split(train, ids, options.length),
        test=_split(test, ids, options.length),
        classes=len(CLASSES),
        sample_shape=(options.length,),
        vocabulary=options.vocabulary,
    )


class _Numbers(dict[str, int]):
    """Words get numbers as they come: how frequent they are is known only after the last one."""

    def __missing__(self, word: str) -> int:
        return self.setdefault(word, len(self))


def _reviews(folder: Path, known: _Numbers) -> list[Ids]:
    """The words of each review as numbers."""
    files = [path for path in listing(folder) if path.suffix == ".txt"]
    if not files:
        raise MachineError(f"data imdb needs reviews in {folder}, which holds no .txt file", WHERE_FROM)
    return [np.array([known[word] for word in tokens(_text(file))], dtype=np.int32) for file in files]


def _text(file: Path) -> str:
    content = read_bytes(file, WHERE_FROM)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        cause = f"byte {error.start:,} is {content[error.start]:#04x}"
        raise MachineError(f"{file} is damaged: no UTF-8 text, {cause}", WHERE_FROM) from error


def _ids(words: list[str], reviews: list[list[Ids]], vocabulary: int) -> Ids:
    """The id of each training word by its number: by how often it comes, then by the alphabet."""
    counts = np.bincount(np.concatenate([review for part in reviews for review in part]), minlength=len(words))
    order = sorted(range(len(words)), key=lambda number: (-counts[number], words[number]))
    kept = order[: vocabulary - RESERVED]
    ids = np.full(len(words), UNKNOWN, dtype=np.int32)
    ids[kept] = np.arange(RESERVED, RESERVED + len(kept))
    return ids


def _split(reviews: list[list[Ids]], ids: Ids, length: int) -> Split:
    """Kept as int32, half the size of int64."""
    flat = [review for part in reviews for review in part]
    inputs = np.full((len(flat), length), PADDING, dtype=np.int32)
    for row, review in zip(inputs, flat, strict=True):
        if kept := review[-length:].size:
            row[-kept:] = ids[review[-length:]]
    targets = np.repeat(np.arange(len(CLASSES)), [len(part) for part in reviews])
    return Split(torch.from_numpy(inputs), torch.from_numpy(targets), as_tokens)
