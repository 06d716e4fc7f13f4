"""Every file of the library against a plain interpreter of it: the loss of each microbatch, and the weights at the end.

In double precision to 1e-12, since the interpreter writes backwards by hand.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from asyncpipe import Trainer
from asyncpipe.schedule import library, load
from tests.semantics.interpreter import interpret
from tests.semantics.plain import MOMENTUM, assert_near, batches, network, sgd

STAGES, COUNT = 4, 24

ELSEWHERE = {
    "acco": "test_commits",
    "dc-asgd": "test_corrections",
    "dgl": "tests/runtime/test_auxiliary",
    "dni": "tests/runtime/test_auxiliary",
    "layup": "test_layup",
    "pd-asgd-devices": "test_private_copies",
    "petra": "test_inversion",
    "pipelined-bp": "test_lock_step",
    "pipemare": "test_corrections",
    "spectrain": "test_corrections",
}
"""Where what the interpreter does not know is written out."""

CHANGES: dict[str, dict[str, Any]] = {
    "diloco": {"replicas": {"count": 2, "sync": {"outer": {"every": 4}}}},
    "lapsgd": {"replicas": {"sync": {"average": {"every": 4}}}, "phases": []},
    "lppsgd": {"replicas": {"sync": {"average": {"every": 8}}}, "phases": []},
    "local-sgd": {"replicas": {"count": 2, "sync": {"average": 4}}},
}
"""Several rounds within the few microbatches of a test."""


def overrides(changes: dict[str, Any], path: str = "") -> list[str]:
    """As `-o` takes them."""
    found = []
    for key, value in changes.items():
        found += overrides(value, f"{path}{key}.") if isinstance(value, dict) else [f"{path}{key}={value}"]
    return found


UNEVEN = {"F": 1, "B": "9/4", "I": "5/4", "W": 1, "R": "3/4", "U": "1/4", "SYNC": "7/2"}


@pytest.mark.parametrize("name", sorted(set(library()) - set(ELSEWHERE)))
def test_a_file_trains_as_its_actions_do_one_by_one(name: str) -> None:
    assert_trains_as_interpreted(name, CHANGES.get(name, {}))


@pytest.mark.parametrize(
    "name", ["async-bu", "async-lu", "hogwild", "lapsgd", "lppsgd", "paci", "passm-plus", "pd-asgd", "pipedream-2bw"]
)
def test_so_it_does_where_updates_and_replicas_take_time(name: str) -> None:
    assert_trains_as_interpreted(name, {**CHANGES.get(name, {}), "costs": UNEVEN})


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("fr", {"forward": "lag(3)"}),
        ("gpipe-recompute", {"forward": "lag(1)"}),
        ("fdg", {"forward": "lag(5)"}),
        ("async-lu", {"forward": "lag(3)", "backward": "same"}),
    ],
)
def test_forwards_may_read_an_older_version_than_backwards(name: str, weights: dict[str, str]) -> None:
    """A recomputation reads what the backward does."""
    assert_trains_as_interpreted(name, {"weights": weights})


def assert_trains_as_interpreted(name: str, changes: dict[str, Any]) -> None:
    schedule = load(name, overrides(changes))
    model, data = network(STAGES, torch.float64), batches(COUNT * schedule.replicas.count, torch.float64)
    losses, weights = interpret(name, model, data, sgd(), changes)
    report = Trainer(model, schedule, optimizer=MOMENTUM, backend="serial", stages=STAGES).fit(data)
    torch.testing.assert_close(list(report.losses), losses, rtol=1e-12, atol=1e-12)
    assert_near(model, weights)
