"""A plain text file for language models: windows of tokens, and the tokens that follow."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from asyncpipe.data.catalog import TextOptions
from asyncpipe.data.dataset import DataSet, Split, as_tokens
from asyncpipe.data.text_file import read_characters, read_text_bytes
from asyncpipe.errors import UsageError

__all__ = ["load_text"]

Ids = NDArray[np.integer]


def load_text(options: TextOptions) -> DataSet:
    """Windows (context,) of ids; the targets (context,) are the ids one place later.

    The last `test` of the file tests, what is before it trains. Windows follow each other and do not overlap; tokens
    after the last whole one are left out. Ids are bytes, or places of characters among those of the file, sorted.
    """
    ids, vocabulary = _bytes(options) if options.level == "byte" else _characters(options)
    train = int(len(ids) * (1 - options.test))
    return DataSet(
        train=_windows(ids[:train], options, "train on"),
        test=_windows(ids[train:], options, "test with"),
        classes=vocabulary,
        sample_shape=(options.context,),
        vocabulary=vocabulary,
        target_shape=(options.context,),
    )


def _bytes(options: TextOptions) -> tuple[Ids, int]:
    return np.frombuffer(bytearray(read_text_bytes(options.root, options.file)), dtype=np.uint8), 256


def _characters(options: TextOptions) -> tuple[Ids, int]:
    text = read_characters(options.root, options.file)
    codes, ids = np.unique(np.frombuffer(text.encode("utf-32-le"), dtype="<u4"), return_inverse=True)
    vocabulary = options.vocabulary or len(codes)
    if len(codes) > vocabulary:
        message = f"data text: {options.file} has {len(codes):,} characters, more than its option 'vocabulary' states"
        raise UsageError(f"{message}, {vocabulary:,}", f"write vocabulary: {len(codes)}, or leave it out")
    return ids.astype(np.uint8 if len(codes) <= 256 else np.int32), vocabulary


def _windows(ids: Ids, options: TextOptions, purpose: str) -> Split:
    """Inputs and targets are views of the same ids."""
    count = (len(ids) - 1) // options.context
    if count < 1:
        raise UsageError(
            f"data text: {options.file} leaves {len(ids):,} tokens to {purpose}, fewer than a window of "
            f"{options.context:,} and one more",
            "make 'context' smaller, change 'test', or take a longer text",
        )
    stored = torch.from_numpy(ids)
    size = count * options.context
    inputs, targets = (stored[start : start + size].view(count, options.context) for start in (0, 1))
    return Split(inputs, targets, as_tokens)
