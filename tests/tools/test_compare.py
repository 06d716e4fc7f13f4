"""`tools compare`: tests of pairs against published tables, verdicts on chosen curves, and two real schedules."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from asyncpipe.tools.compare.paired import paired_t, sign_test, t_probability, t_quantile
from tests.command_line import Outcome, invoke
from tests.tools.run_folders import write_run

SLOW, FAST = (30.0, 60.0, 90.0), (10.0, 20.0, 30.0)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(expected, rel=1e-5)
    assert t_probability(t_quantile(0.8, freedom), freedom) == pytest.approx(0.8)


def test_paired_test_of_a_textbook() -> None:
    # Student's own example (Biometrika 6, 1908): hours of sleep gained by ten patients with two drugs.
    a = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    b = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_t(a, b)
    assert found.mean == pytest.approx(1.58)
    assert found.p == pytest.approx(0.00283, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)


def test_equal_differences_have_no_test() -> None:
    assert paired_t([1.0, 2.0], [1.0, 2.0]) == (0.0, 0.0, 0.0, None)
    assert paired_t([1.0, 2.0, 5.0], [2.0, 3.0, 6.0]) == (1.0, 1.0, 1.0, None)
    assert paired_t([0.3, 0.3, 0.3], [0.3, 0.1 + 0.2, 0.3]).p is None
    with pytest.raises(ValueError, match="at least two pairs, found 1"):
        paired_t([1.0], [2.0])


def test_signs_are_those_of_coins() -> None:
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(6, 0) == sign_test(0, 6) == pytest.approx(2 / 64)
    assert sign_test(3, 3) == 1.0
    assert sign_test(0, 0) == 1.0


def arms(folder: Path, a: tuple[float, ...], b: tuple[float, ...], seeds: int = 3) -> tuple[str, str]:
    """Runs of sgd and async-lu whose accuracies differ a little by seed."""
    for seed in range(seeds):
        accuracies = (0.5 + 0.01 * seed, 0.8 + 0.013 * seed, 0.9 + 0.004 * seed)
        write_run(folder / "a" / str(seed), "sgd", seed, accuracies, a)
        write_run(folder / "b" / str(seed), "async-lu", seed, tuple(v - 0.02 * (seed == 1) for v in accuracies), b)
    return str(folder / "a"), str(folder / "b")


def compared(*arguments: str) -> Outcome:
    outcome = invoke("tools", "compare", *arguments)
    assert outcome.code == 0, outcome.stderr
    return outcome


def test_a_schedule_that_is_sooner_everywhere_is_worth_it(tmp_path: Path) -> None:
    lines = compared(*arms(tmp_path, SLOW, FAST)).stdout.splitlines()
    assert lines[0] == "sgd and async-lu on digits, serial, 3 seeds; B is async-lu"
    assert lines[2].startswith("test accuracy after 300 samples  90.40 ± 0.40 %")
    assert lines[3].startswith("test accuracy after 10 T         51.00 ± 1.00 %")
    assert "worth it here: 2.92x sooner at 88.4 %, 95 % interval 2.62x to 3.26x" in lines[-2]
    assert "(paired t-test of log time over 3 seeds, p = 0.000" in lines[-2]


def test_a_schedule_that_is_later_everywhere_is_not(tmp_path: Path) -> None:
    text = compared(*arms(tmp_path, FAST, SLOW)).stdout
    assert "verdict: async-lu instead of sgd: not here: 3.0" in text
    assert "x later at 88.4 %" in text


def test_what_so_few_seeds_cannot_tell_is_said(tmp_path: Path) -> None:
    text = compared(*arms(tmp_path, SLOW, (30.0, 59.0, 90.0))).stdout
    assert "no difference that 3 seeds can show" in text


def test_runs_that_miss_the_target_count_as_later(tmp_path: Path) -> None:
    places = arms(tmp_path, SLOW, FAST, seeds=7)
    text = compared(*places, "--target", "0.92").stdout
    assert "92 % was reached by 2 and 2 of 7 runs; sooner in 2, later in 0 (sign test over 7 seeds, p = 0.5000)" in text
    assert "(2 of 7)" in text
    assert "not reached" in compared(*places, "--target", "0.99").stdout
    for seed in range(7, 14):
        write_run(tmp_path / "a" / str(seed), "sgd", seed, (0.1, 0.2, 0.3))
        write_run(tmp_path / "b" / str(seed), "async-lu", seed, (0.1, 0.2, 0.95))
    assert (
        "worth it here: 92 % was reached by 2 and 9 of 14 runs; sooner in 9, later in 0"
        in compared(*places, "--target", "0.92").stdout
    )


def test_document_has_every_number(tmp_path: Path) -> None:
    document = json.loads(compared(*arms(tmp_path, SLOW, FAST), "--json").stdout)
    assert (document["schema"], document["a"], document["b"]) == ("asyncpipe.compare/1", "sgd", "async-lu")
    assert (document["seeds"], document["time_unit"], document["goal"]) == ([0, 1, 2], "T", {"accuracy": 0.884})
    time = document["measures"][-1]
    # On the line from (20 T, 0.8) to (30 T, 0.9), and from (6.7 T, ...): T is 3 cost units.
    assert time["a"][0] == pytest.approx((60 + 30 * (0.884 - 0.8) / 0.1) / 3)
    assert time["b"][0] == pytest.approx((20 + 10 * (0.884 - 0.8) / 0.1) / 3)
    assert math.log(time["b_against_a"]["ratio"]) == pytest.approx(
        sum(math.log(a / b) for a, b in zip(time["a"], time["b"], strict=True)) / 3
    )
    assert document["curves"]["b"][2]["accuracy"] == pytest.approx([0.52, 0.826, 0.908])
    assert document["verdict"]["answer"] == "worth it here"


def test_loss_decides_where_there_is_no_accuracy(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / "a" / str(seed), "sgd", seed, (None, None), SLOW[:2])
        write_run(tmp_path / "b" / str(seed), "async-lu", seed, (None, None), FAST[:2])
    refused = invoke("tools", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--target", "0.5")
    assert (refused.code, "there is no accuracy" in refused.stderr) == (2, True)
    text = compared(str(tmp_path / "a"), str(tmp_path / "b")).stdout
    assert "test loss after 200 samples  0.5000 ± 0.0000" in text
    assert (
        "time to test loss 0.5        20.0 ± 0.0 T           6.7 ± 0.0 T      0.33x (seeds made no difference to it)\n"
        in text
    )
    assert "0.0001" not in text
    assert (
        "no difference that 2 seeds can show: 3.00x sooner at test loss 0.5: seeds made no difference to this number; "
        "sooner in 2, later in 0 (sign test over 2 seeds, p = 0.5000)"
    ) in text


@pytest.mark.parametrize(("early", "cell"), [(1, "20.0 ± 0.0 T (2 of 3; 1 of 3"), (3, "3 of 3")])
def test_no_verdict_rests_on_a_goal_that_was_passed_before_the_first_evaluation(
    early: int, cell: str, tmp_path: Path
) -> None:
    for seed in range(3):
        write_run(tmp_path / "a" / str(seed), "sgd", seed, (0.9, 0.91, 0.92), SLOW)
        accuracies = (0.9 if seed < early else 0.6, 0.9, 0.9)
        write_run(tmp_path / "b" / str(seed), "async-lu", seed, accuracies, SLOW)
    places = str(tmp_path / "a"), str(tmp_path / "b")
    lines = compared(*places, "--target", "0.9").stdout.splitlines()
    assert lines[-3].startswith("time to 90 %")
    assert f"3 of 3 before the first evaluation  {cell} before the first evaluation" in lines[-3]
    assert lines[-3].endswith("  cannot be told")
    verdict = f"no verdict: 3 and {early} of 3 runs had passed 90 % before their first evaluation"
    assert verdict in lines[-2]
    assert lines[-2].endswith("choose a higher --target")
    document = json.loads(compared(*places, "--target", "0.9", "--json").stdout)
    assert (document["verdict"]["p"], document["measures"][-1]["b_against_a"]) == (None, None)
    passed = document["measures"][-1]["passed_before_first_evaluation"]
    assert passed == {"a": [True] * 3, "b": [seed < early for seed in range(3)]}


def test_a_run_that_failed_is_left_out_and_named(tmp_path: Path) -> None:
    places = arms(tmp_path, SLOW, FAST)
    write_run(tmp_path / "a" / "failed", "sgd", 3, finished=False)
    write_run(tmp_path / "b" / "3", "async-lu", 3)
    outcome = compared(*places)
    assert "on digits, serial, 3 seeds" in outcome.stdout
    assert "warning:" in outcome.stderr
    assert "a/failed: has no summary.json, since it failed, was stopped or still runs: left out" in outcome.stderr


def test_another_learning_rate_is_said(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / "a" / str(seed), "sgd", seed)
        write_run(tmp_path / "b" / str(seed), "sgd", seed, lr=0.2)
    text = compared(str(tmp_path / "a"), str(tmp_path / "b")).stdout
    assert text.startswith("sgd (A) and sgd (B) on digits")
    assert "the jobs differ too: optimizer" in text


def write_others(folder: Path) -> None:
    """Runs that cannot be paired with those of `arms`, each for a reason that the folder's name tells."""
    if folder.name not in ("other-seeds", "other-model", "twice", "real", "unfinished"):
        return
    for seed in (5, 6) if folder.name == "other-seeds" else (1, 2):
        hidden = 16 if folder.name == "other-model" else 24
        virtual, finished = folder.name != "real", folder.name != "unfinished"
        write_run(folder / str(seed), "async-bu", seed, virtual=virtual, finished=finished, hidden=hidden)
    if folder.name == "twice":
        write_run(folder / "again", "async-bu", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "nowhere"), "a and nowhere: one is a folder and one a schedule"),
        (("a", "b", "--epochs", "3"), "--epochs: the runs in these folders are finished"),
        (("a", "."), ".: holds runs of async-lu, sgd"),
        (("a", "empty"), "empty: holds no run"),
        (("a", "other-seeds"), "expected at least two seeds that both have, found 0, 1, 2 and 5, 6"),
        (("a", "real"), "a/1 has virtual time and real/1 real time"),
        (("a", "other-model"), "have different jobs: their model differs"),
        (("a", "twice"), "twice: has several runs with seed 1"),
        (("a", "unfinished"), "unfinished: none of its runs has ended"),
        (("sgd", "with-job.yaml"), "sgd and with-job.yaml have different jobs: their model and data differ"),
        (("sgd", "async-ul"), "no schedule named 'async-ul'"),
        (("sgd", "async-lu", "--steps", "3", "--epochs", "1"), "--steps and --epochs exclude each other"),
        (("sgd", "async-lu", "--seeds", "1"), "1 is not in the range"),
    ],
)
def test_what_cannot_be_compared_is_told(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arms(tmp_path, SLOW, FAST)
    (tmp_path / "empty").mkdir()
    write_others(tmp_path / arguments[1])
    job = "{model: {use: lstm, hidden: 4}, data: {use: fashion-mnist}, optimizer: {use: sgd, lr: 0.1}}"
    (tmp_path / "with-job.yaml").write_text(f"asyncpipe: 1\nextends: async-lu\njob: {job}\n")
    outcome = invoke("tools", "compare", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert message in outcome.stderr


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_two_schedules_are_trained_in_turns(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--backend", backend, "--stages", "3", "--steps", "20", "--seeds", "2", "--out", "c")
    own = ("-o", "job.model=mlp", "-b", "job.optimizer.lr=0.02", "--straggler", "*=1")
    outcome = compared("sgd", "async-bu", *options, *own)
    said = [line.split("  ")[0] for line in outcome.stderr.splitlines()]
    assert said == ["seed 0: sgd", "seed 0: async-bu", "seed 1: async-bu", "seed 1: sgd"]
    assert "the jobs differ too: optimizer" in outcome.stdout
    assert sorted(str(path.parent) for path in Path("c").rglob("summary.json")) == [
        "c/a/seed-0",
        "c/a/seed-1",
        "c/b/seed-0",
        "c/b/seed-1",
    ]
    again = compared("c/a", "c/b")
    assert again.stdout == outcome.stdout
