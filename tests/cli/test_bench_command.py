"""`asyncpipe tools bench` from the command line: one tiny row to the end, its document, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncpipe.cli import tools_bench
from tests.command_line import Outcome, invoke
from tests.tools.bench.results import LU, ONE, trained


def bench(*arguments: str) -> Outcome:
    return invoke("tools", "bench", *arguments)


@pytest.mark.slow
def test_a_tiny_run_measures_compares_and_gates(tmp_path: Path) -> None:
    out = tmp_path / "results" / "suite.json"
    tiny = ("--smoke", "--rows", "cpu-mlp,13", "--contenders", "eager", "--contenders", "async-lu")
    done = bench(*tiny, "--rows", "cpu-mlp", "--out", str(out), "--fail-under", "1000")
    assert done.code == 6, done.stderr
    document = json.loads(out.read_text())
    assert (document["schema"], document["smoke"], document["device"]) == ("asyncpipe.bench/1", True, "cpu")
    refused, trained = document["rows"]
    assert (refused["status"], refused["reason"]) == ("not possible", "needs CUDA")
    assert (trained["status"], trained["guard"], trained["not_run"]) == ("measured", [], [])
    names = [contender["name"] for contender in trained["contenders"]]
    assert names == ["eager, 1 thread", "eager, all threads", "asyncpipe async-lu"]
    gate = "below --fail-under 1000: cpu-mlp: asyncpipe async-lu reaches "
    assert done.stderr.splitlines()[-1].startswith(gate)
    assert done.stdout.splitlines()[-2:] == [
        "1 of 2 rows measured; 1 not possible: needs CUDA",
        "smoke run: sizes were tiny, and the numbers mean nothing",
    ]


def test_a_ratio_below_the_gate_is_exit_code_6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On chosen seconds: a run that measures its own takes ten, and is slow."""
    row = trained({ONE: [1.0] * 5, LU: [0.5] * 5})
    monkeypatch.setattr(tools_bench, "_measured", lambda rows, document, asked: iter([row]))
    out = tmp_path / "results" / "suite.json"
    done = bench("--rows", "cpu-mlp", "--out", str(out), "--fail-under", "3")
    gate = "below --fail-under 3: cpu-mlp: asyncpipe async-lu reaches "
    assert (done.code, done.stderr.splitlines()[-1].startswith(gate)) == (6, True)
    assert json.loads(out.read_text())["rows"] == [row]
    assert bench("--rows", "cpu-mlp", "--fail-under", "1.5").code == 0


@pytest.mark.slow
def test_json_is_one_document_with_a_verdict_for_each_row(tmp_path: Path) -> None:
    tiny = ("--smoke", "--rows", "cpu-mlp", "--contenders", "eager,async-lu", "--json")
    first = bench(*tiny)
    (tmp_path / "first.json").write_text(first.stdout)
    second = bench(*tiny, "--against", str(tmp_path / "first.json"))
    (verdict,) = json.loads(second.stdout)["against"]["rows"]
    assert verdict["row"] == "cpu-mlp"
    assert verdict["verdict"] in ("faster", "slower", "same")


def test_rows_are_listed_without_measuring() -> None:
    done = bench("--list", "--rows", "2,cpu-mlp,13")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == (
        " 2 imdb-lstm        cuda  IMDb-shaped LSTM 2 x 256, batch 75, 200 steps\n"
        "13 host-cost        cuda  what a period costs the host\n"
        "14 cpu-mlp          cpu   MLP 6 x 1024, batch 128\n"
    )


def test_wrong_options_are_told(tmp_path: Path) -> None:
    done = bench("--rows", "15")
    numbers = ", ".join(map(str, range(1, 15)))
    assert done.code == 2
    assert done.stderr.startswith("error: --rows: there is no row '15'")
    assert done.stderr.endswith(f"numbers: {numbers}\n")
    done = bench("--smoke", "--rows", "cpu-mlp", "--contenders", "nobody")
    assert done.code == 2
    assert "--contenders: there is none called 'nobody'" in done.stderr
    done = bench("--against", str(tmp_path / "none.json"))
    assert done.code == 2
    assert "none.json: No such file or directory" in done.stderr


def test_a_gpu_that_is_not_there_is_exit_code_4() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    done = bench("--device", "cuda")
    assert done.code == 4
    assert done.stderr.startswith("error: --device cuda: torch finds no CUDA device")
