"""`--against`: verdicts on chosen seconds, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncpipe.errors import UsageError
from asyncpipe.tools.bench.against import compare, read_earlier
from tests.tools.bench.results import HALVES, LU, ONE, document, trained

NOISE = (0.98, 1.0, 1.02, 1.01, 0.99, 1.0, 1.0)


def row(ours: float, peer: float = 1.0, noise: tuple[float, ...] = NOISE, name: str = "cpu-mlp") -> dict[str, object]:
    return trained({ONE: [peer] * len(noise), LU: [ours * one for one in noise]}, name=name)


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (row(0.5), row(0.4), "faster"),
        (row(0.5), row(0.6), "slower"),
        (row(0.5), row(0.5), "same"),
        (row(0.5), row(0.495), "same"),  # smaller than what two runs differ by
        (row(0.5), row(1.0, 2.0), "same"),  # the machine is slower, not we
        (row(0.5, noise=(0.5, 1.0, 2.0)), row(0.4, noise=(0.5, 1.0, 2.0)), "same"),  # too much noise to tell
    ],
)
def test_a_verdict_is_about_the_ratio_to_the_best_peer(before: object, now: object, verdict: str) -> None:
    (found,) = compare([now], document(before))  # type: ignore[list-item,arg-type]
    assert found["verdict"] == verdict
    assert found["low"] <= found["ratio"] <= found["high"]


def test_a_new_best_peer_counts() -> None:
    now = trained({ONE: [1.0] * 7, HALVES: [0.8] * 7, LU: [0.5] * 7})
    (found,) = compare([now], document(trained({ONE: [1.0] * 7, LU: [0.5] * 7})))
    assert (found["verdict"], found["before"], found["now"]) == ("slower", 2.0, 1.6)


def test_rows_that_one_run_lacks_have_no_verdict() -> None:
    missing = {"number": "14", "name": "cpu-mlp", "status": "failed", "reason": "x"}
    assert compare([row(0.5)], document(missing)) == []
    assert compare([row(0.5, name="cpu-lstm")], document(row(0.5))) == []


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    with pytest.raises(UsageError, match=r"--against .*old\.json: No such file"):
        read_earlier(file)
    file.write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        read_earlier(file)
    file.write_text('{"schema": "asyncpipe.run/1"}')
    with pytest.raises(UsageError, match=r"expected the schema asyncpipe\.bench/1, found 'asyncpipe\.run/1'"):
        read_earlier(file)
