"""The guard: who learns nothing, computes something else, or overflows, is told."""

from __future__ import annotations

import pytest

from asyncpipe.tools.bench.guard import judge, loss_at_equal_time

FALLING = [2.0 - 0.1 * n for n in range(12)]


def wrong(losses: dict[str, list[float]], sync: list[str]) -> dict[str, str]:
    return {name: verdict["wrong"] for name, verdict in judge(losses, sync, "cpu", "float32").items()}


def test_what_is_wrong_is_said_of_each() -> None:
    losses = {
        "eager": FALLING,
        "same": [value * (1 + 1e-4) for value in FALLING],
        "other": [value * 1.01 for value in FALLING],
        "asynchronous": [value * 1.5 for value in FALLING],
        "constant": [2.0] * 12,
        "overflows": [*FALLING[:-1], float("nan")],
    }
    assert wrong(losses, ["eager", "same", "other"]) == {
        "eager": "",
        "same": "",
        "other": "its first losses differ by 1.0% from those of the first synchronous contender",
        "asynchronous": "",
        "constant": "its loss does not fall: 2, then 2",
        "overflows": "its loss is not finite",
    }


def test_only_the_first_losses_must_agree() -> None:
    later = [*FALLING[:8], *(0.9 * value for value in FALLING[8:])]
    assert wrong({"eager": FALLING, "drifts": later}, ["eager", "drifts"])["drifts"] == ""


def test_losses_are_compared_within_the_time_of_the_fastest() -> None:
    losses = {"quick": [8.0, 4.0, 2.0, 1.0], "slow": [8.0, 3.0, 1.0, 0.5]}
    assert loss_at_equal_time(losses, {"quick": 1.0, "slow": 2.0}) == {"quick": 1.0, "slow": 3.0}
    assert loss_at_equal_time(losses, {"quick": 1.0}) == {"quick": 1.0}
    assert loss_at_equal_time(losses, {}) == {}


def test_without_a_synchronous_contender_there_is_no_reference() -> None:
    verdicts = judge({"asynchronous": FALLING}, [], "cpu", "float32")
    assert verdicts["asynchronous"] == pytest.approx(
        {"first": 1.9, "last": 1.0, "difference": None, "wrong": ""}, abs=1e-9
    )
