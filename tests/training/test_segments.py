"""How many updates a training has when evaluations end some of them early, and where the learning rate ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncpipe.training.segments import Segment, Segmentation
from tests.command_line import invoke


def test_an_evaluation_ends_the_update_that_was_being_gathered() -> None:
    """45 microbatches, eight for an update: five updates, and one of the five that are left."""
    assert Segmentation(45, every=8).of_microbatches(100) == [Segment(45, 6), Segment(45, 6), Segment(10, 2)]


def test_updates_are_exactly_as_many_as_asked_for() -> None:
    assert Segmentation(45, every=8).of_updates(14) == [Segment(45, 6), Segment(45, 6), Segment(16, 2)]
    assert Segmentation(45, every=8).of_updates(12) == [Segment(45, 6)] * 2


def test_replicas_share_microbatches_and_leave_a_rest() -> None:
    shared = Segmentation(45, replicas=4, every=3)
    assert shared.full == Segment(44, 4)
    assert shared.of_microbatches(91) == [Segment(44, 4), Segment(44, 4)]
    assert shared.of_updates(5) == [Segment(44, 4), Segment(12, 1)]


def test_fewer_batches_than_replicas_are_left_to_fit_which_refuses_them() -> None:
    few = Segmentation(3, replicas=4)
    assert few.of_microbatches(9) == few.of_updates(9) == [Segment(3, 0)]


@pytest.mark.parametrize(
    ("schedule", "steps", "replicas"), [("paci", 9, 1), ("ddp", 13, 4)], ids=["accumulation", "replicas"]
)
def test_a_run_has_its_updates_and_ends_with_the_least_rate(
    schedule: str, steps: int, replicas: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits have 45 batches of 32: both runs are more than an epoch long."""
    monkeypatch.chdir(tmp_path)
    options = ("-o", "job.train.lr={schedule: cosine, min_lr: 0.001}", "--backend", "serial", "--json", "--out", "out")
    outcome = invoke("run", schedule, "--steps", str(steps), *options)
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["steps"] == steps
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text("utf-8").splitlines()]
    rates = [line["lr"] for line in lines if line["kind"] == "microbatch"]
    assert rates[0] == 0.03
    assert 0.001 < rates[-1] < 0.003
    assert len({line["step"] for line in lines if line["kind"] == "microbatch"}) == steps
