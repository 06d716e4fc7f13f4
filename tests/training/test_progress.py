"""Progress lines: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time

import pytest

from asyncpipe.training.loop import epochs_text
from asyncpipe.training.progress import Progress


def test_plain_lines_come_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress(40) as progress:
        for done in range(0, 41, 10):
            now[0] += 2.0
            progress.update(done, None if done == 0 else 1.5)
        progress.line("epoch 1")
    assert capsys.readouterr().err == "20/40 microbatches  loss 1.5000  3.3/s  6 s left\nepoch 1\n"


def test_epochs_are_counted_with_four_decimals_at_most() -> None:
    assert [epochs_text(count) for count in (2.0, 0.5, 0.00765111, 10.0, 0.0)] == ["2", "0.5", "0.0077", "10", "0"]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(4, quiet=True) as progress:
        progress.update(4, 1.0)
        progress.line("epoch 1")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_and_lines_that_stay(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress(4) as progress:
        progress.update(2, 0.25)
        progress.line("epoch 1  loss 0.2500")
    assert "epoch 1  loss 0.2500" in capsys.readouterr().err
