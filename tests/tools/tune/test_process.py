"""Trials in real processes: what goes wrong there becomes one line here."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.errors import NumericalError, UserCodeError
from asyncpipe.tools.tune.process import run_trial
from asyncpipe.tools.tune.request import Request, read_request
from asyncpipe.tools.tune.trial import answer

AWKWARD = Path(__file__).with_name("awkward.py")
GIB = 2**30


def trial(folder: Path, kind: str, timeout: float = 100.0, **values: Any) -> dict[str, Any]:
    job = folder / "job.yaml"
    job.write_text(
        f"model: {{use: './awkward.py:model', kind: {kind}}}\ndata: digits\noptimizer: {{use: sgd, lr: 0.1}}\n"
    )
    (folder / "awkward.py").write_text(AWKWARD.read_text())
    allow = (str(folder / "awkward.py"),)
    asked = Request("speed", "sgd", tuned="sgd", job=str(job), allow=allow, seconds=0.05, warm_up=0.0, **values)
    return run_trial(asked, timeout)


def test_model_that_raises_gives_its_action_and_its_words(tmp_path: Path) -> None:
    assert trial(tmp_path, "raises") == {
        "failed": "user code",
        "exit_code": 5,
        "reason": "stream main, action 0F0 (forward of stage 0): RuntimeError: a shape that does not fit",
    }


def test_model_that_never_ends_is_ended(tmp_path: Path) -> None:
    begin = time.monotonic()
    found = trial(tmp_path, "sleeps", timeout=3.0)
    assert found == {
        "failed": "hang",
        "exit_code": None,
        "reason": "no result within 3 s; the process was ended",
    }
    assert time.monotonic() - begin < 60  # and not the model's 1000 s


@pytest.mark.slow
def test_model_that_takes_too_much_memory_is_out_of_memory(tmp_path: Path) -> None:
    found = trial(tmp_path, "allocates", memory=2 * GIB)
    assert (found["failed"], found["exit_code"]) == ("out of memory", 8)
    assert "40000000000 bytes" in found["reason"]


@pytest.mark.slow
def test_trial_that_is_killed_says_by_which_signal(tmp_path: Path) -> None:
    assert trial(tmp_path, "dies") == {
        "failed": "killed",
        "exit_code": -9,
        "reason": "by SIGKILL, as the system does where memory runs out",
    }


@pytest.mark.slow
def test_trial_measures_windows_of_the_steady_state(tmp_path: Path) -> None:
    found = trial(tmp_path, "fine")
    assert len(found["speeds"]) == 5
    assert min(found["speeds"]) > 0
    assert (found["stages"], found["staleness"]) == (1, [0.0])
    assert found["peak_bytes"] > 2**20


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (UserCodeError("stream a: ValueError: no", "mend it"), 5, "stream a: ValueError: no"),
        (NumericalError("the loss is nan"), 6, "the loss is nan"),
        (MemoryError(), 8, "MemoryError: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nmore"), 8, "RuntimeError: Default"),
        (KeyError("x"), 1, "KeyError: 'x'"),
        (KeyboardInterrupt(), 130, "KeyboardInterrupt: "),
    ],
)
def test_failure_has_the_exit_code_of_a_run(
    error: BaseException, code: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(asked: Request) -> dict[str, Any]:
        raise error

    found, document = answer(Request("speed", "sgd"), run)
    assert found == code
    assert document["failed"].startswith(reason)
    assert "\n" not in document["failed"]
    assert type(error).__name__ in capsys.readouterr().err  # all of it, for whoever looks


def test_lack_of_memory_inside_an_action_is_found_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    def run(asked: Request) -> dict[str, Any]:
        raise UserCodeError("stream main, action 0F0: MemoryError") from MemoryError()

    assert answer(Request("speed", "sgd"), run)[0] == 8


def test_request_comes_out_as_it_went_in() -> None:
    asked = Request("costs", "sgd", ("stages=1",), thread_counts=(1, 2), memory=5)
    assert read_request(asked.document()) == asked


def test_interpreter_that_cannot_start_is_a_failure_too(tmp_path: Path) -> None:
    """A process that says nothing at all, here since it finds a broken module first."""
    (tmp_path / "asyncpipe").mkdir()
    (tmp_path / "asyncpipe" / "__init__.py").write_text("raise SystemExit(4)")
    found = run_trial(Request("speed", "sgd"), 60.0, {"PYTHONPATH": os.fspath(tmp_path)})
    assert found == {"failed": "this machine cannot", "exit_code": 4, "reason": "it said nothing"}
