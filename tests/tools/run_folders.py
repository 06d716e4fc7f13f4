"""Run directories with chosen curves, as `asyncpipe run` would leave them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncpipe.schedule import load

__all__ = ["write_run"]

_JOB = """job:
  model: {use: mlp, hidden: [HIDDEN]}
  data: digits
  loss: cross_entropy
  optimizer: {use: sgd, lr: LR}
  train: {batch: 10, epochs: 3, seed: SEED}
"""
STAGES = 3


def write_run(
    folder: Path,
    schedule: str = "sgd",
    seed: int = 0,
    accuracies: Sequence[float | None] = (0.5, 0.8, 0.9),
    times: Sequence[float] = (30.0, 60.0, 90.0),
    virtual: bool = True,
    finished: bool = True,
    lr: float = 0.1,
    hidden: int = 24,
) -> Path:
    """A run of one evaluation for each accuracy, 100 samples apart; three stages, so that T is 3.

    `times` are in cost units, or in seconds of training.
    """
    folder.mkdir(parents=True)
    job = _JOB.replace("LR", str(lr)).replace("SEED", str(seed)).replace("HIDDEN", str(hidden))
    (folder / "resolved.yaml").write_text(f"{load(schedule)}{job}", "utf-8")
    rows = list(_rows(accuracies, times, virtual))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    if finished:
        (folder / "summary.json").write_text(json.dumps(_summary(schedule, seed, rows, virtual)), "utf-8")
    return folder


def _rows(accuracies: Sequence[float | None], times: Sequence[float], virtual: bool) -> Any:
    for i, (accuracy, time) in enumerate(zip(accuracies, times, strict=True)):
        when = {"train_s": 1.0 if virtual else time, "virtual_time": time if virtual else None}
        common = {"attempt": 1, "step": 10 * (i + 1), "samples": 100 * (i + 1)}
        loss = 2.0 / (i + 1)
        for m in range(10 * i, 10 * i + 10):
            share = (m + 1) / (10 * (i + 1))
            now = {key: value and value * share for key, value in when.items()}
            number = {"step": m, "microbatch": m, "samples": 10 * (m + 1)}
            yield {"kind": "microbatch", "attempt": 1, **number, **now, "loss": loss, "lr": 0.1}
        yield {"kind": "divergence", "attempt": 1, "step": m, "microbatch": m, "stage": 0, "forward_backward": 3.0}
        yield {"kind": "divergence", "attempt": 1, "step": m, "microbatch": m, "stage": 1, "forward_backward": 4.0}
        yield {"kind": "evaluation", **common, **when, "loss": loss / 2, "accuracy": accuracy}
        yield {"kind": "staleness", **common, "histogram": [{"1": 2, "2": 8}, {"0": 1, "1": 9}, {"0": 10}]}


def _summary(schedule: str, seed: int, rows: Sequence[Any], virtual: bool) -> dict[str, Any]:
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    last = {"loss": evaluations[-1]["loss"], "accuracy": evaluations[-1]["accuracy"]}
    return {
        "schema": "asyncpipe.run/1",
        "schedule": schedule,
        "job": "digits",
        "backend": "serial" if virtual else "threads",
        "seed": seed,
        "stages": STAGES,
        "steps": evaluations[-1]["step"],
        "samples": evaluations[-1]["samples"],
        "samples_per_s": 50.0,
        "eval": last,
        "best": max(evaluations, key=lambda row: row["accuracy"] or 0.0),
        "delays": [],
        "stragglers": [],
        "staleness_measured": {"apply": [1.8, 0.9, 0.0], "max": [2, 1, 0]},
        "divergence": {"forward_backward": [0.5 + seed, 0.25, 0.0], "weights": [10.0, 20.0, 30.0]},
        "gradient": {"bias_bound": None, "bias_from_divergence": 0.5, "sigma_stale_over_sgd": 0.25},
    }
