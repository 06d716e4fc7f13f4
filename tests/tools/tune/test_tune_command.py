"""`asyncpipe tools tune`: whole outputs, on a machine whose speeds are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncpipe.tools.tune.request import Request
from tests.command_line import Outcome, invoke
from tests.tools.tune.pretended import MACHINE, Answer, Machine, costs

SPACES = ("--space", "stages=1,2", "--space", "streams.forward.count=1", "--space", "streams.backward.count=1,2")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """In place of the processes of trials; one more microbatch in flight makes it a fifth faster there."""
    monkeypatch.chdir(tmp_path)
    found = Machine(faster_with_one_more)
    monkeypatch.setattr("asyncpipe.tools.tune.process.run_trial", found)
    monkeypatch.setattr("asyncpipe.tools.tune.trials.machine_and_versions", lambda: MACHINE)
    return found


def faster_with_one_more(asked: Request) -> Answer:
    if asked.schedule == "sgd":
        return 2500.0 if asked.threads == 1 else 3600.0
    if "stages=2" in asked.overrides:
        return {"failed": "user code", "exit_code": 5, "reason": "stream forward, action 0F0: RuntimeError: no"}
    return 6000.0 if "in_flight=4" in asked.overrides else 5000.0


def tune(*arguments: str) -> Outcome:
    return invoke("tools", "tune", *arguments, *SPACES)


def test_table_and_answer(machine: Machine) -> None:
    outcome = tune("async-lu", "--repeats", "3", "--best", "6")
    assert outcome.stdout == TABLE
    assert outcome.code == 0
    assert outcome.stderr.splitlines()[:3] == [
        "profile: the file's own setting, and each layer alone",
        "16 settings planned, 0 rejected, 6 to measure",
        "round 1 of 3: as in the file, threads 1: 5001",
    ]
    assert outcome.stderr.splitlines()[-1] == "wrote runs/tune-async-lu-digits/best.patch"


TABLE = """\
async-lu on digits, threads, 2 cores: 16 settings planned, 6 measured; samples/s
setting                 threads  streams  stages  staleness  planned  measured   95 % interval  verdict
in_flight 4                   1      1:2       1          2    5,161     6,006  5,986 to 6,049  best
backward 1 in_flight 2        1      1:1       1          1    3,810     5,011  4,969 to 5,041  17 % slower
as in the file                1      1:2       1          2    5,161     5,001  4,974 to 5,037  17 % slower
sgd stages 1                  2        1       1          0    3,871     3,598  3,582 to 3,615  40 % slower
sgd stages 1                  1        1       1          0    2,581     2,506  2,495 to 2,516  58 % slower
failed: stages 2, threads 1: user code (exit 5): stream forward, action 0F0: RuntimeError: no
best: in_flight 4, threads 1, 1.20x the file's own setting (1.19 to 1.21)
to run it: asyncpipe run async-lu -o in_flight=4
"""


def test_document_shows_this_table() -> None:
    shown = "".join(f"    {line}\n" for line in TABLE.splitlines())
    assert shown in (Path(__file__).parents[3] / "docs" / "tools.md").read_text("utf-8")


def test_second_time_nothing_runs_and_the_answer_is_the_same(machine: Machine) -> None:
    first = tune("async-lu", "--repeats", "3")
    asked = len(machine.asked)
    second = tune("async-lu", "--repeats", "3")
    assert (first.stdout, first.code) == (second.stdout, second.code)
    assert len(machine.asked) == asked
    assert "  (known)" in second.stderr


def test_json_is_one_document_with_all_numbers(machine: Machine) -> None:
    document = json.loads(tune("async-lu", "--repeats", "3", "--json", "--max-staleness", "1").stdout)
    assert list(document) == [
        *("schema", "schedule", "job", "backend", "objective", "machine", "cores", "best", "is_synchronous"),
        *("gain", "answer", "command", "measured", "planned", "rejected", "trials", "unavailable"),
    ]
    assert document["schema"] == "asyncpipe.tune/1"
    assert document["best"]["settings"] == {"streams.backward.count": "1", "in_flight": "2"}
    assert document["rejected"][0] == {
        "schedule": "async-lu",
        "settings": {},
        "threads": 1,
        "period": None,
        "reason": "staleness 2 is above 1",
    }
    own = next(one for one in document["measured"] if one["is_own"])
    assert own["verdict"] == "for comparison: staleness 2 is above 1"
    assert own["peak_bytes"] == 10**8
    assert json.loads(Path("runs/tune-async-lu-digits/result.json").read_text()) == document


def test_patch_changes_the_file_and_keeps_its_comments(machine: Machine) -> None:
    Path("mine.yaml").write_text("asyncpipe: 1\nextends: async-lu  # the paper's\nin_flight: 3  # or more?\n")
    outcome = tune("mine.yaml", "--repeats", "3", "--patch", "mine.patch", "--apply")
    assert outcome.stderr.splitlines()[-2:] == ["wrote mine.patch", "wrote mine.yaml"]
    changed = "asyncpipe: 1\nextends: async-lu  # the paper's\nin_flight: 4  # or more?\n"
    assert Path("mine.yaml").read_text() == changed
    assert Path("mine.patch").read_text() == (
        "--- a/mine.yaml\n+++ b/mine.yaml\n@@ -1,3 +1,3 @@\n asyncpipe: 1\n extends: async-lu  # the paper's\n"
        "-in_flight: 3  # or more?\n+in_flight: 4  # or more?\n"
    )


def test_library_schedule_gives_a_file_beside_it_that_is_not_overwritten(machine: Machine) -> None:
    assert tune("async-lu", "--repeats", "2", "--apply").stderr.endswith("wrote async-lu-tuned.yaml\n")
    assert Path("async-lu-tuned.yaml").read_text().splitlines()[1:] == [
        "asyncpipe: 1",
        "name: async-lu-tuned",
        "extends: async-lu",
        "in_flight: 4",
    ]
    again = tune("async-lu", "--repeats", "2", "--apply")
    assert again.code == 2
    assert again.stderr == (
        "error: --apply: async-lu-tuned.yaml exists, and async-lu is part of asyncpipe\n"
        "  help: remove it, or use --patch\n"
    )


def test_synchronous_answer_changes_no_file(machine: Machine) -> None:
    machine.speeds = lambda asked: 9000.0 if asked.schedule == "sgd" and asked.threads == 2 else 5000.0
    outcome = tune("async-lu", "--repeats", "3", "--best", "0", "--apply")
    assert outcome.stdout.splitlines()[-2:] == [
        "best: synchronous is fastest here: sgd stages 1, threads 2, 1.80x the file's own setting (1.79 to 1.81)",
        "to run it: asyncpipe run sgd -o stages=1",
    ]
    assert outcome.stderr.endswith("nothing was written: the schedule stays as it is\n")
    assert not Path("async-lu-tuned.yaml").exists()


def test_automatic_ratio_is_replaced_by_the_measured_one(machine: Machine) -> None:
    Path("mine.yaml").write_text("asyncpipe: 1\nextends: pd-asgd\nstreams: {ratio: auto}\nin_flight: 3\n")
    spaces = ("--space", "streams.ratio=1:1,1:3", "--space", "threads=1", "--space", "stages=1")
    invoke("tools", "tune", "mine.yaml", *spaces, "--best", "1", "--repeats", "2", "--apply")
    machine.speeds = lambda asked: 5000.0 if asked.schedule != "sgd" and not asked.overrides else 1000.0
    invoke("tools", "tune", "mine.yaml", *spaces, "--best", "1", "--repeats", "2", "--apply", "--out", "new")
    assert Path("mine.yaml").read_text() == "asyncpipe: 1\nextends: pd-asgd\nstreams: {ratio: 1:2}\nin_flight: 3\n"


def test_time_to_a_loss_is_shown_in_seconds(machine: Machine) -> None:
    def speed(asked: Request) -> Answer:
        missed = {"speeds": [], "loss": 0.9, "best": 0.8, "others": 0.0, "peak_bytes": 1}
        return missed if asked.schedule == "sgd" else 0.25

    machine.speeds = speed
    outcome = tune("async-lu", "--objective", "time-to-loss=0.5", "--repeats", "2", "--best", "1")
    assert outcome.stdout == SECONDS
    assert {asked.target for asked in machine.asked if asked.kind == "loss"} == {0.5}


SECONDS = """\
async-lu on digits, threads, 2 cores: 16 settings planned, 4 measured; s to loss 0.5
setting         threads  streams  stages  staleness  planned  measured  95 % interval  verdict
as in the file        1      1:2       1          2        -      3.98   3.97 to 4.01  best
in_flight 4           1      1:2       1          2        -         4   3.98 to 4.01  tie
failed: sgd stages 1, threads 2: not reached: the test loss came to 0.8 at best
failed: sgd stages 1, threads 1: not reached: the test loss came to 0.8 at best
best: the file's own setting: nothing that was measured is faster
to run it: asyncpipe run async-lu
"""


def test_command_to_run_has_what_the_job_and_the_command_line_need(machine: Machine) -> None:
    machine.speeds = lambda asked: 9000.0 if asked.schedule == "sgd" and asked.threads == 1 else 5000.0
    outcome = tune("async-lu", "--repeats", "1", "--best", "0", "-o", "job.train.batch=16", "-o", "in_flight=5")
    run = "to run it: asyncpipe run sgd -o job.train.batch=16 -o stages=1 -o job.train.intra_op_threads=1"
    assert outcome.stdout.splitlines()[-1] == run
    machine.speeds = lambda asked: 9000.0 if asked.schedule != "sgd" else 5000.0
    outcome = tune("async-lu", "--repeats", "1", "--best", "0", "--stages", "2", "--job", "digits")
    assert outcome.stdout.splitlines()[-1] == "to run it: asyncpipe run async-lu --job digits --stages 2"


@pytest.mark.parametrize(
    ("job", "option"),
    [
        ("digits", "--job digits"),
        ("mine-job.yaml", "--job mine-job.yaml"),
        ("{model: mlp, data: digits, optimizer: {use: sgd, lr: 0.1}}", "--job the-job-of-mine.yaml"),
    ],
)
def test_synchronous_schedule_needs_the_job_of_the_file(machine: Machine, job: str, option: str) -> None:
    machine.speeds = lambda asked: 9000.0 if asked.schedule == "sgd" and asked.threads == 2 else 5000.0
    Path("mine-job.yaml").write_text("{model: mlp, data: digits, optimizer: {use: sgd, lr: 0.1}}\n")
    Path("mine.yaml").write_text(f"asyncpipe: 1\nextends: async-lu\njob: {job}\n")
    outcome = tune("mine.yaml", "--repeats", "1", "--best", "0")
    assert outcome.stdout.splitlines()[-1] == f"to run it: asyncpipe run sgd {option} -o stages=1"


def test_profile_of_before_saves_the_time_of_another(machine: Machine) -> None:
    machine.profile = {**costs(), "alone": {}}
    times = {"F": 0.004, "B": [0.008], "U": 0.0004}
    Path("profile.json").write_text(json.dumps({"schema": "asyncpipe.profile/1", "costs": times}))
    outcome = invoke("tools", "tune", "async-lu", "--costs", "profile.json", "--repeats", "1", "--best", "1")
    assert machine.asked[0].thread_counts == ()
    assert outcome.stdout.splitlines()[2].split()[:7] == ["in_flight", "4", "1", "1:2", "1", "2", "5,161"]
    Path("profile.json").write_text(json.dumps({"schema": "asyncpipe.profile/1", "costs": {"F": [1, 1], "B": 1}}))
    outcome = invoke("tools", "tune", "async-lu", "--costs", "profile.json")
    message = "error: --costs: the profile has the times of 2 stages, but the model is cut into 1\n"
    assert outcome.stderr.endswith(f"{message}  help: use --stages 2, or profile this cut\n")
    outcome = invoke("tools", "tune", "async-lu", "--costs", "F=1")
    message = "error: --costs 'F=1': expected the profile.json of `asyncpipe tools profile`\n"
    assert (outcome.code, outcome.stderr) == (2, message)


def test_busy_machine_is_told(machine: Machine) -> None:
    busy = {"speeds": [5000.0], "others": 0.8, "peak_bytes": 1}
    machine.speeds = lambda asked: busy
    outcome = tune("async-lu", "--repeats", "1", "--best", "0")
    message = "warning: other processes used up to 0.8 of 2 cores meanwhile: repeat on a quiet machine\n"
    assert outcome.stderr.endswith(message)


def test_interrupted_tuning_says_how_it_goes_on(machine: Machine) -> None:
    def speed(asked: Request) -> Answer:
        if asked.schedule == "sgd":
            raise KeyboardInterrupt
        return 5000.0

    machine.speeds = speed
    outcome = tune("async-lu", "--best", "0")
    assert outcome.code == 130
    assert outcome.stderr.splitlines()[-3:] == [
        "stopped; the same command goes on with the 2 trials of runs/tune-async-lu-digits/trials.jsonl",
        "",
        "interrupted",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objective", "fast"), "--objective 'fast': expected samples/s, or a loss to reach"),
        (("--objective", "time-to-loss=-1"), "--objective 'time-to-loss=-1': expected samples/s, or a loss to reach"),
        (("--space", "x"), "--space 'x': expected a key, =, and values"),
        (("--memory", "much"), "expected a size such as 80GB, 512MiB or 4096, found 'much'"),
    ],
)
def test_wrong_option_is_refused_before_anything_runs(
    machine: Machine, arguments: tuple[str, ...], message: str
) -> None:
    outcome = invoke("tools", "tune", "async-lu", *arguments)
    assert (outcome.code, outcome.stderr.splitlines()[0]) == (2, f"error: {message}")
    assert machine.asked == []
