"""Phases of a schedule: where they end, and that the switch between two is that of two trainings one after another."""

from __future__ import annotations

import pytest

from asyncpipe import Trainer
from asyncpipe.ir import Action, Op
from asyncpipe.schedule import load
from asyncpipe.schedule.spec import Schedule
from tests.semantics.plain import MOMENTUM, assert_same, batches, network

STAGES = 4
BY_TURNS = "phases=[{until: 1/4, update: {scope: all}}]"


def seen(schedule: Schedule, counts: list[int], planned: int | None = None) -> list[list[Action]]:
    """The actions of each run that the fits on so many microbatches fell into."""
    runs: list[list[Action]] = []

    class Watched(Trainer):
        def _run(self, *arguments: object) -> float:
            runs.append([])
            return super()._run(*arguments)  # type: ignore[arg-type]

    trainer = Watched(network(STAGES), schedule, optimizer=MOMENTUM, stages=STAGES, backend="serial")
    trainer.hook = lambda stream, action: runs[-1].append(action)
    trainer.updates_planned = planned
    for count in counts:
        trainer.fit(batches(count))
    assert trainer.microbatches == sum(counts) - sum(count % schedule.replicas.count for count in counts)
    return runs


def updates(actions: list[Action]) -> int:
    return sum(action.op is Op.U for action in actions)


def test_partial_updates_begin_after_the_share_of_the_training() -> None:
    schedule = load("lppsgd", ["replicas=", BY_TURNS])
    first, later = seen(schedule, [32])
    assert updates(first) == 8 * STAGES
    assert updates(later) == sum(STAGES if m // 4 % 2 == 0 else 1 for m in range(24))


@pytest.mark.parametrize(
    ("until", "planned", "counts", "lengths"),
    [
        ("1/2", None, [16, 8], [8, 8, 8]),
        ("1/2", 32, [16, 16], [16, 16]),
        ("1/2", 20, [16, 8], [10, 6, 8]),
        ("6", None, [4, 8], [4, 2, 6]),
        ("100", None, [8], [8]),
        ("1/3", None, [16], [6, 10]),
    ],
)
def test_a_phase_ends_where_it_says(until: str, planned: int | None, counts: list[int], lengths: list[int]) -> None:
    schedule = load("passm-plus", [f"phases=[{{until: {until}, update: {{scope: all}}}}]"])
    runs = seen(schedule, counts, planned)
    assert [sum(a.op is Op.F and a.stage == 0 for a in run) for run in runs] == lengths


def test_replicas_average_after_every_update_first_and_now_and_then_later() -> None:
    schedule = load("lapsgd", ["replicas.sync.average.every=4"])
    first, later = seen(schedule, [64])
    assert sum(a.op is Op.SYNC for a in first) == 16 * STAGES * schedule.replicas.count
    assert sum(a.op is Op.SYNC for a in later) == 4 * STAGES * schedule.replicas.count


@pytest.mark.parametrize("name", ["lapsgd", "lppsgd"])
def test_a_switch_is_that_of_one_training_after_another(name: str) -> None:
    """Without momentum, which a second training would begin anew."""
    plain = {"use": "sgd", "lr": 0.05}
    data = batches(80)
    together, apart = network(STAGES), network(STAGES)
    schedule = load(name)
    Trainer(together, schedule, optimizer=plain, stages=STAGES, backend="serial").fit(data)
    ends = [0, *(int(phase.until * 40) * 2 for phase in schedule.phases), 80]
    for number, phase in enumerate([*schedule.phases, None]):
        during = load(name, ["phases="]) if phase is None else schedule.during(phase)
        trainer = Trainer(apart, during, optimizer=plain, stages=STAGES, backend="serial")
        trainer.fit(data[ends[number] : ends[number + 1]])
    assert_same(together, [list(apart.parameters())])


def test_momentum_goes_on_over_a_switch() -> None:
    """With one worker both scopes are the same, and the whole is one training that drains once."""
    switched, drained = network(STAGES), network(STAGES)
    data = batches(24)
    one = ["streams.worker.count=1", "update.owner=shared", "in_flight=1"]
    schedule = load("passm-plus", [*one, "phases=[{until: 9, update: {scope: all}}]"])
    Trainer(switched, schedule, optimizer=MOMENTUM, stages=STAGES, backend="serial").fit(data)
    trainer = Trainer(drained, load("passm-plus", one), optimizer=MOMENTUM, stages=STAGES, backend="serial")
    trainer.fit(data[:9])
    trainer.fit(data[9:])
    assert_same(switched, [list(drained.parameters())])


def test_a_phase_runs_on_threads_too() -> None:
    trainer = Trainer(network(STAGES), "lppsgd", optimizer=MOMENTUM, stages=STAGES, backend="threads")
    report = trainer.fit(batches(40))
    assert (report.microbatches, report.updates, len(report.losses)) == (40, 20, 40)
