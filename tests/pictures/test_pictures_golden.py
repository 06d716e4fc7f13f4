"""Pictures as files, compared whole."""

from __future__ import annotations

import pytest

from tests.pictures.golden import FILES, FOLDER, golden_text


@pytest.mark.parametrize("file", FILES)
def test_picture_is_as_it_was(file: str) -> None:
    assert golden_text(file) == (FOLDER / file).read_text("utf-8")


def test_every_expected_picture_is_compared() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)
