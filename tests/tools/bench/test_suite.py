"""The suite: shares of the budget, rows that this machine cannot measure, and what becomes of a row's process."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.errors import UsageError
from asyncpipe.tools.bench.process import measure_apart, result_of
from asyncpipe.tools.bench.rows import ROWS, choose_rows
from asyncpipe.tools.bench.setting import Setting
from asyncpipe.tools.bench.suite import built_ahead, run_suite
from asyncpipe.tools.bench.workloads import CPU_WORKLOADS, CUDA_WORKLOADS

SETTING = Setting("cpu", 60.0)
TINY = Setting("cpu", 30.0, smoke=True, contenders=("eager, 1", "async-lu"))


def test_every_workload_has_a_row_with_its_device() -> None:
    trained = {row.name: row.needs for row in ROWS.values() if row.trains and not row.not_built}
    assert trained == {w.name: "cuda" for w in CUDA_WORKLOADS} | {w.name: "cpu" for w in CPU_WORKLOADS}


def test_rows_are_chosen_by_number_or_name() -> None:
    assert [row.name for row in choose_rows(["7", "cpu-mlp"])] == ["gpt2-16k", "gpt2-64k", "cpu-mlp"]
    assert choose_rows([]) == list(ROWS.values())
    with pytest.raises(UsageError, match=r"there is no row 'cpu-mpl'\n  help: did you mean 'cpu-mlp'\?"):
        choose_rows(["cpu-mpl"])


def test_all_functions_of_rows_are_there() -> None:
    assert all(callable(row.function()) for row in ROWS.values())


def test_a_row_takes_its_share_of_what_is_left() -> None:
    now = [0.0]
    asked: dict[str, float] = {}

    def measure(name: str, setting: Setting) -> dict[str, Any]:
        asked[name] = setting.seconds
        now[0] += 46.0 if name == "cpu-lstm" else setting.seconds + 6.0
        return {"status": "measured"}

    found = list(run_suite(choose_rows(["14"]), SETTING, 164.0, measure, lambda: now[0]))
    # 164 s without four starts of 6 s are 35 s a row; the first took 5 s more than that and its start.
    assert asked == pytest.approx(
        {"cpu-lstm": 35.0, "cpu-mlp": 100 / 3, "cpu-convnet": 100 / 3, "cpu-deep-narrow": 100 / 3}
    )
    assert [row["status"] for row in found] == ["measured"] * 4


def test_rows_for_which_nothing_is_left_say_so() -> None:
    ticks = count(0, 30)
    found = list(run_suite(choose_rows(["14"]), SETTING, 80.0, lambda *a: {"status": "measured"}, lambda: next(ticks)))
    assert [row["status"] for row in found] == ["measured", "left out", "left out", "left out"]
    assert found[-1]["reason"] == "0 s of the budget would be left for it; give a larger --budget, or fewer --rows"


def test_what_a_machine_cannot_measure_is_said_in_the_row() -> None:
    def nothing(name: str, setting: Setting) -> dict[str, Any]:
        raise AssertionError(name)

    (found,) = run_suite(choose_rows(["lstm-cell"]), SETTING, 60.0, nothing)
    assert (found["status"], found["reason"]) == ("not possible", "needs CUDA")
    (found,) = run_suite(choose_rows(["cpu-mlp"]), Setting("cuda", 60.0), 60.0, nothing)
    assert found["reason"] == "is measured on the CPU: leave --device out, or set it to cpu"


def test_a_row_that_is_not_done_in_time_is_ended() -> None:
    found = measure_apart("cpu-mlp", TINY, limit=0.05)
    assert (found["status"], found["reason"]) == ("failed", "not done after 0 seconds")


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (
            1,
            "Traceback\n...\nCUDA error: an illegal memory access\n",
            "exit code 1: CUDA error: an illegal memory access",
        ),
        (-11, "", "ended by signal 11: it said nothing"),
        (None, "still here", "not done after 30 seconds"),
    ],
)
def test_a_process_that_dies_leaves_its_last_words(tmp_path: Path, code: int | None, said: str, reason: str) -> None:
    (tmp_path / "stderr").write_text(said)
    found = result_of(tmp_path / "row.json", tmp_path / "stderr", code, 30.0)
    assert found == {"status": "failed", "reason": reason}


def test_a_result_counts_even_if_the_process_hangs_after_it(tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text('{"status": "measured"}')
    assert result_of(tmp_path / "row.json", tmp_path / "stderr", None, 30.0) == {"status": "measured"}


@pytest.mark.slow
def test_rows_can_be_built_ahead() -> None:
    rows = choose_rows(["cpu-mlp", "cpu-convnet"])
    with built_ahead(rows, TINY, 60.0) as measure:
        found = list(run_suite(rows, TINY, 60.0, measure))
    assert [(row["status"], len(row["contenders"])) for row in found] == [("measured", 2), ("measured", 2)]


def test_a_setting_survives_as_text() -> None:
    assert Setting.parse(str(TINY)) == TINY
