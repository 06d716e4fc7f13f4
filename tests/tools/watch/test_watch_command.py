"""`tools watch` from end to end: every way in which a run can stand, and the run that it really watches."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.errors import UsageError
from asyncpipe.runtime.process import ProcessIdentity
from asyncpipe.tools.watch.live import LiveFrames
from asyncpipe.tools.watch.rows import RowTail
from asyncpipe.tools.watch.watched import Look, Watched, follow
from tests.command_line import invoke
from tests.docs.test_metrics import documented
from tests.docs.test_tables_of_the_format import section
from tests.tools.watch.folders import add_rows, dead_process, line_of, rows, write_plan, write_run

METRICS = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, document: dict[str, Any]) -> None:
    Path("run", name).write_text(json.dumps(document), "utf-8")


def state(name: str = "run") -> tuple[str, str]:
    outcome = invoke("tools", "watch", name, "--once", "--json")
    assert (outcome.code, outcome.stderr) == (0, "")
    found = json.loads(outcome.stdout)
    return found["state"], found["message"]


def test_each_way_to_end_is_told_apart() -> None:
    write_run(Path("run"), *rows(3))
    assert state() == ("running", f"process {os.getpid()}")
    write_plan(Path("run"), dead_process())
    pid = dead_process().pid
    assert state() == (
        "killed",
        f"process {pid} is gone and left no result: killed by hand, out of memory, or a full disk",
    )
    write("error.json", {"kind": "NumericalError", "message": "the loss of microbatch 2 is nan", "stopped": False})
    assert state() == ("failed", "NumericalError: the loss of microbatch 2 is nan")
    write("error.json", {"kind": "KeyboardInterrupt", "message": "", "stopped": True})
    assert state() == ("stopped", "KeyboardInterrupt")
    write("summary.json", {"wall_s": 12.34})
    assert state() == ("ended", "12.3 s of training and evaluation")


def test_a_number_that_another_process_has_now_is_no_sign_of_life() -> None:
    this = ProcessIdentity.of_this()
    assert this.lives() is True
    assert this.started is not None
    assert ProcessIdentity(this.pid, this.started - 1, this.place).lives() is False
    write_run(Path("run"), process=ProcessIdentity(this.pid, this.started, "another boot"))
    assert state() == ("unknown", "its process is on another machine, or in another container")


def test_a_file_that_is_not_whole_yet_is_not_there_yet() -> None:
    write_run(Path("run"), *rows(3))
    Path("run/summary.json").write_text('{"wall_s": 1')
    assert state()[0] == "running"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "error: nothing does not exist yet\n  help: without --once, watch waits for it\n"),
        ("empty", "error: empty is empty yet\n  help: without --once, watch waits for it\n"),
        ("file", "error: file: a file; expected a run directory\n  help: as in runs/async-lu-20261121-154512\n"),
        (
            "runs",
            "error: runs: no run directory, since it has no metrics.jsonl\n  help: the newest run in it is runs/new\n",
        ),
        (
            "other",
            "error: other: no run directory, since it has no metrics.jsonl\n"
            "  help: `asyncpipe run --out FOLDER` makes one\n",
        ),
        (
            "profile",
            "error: profile: a folder of `tools profile`, which trains without metrics\n"
            "  help: `asyncpipe tools trace profile` shows its timeline\n",
        ),
    ],
)
def test_what_is_no_run_is_refused_with_what_to_do(name: str, message: str) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    write_run(Path("runs/new"), *rows(1))
    write_run(Path("runs/old"))
    os.utime("runs/old/metrics.jsonl", (1, 1))
    Path("other").mkdir()
    Path("other/x").touch()
    write_run(Path("profile"))
    Path("profile/profile.json").touch()
    outcome = invoke("tools", "watch", name, "--once")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (2, "", message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--once", "--every", "2"], "--every has no meaning with --once"),
        (["--once", "--wait", "2"], "--wait has no meaning with --once"),
        (["--width", "90"], "--width has no meaning without a frame"),
        (["--once", "--json", "--width", "90"], "--width has no meaning without a frame"),
    ],
)
def test_options_without_a_meaning_are_refused(options: list[str], message: str) -> None:
    outcome = invoke("tools", "watch", "run", *options)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"error: {message}\n")


def test_half_a_line_is_read_when_it_is_whole(folder: Path) -> None:
    tail, (one, two) = RowTail(folder / "metrics.jsonl"), map(line_of, rows(2))
    with (folder / "metrics.jsonl").open("w", buffering=1) as file:
        file.write(one + two[:9])
        file.flush()
        assert [row["microbatch"] for row in tail.new()] == [0]
        assert list(tail.new()) == []
        file.write(two[9:] + "{damaged}\n")
        file.flush()
        assert [row["microbatch"] for row in tail.new()] == [1]
        assert tail.damaged == 1
    (folder / "metrics.jsonl").write_text(one)
    with pytest.raises(UsageError, match="became shorter: it is another run's now"):
        list(tail.new())
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(UsageError, match="cannot be read any more: No such file"):
        list(tail.new())


def script(*steps: Callable[[], None]) -> Callable[[float], None]:
    """Takes the place of waiting: one step each time; the clock of the tests is that of its calls."""
    left = list(steps)
    return lambda _: left.pop(0)()


def followed(*steps: Callable[[], None], wait: float = 10.0) -> list[str]:
    seen: list[str] = []

    def show(look: Look) -> None:
        seen.append(f"{look.state.kind} {look.seen.microbatches}")

    follow(Watched(Path("run")), show, 1.0, wait, script(*steps))
    return seen


def test_a_run_is_followed_from_before_it_begins_until_it_ends() -> None:
    seen = followed(
        lambda: None,
        lambda: Path("run").mkdir(),
        lambda: add_rows(Path("run")),
        lambda: write_plan(Path("run")),
        lambda: add_rows(Path("run"), *rows(5)),
        lambda: write("summary.json", {}),
    )
    assert seen == ["waiting 0", "waiting 0", "waiting 0", "unknown 0", "running 0", "running 5", "ended 5"]


def test_a_run_that_never_begins_is_not_waited_for_for_ever() -> None:
    with pytest.raises(UsageError, match="no run after 2 s: run does not exist yet\n  help: --wait SECONDS waits long"):
        followed(lambda: None, lambda: None, wait=2.0)


def test_lines_go_where_there_is_no_terminal_and_documents_with_json() -> None:
    write_run(Path("run"), *rows(20))
    write("summary.json", {"wall_s": 1.0})
    told = "ended (1.0 s of training and evaluation): 20 of 1,000 microbatches, loss 2.2654, 1,600 samples/s\n"
    assert invoke("tools", "watch", "run").stdout == told
    (document,) = invoke("tools", "watch", "run", "--json").stdout.splitlines()
    assert json.loads(document)["schema"] == "asyncpipe.watch/1"
    first, second, *_ = invoke("tools", "watch", "run", "--once", "--width", "80").stdout.splitlines()
    assert first == "async-lu on digits: threads, 2 stages, seed 3 (run)"
    assert second == "ended         1.0 s of training and evaluation"


def test_the_last_frame_stays_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("run"), *rows(20))
    with LiveFrames(60, braille=False) as frames:
        frames.show(Watched(Path("run")).look())
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].rstrip() == "async-lu on digits: threads, 2 stages, seed 3 (run)"
    assert max(map(len, shown)) <= 60


def test_ctrl_c_on_a_terminal_is_130_without_a_traceback() -> None:
    write_run(Path("run"), *rows(20))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "asyncpipe", "tools", "watch", "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "TERM": "xterm"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as watching:
        os.close(theirs)
        try:
            shown = read_until(ours, b"gpu ")
            watching.send_signal(signal.SIGINT)
            shown += read_until(ours, b"interrupted")
            watching.wait(60)
        finally:
            watching.kill()
    os.close(ours)
    assert watching.returncode == 130
    assert b"microbatches  20 of 1,000" in shown
    assert b"Traceback" not in shown
    assert shown.rstrip().endswith(b"interrupted")
    assert {file.name for file in Path("run").iterdir()} == {"metrics.jsonl", "run.json"}


def read_until(terminal: int, text: bytes, seconds: float = 30.0) -> bytes:
    """What a terminal shows, up to and with `text`; less where it ends, or takes too long."""
    found, end = b"", time.monotonic() + seconds
    while text not in found and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                found += os.read(terminal, 65536)
            except OSError:
                break
    return found


def test_a_real_run_writes_what_watch_shows() -> None:
    options = ("--stages", "2", "--steps", "50", "--timed", "--measure-every", "0", "--seed", "4")
    done = invoke("run", "async-lu", "--backend", "serial", *options, "--out", "run", "--json")
    assert done.code == 0, done.stderr
    plan = json.loads(Path("run/run.json").read_text())
    assert sorted(plan) == sorted(documented(section("run.json", METRICS)))
    assert (plan["microbatches"], plan["updates"], plan["stages"], plan["seed"]) == (50, 50, 2, 4)
    assert plan["streams"] == ["forward", "backward[0]", "backward[1]"]
    assert plan["process"]["pid"] == os.getpid()
    found = json.loads(invoke("tools", "watch", "run", "--once", "--json").stdout)
    summary = json.loads(done.stdout)
    assert (found["state"], found["microbatches"], found["samples"]) == ("ended", 50, summary["samples"])
    assert found["evaluation"]["accuracy"] == summary["eval"]["accuracy"]
    assert found["staleness"] == summary["staleness_measured"]["histogram"]
    # One thread runs all streams in turn.
    assert 0.2 < sum(stream["busy"] for stream in found["streams"]) <= 1.0
    assert found["damaged_rows"] == 0


def test_a_run_that_fails_says_so_in_its_directory() -> None:
    failed = invoke("run", "sgd", "--backend", "serial", "-o", "job.optimizer.lr=1e30", "--steps", "9", "--out", "run")
    assert failed.code == 6
    error = json.loads(Path("run/error.json").read_text())
    assert sorted(error) == sorted(documented(section("error.json", METRICS)))
    assert (error["kind"], error["stopped"]) == ("NumericalError", False)
    assert state() == ("failed", f"NumericalError: {error['message']}")
    shutil.rmtree("run")


def test_streams_of_a_gpu_are_not_timed_by_the_host() -> None:
    refused = invoke("run", "sgd", "--backend", "graph", "--timed", "--out", "run")
    assert (refused.code, Path("run").exists()) == (2, False)
    assert refused.stderr == (
        "error: --timed: on graph the host does not see when actions begin and end\n"
        "  help: leave it out, or use serial or threads\n"
    )
