"""Recorded runs on real threads, executed once more in one thread: the same bits, or the place of a race."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.errors import NumericalError, UsageError
from asyncpipe.ir import Action, Op
from asyncpipe.runtime.interleaving import Line, line_text, parse_line, read_log
from asyncpipe.runtime.replicas import ReplicaGroup, Synchroniser
from asyncpipe.schedule import load
from tests.networks import Batch, assert_same_state, batches, built

STAGES = 3
MOMENTUM = {"use": "sgd", "lr": 0.02, "momentum": 0.9}
ON_THREADS = ["async-lu", "async-bu", "hogwild", "lapsgd", "pd-asgd", "1f1b", "layup", "pipedream"]
ON_SERIAL = ["layup", "diloco", "ddp", "lapsgd", "fdg", "pipedream-2bw", "dni", "zb-h1", "fr"]


def data_for(name: str, count: int = 20) -> list[Batch]:
    return batches(count * load(name).replicas.count, size=4)


class Alone:
    """A synchroniser that never runs beside anything else."""

    def __init__(self, inner: Synchroniser, alone: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        self.meets = inner.meets
        self.start, self.end = alone(inner.start), alone(inner.end)
        self.restart, self.drain, self.adopt = inner.restart, inner.drain, inner.adopt


def one_at_a_time(trainer: Trainer) -> None:
    """Lets the threads race for whole actions, in an order that no schedule plans, but never run two at once."""
    backend, lock, chance = trainer.run_backend, threading.Lock(), random.Random(0)

    def shake(stream: int, action: Action) -> None:
        if chance.random() < 0.2:
            time.sleep(chance.random() * 2e-3)

    def alone(step: Callable[..., None]) -> Callable[..., None]:
        def locked(*args: Any) -> None:
            with lock:
                step(*args)

        return locked

    def run(group: ReplicaGroup, hook: object, poll: object) -> None:
        for execution in group.executions:
            execution.steps = {op: alone(step) for op, step in execution.steps.items()}
        if group.synchroniser is not None:
            group = replace(group, synchroniser=Alone(group.synchroniser, alone))
        backend(group, shake, None)

    trainer.run_backend = run


def recorded(log: Path, name: str, network: str = "mlp", **options: Any) -> Trainer:
    """Two fits; the second begins with the optimizer state and the version counters that the first left."""
    options = {"backend": "threads", "intra_op_threads": 1, **options}
    trainer = Trainer(built(network), name, stages=STAGES, optimizer=MOMENTUM, record=log, **options)
    if options["backend"] == "threads" and "hook" not in options:
        one_at_a_time(trainer)
    fit_twice(trainer, name)
    return trainer


def replayed(log: Path, name: str, network: str = "mlp") -> Trainer:
    trainer = Trainer(built(network), name, stages=STAGES, optimizer=MOMENTUM, backend="serial", replay=log)
    fit_twice(trainer, name)
    return trainer


def fit_twice(trainer: Trainer, name: str) -> None:
    torch.manual_seed(7)
    trainer.fit(data_for(name))
    trainer.fit(data_for(name, 10))


@pytest.mark.parametrize("name", ON_THREADS)
def test_threads_without_overlap_replay_to_the_same_bits(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = recorded(log, name)
    again = replayed(log, name)
    assert_same_state(again.model, first.model)
    assert again.staleness.summary() == first.staleness.summary()
    words = again.sessions.words()["replay"]
    assert (words["same_parameters"], words["possible_races"], words["first_difference"]) == (True, 0, None)
    assert words["actions"] == sum(len(section.lines) for section in read_log(log).sections)


@pytest.mark.parametrize("name", ON_SERIAL)
def test_serial_runs_replay_to_the_same_bits(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = recorded(log, name, backend="serial")
    again = replayed(log, name)
    assert_same_state(again.model, first.model)
    assert again.sessions.words()["replay"]["possible_races"] == 0


@pytest.mark.parametrize("network", ["convnet", "dropout", "lstm"])
def test_buffers_and_random_numbers_are_replayed_too(network: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = {"use": "sgd", "lr": 0.02}
    stages = 2
    models = [built(network) for _ in range(2)]
    torch.manual_seed(7)
    trainer = Trainer(models[0], "hogwild", optimizer=options, stages=stages, backend="threads", record=log)
    trainer.intra_op_threads = 1
    one_at_a_time(trainer)
    trainer.fit(batches(16, size=4))
    torch.manual_seed(7)
    Trainer(models[1], "hogwild", optimizer=options, stages=stages, backend="serial", replay=log).fit(batches(16, 4))
    assert_same_state(models[1], models[0])
    assert read_log(log).sections[0].draws is (network == "dropout")


def test_a_recorded_run_is_the_run_without_a_record(tmp_path: Path) -> None:
    first = recorded(tmp_path / "log", "async-lu", backend="serial")
    plain = Trainer(built("mlp"), "async-lu", stages=STAGES, optimizer=MOMENTUM, backend="serial")
    fit_twice(plain, "async-lu")
    assert_same_state(first.model, plain.model)


def test_the_log_has_every_action_once_and_the_versions_that_were_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    recorded(log, "async-lu")
    section = read_log(log).sections[0]
    lines = [parse_line(text) for text in section.lines]
    assert len({line.action for line in lines}) == len(lines) == 20 * STAGES * 3
    landed = [0] * STAGES
    for line in lines:
        stage, op, _ = line.action
        landed[stage] += op is Op.U
        assert line.version == landed[stage]
        assert (line.loss is not None) == (op is Op.F and stage == STAGES - 1)


class Gate:
    """A hook with which update 0 of stage 1 lands in the middle of the forward of microbatch 1."""

    def __init__(self) -> None:
        self.forwards = 0
        self.half_way, self.landed = threading.Event(), threading.Event()

    def __call__(self, stream: int, action: Action) -> None:
        if action == Action(1, Op.U, 0):
            assert self.half_way.wait(10)
        if action == Action(0, Op.B, 0):  # it follows 1U0 on its stream
            self.landed.set()

    def pass_by(self) -> None:
        self.forwards += 1
        if self.forwards == 2:
            self.half_way.set()
            assert self.landed.wait(10)


class TwiceRead(nn.Linear):
    """Reads its weights before and after a gate."""

    gates: ClassVar[list[Gate]] = []

    def forward(self, x: Tensor) -> Tensor:
        before = super().forward(x)
        for gate in self.gates:
            gate.pass_by()
        return before + super().forward(x)


def trained_with_two_reads(**options: Any) -> Trainer:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), TwiceRead(4, 4), nn.Linear(4, 4))
    trainer = Trainer(model, "async-lu", stages=3, optimizer={"use": "sgd", "lr": 0.5}, **options)
    trainer.prepare(rows(1)[0][0])
    return trainer


def rows(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(2, 4, generator=generator), torch.tensor([m % 4, 1])) for m in range(count)]


def test_a_torn_read_is_named_and_the_replay_says_where_it_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, gate = tmp_path / "log", Gate()
    first = trained_with_two_reads(backend="threads", hook=gate, record=log)
    monkeypatch.setattr(TwiceRead, "gates", [gate])
    first.fit(rows(4))
    lines = {line.action: line for line in map(parse_line, read_log(log).sections[0].lines)}
    assert (0, Action(1, Op.U, 0)) in lines[Action(1, Op.F, 1)].overlaps
    monkeypatch.setattr(TwiceRead, "gates", [])
    again = trained_with_two_reads(backend="serial", replay=log)
    again.fit(rows(4))
    words = again.sessions.words()["replay"]
    assert words["same_parameters"] is False
    assert words["first_difference"].startswith("line ")
    assert any("forward 1F1 overlapped update 1U0" in place for place in words["first_races"])


def test_a_failed_run_is_recorded_and_fails_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    data = rows(8)
    data[5] = (data[5][0] * float("inf"), data[5][1])
    optimizer = {"use": "sgd", "lr": 0.1}

    def fit(**options: Any) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        Trainer(model, "async-lu", stages=2, optimizer=optimizer, **options).fit(data)

    with pytest.raises(NumericalError, match="1F5"):
        fit(backend="threads", record=log)
    assert read_log(log).sections[0].end_parameters is None
    with pytest.raises(NumericalError, match="1F5"):
        fit(backend="serial", replay=log)


def test_other_data_is_noticed_where_no_race_explains_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    recorded(log, "async-lu", backend="serial")
    trainer = Trainer(built("mlp"), "async-lu", stages=STAGES, optimizer=MOMENTUM, backend="serial", replay=log)
    with pytest.raises(UsageError, match=r"differs from line \d+ on, though no read overlapped an update"):
        trainer.fit(batches(20, size=4, seed=5))


def test_a_race_explains_no_difference_that_came_before_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    recorded(log, "async-lu", backend="serial")
    text = log.read_text()
    log.write_text(text.replace("backward[1] 0B5 v5", "backward[1] 0B5 v5 ~ 0U3", 1))
    assert log.read_text() != text
    trainer = Trainer(built("mlp"), "async-lu", stages=STAGES, optimizer=MOMENTUM, backend="serial", replay=log)
    with pytest.raises(UsageError, match=r"differs from line \d+ on, though no read overlapped an update before"):
        trainer.fit(batches(20, size=4, seed=5))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A log of async-lu."""
    log = tmp_path_factory.mktemp("logs") / "log"
    recorded(log, "async-lu", backend="serial")
    return log.read_text()


def swapped(text: str, first: str, second: str) -> str:
    """The same text with two of its lines exchanged, each named by how it begins."""
    lines = text.splitlines()
    a, b = (next(i for i, line in enumerate(lines) if line.startswith(start)) for start in (first, second))
    lines[a], lines[b] = lines[b], lines[a]
    return "\n".join(lines) + "\n"


def without(text: str, start: str) -> str:
    """The same text without the first line that begins so, and with the right count."""
    lines = text.splitlines()
    lines.remove(next(line for line in lines if line.startswith(start)))
    end = next(i for i, line in enumerate(lines) if line.startswith("end "))
    count = int(lines[end].split()[1])
    lines[end] = lines[end].replace(f"end {count} ", f"end {count - 1} ", 1)
    return "\n".join(lines) + "\n"


TAMPERED = {
    "another version": (lambda t: t.replace("record/1", "record/2"), r":1: expected .*record/1.*another version"),
    "no log": (lambda t: "epoch 1\n", r":1: expected 'asyncpipe.record/1', found no log of a run"),
    "cut off": (lambda t: t[: len(t) // 3], r"the log is cut off: expected an action"),
    "only a header": (lambda t: t[: t.index("run 1")], r":12: the log is cut off"),
    "another schedule": (lambda t: t.replace("schedule async-lu", "schedule hogwild"), r":2: .*schedule hogwild, this"),
    "other stages": (lambda t: t.replace("stages 3", "stages 4"), r":6: the log is of stages 4, this run has 3"),
    "other replicas": (lambda t: t.replace("replicas 1", "replicas 2"), r":7: the log is of replicas 2"),
    "another optimizer": (lambda t: t.replace("lr=0.02", "lr=0.01"), r":5: the log is of optimizer sgd lr=0.01"),
    "other parameters": (lambda t: t.replace("from ", "from 0"), r":12: .*began with other parameters"),
    "a line less": (lambda t: t.replace("forward 0F3 v", "", 1), r":\d+: expected a stream and an action"),
    "a line removed": (lambda t: without(t, "forward 0F3"), r"forward runs 1F3, where the schedule has 0F3"),
    "a line added": (lambda t: t.replace("\nend ", "\nforward 0F3 v1\nend ", 1), r"lines were added or removed"),
    "a backward too early": (lambda t: swapped(t, "forward 2F0", "backward[0] 2B0"), r":15: 2B0 needs 2F0 .*line 17"),
    "an unknown stream": (lambda t: t.replace("backward[1] 2B1", "backward[7] 2B1"), r"has no stream backward\[7\]"),
    "an unknown action": (lambda t: t.replace("forward 0F3", "forward 0X3"), r"expected an action such as 2F0"),
    "another version read": (lambda t: t.replace("forward 2F0 v0", "forward 2F0 v9"), r"has version 9, .*it is 0"),
    "an update later": (lambda t: later_update(t), r"the log has version \d+, in this order it is \d+"),
}  # fmt: skip


def later_update(text: str) -> str:
    """A read moves before an update on another stream: the program allows it, the versions do not."""
    lines = text.splitlines()
    for i in range(len(lines) - 1):
        update, read = lines[i : i + 2]
        if "U" in update and read.startswith("forward") and read.split()[1][0] == update.split()[1][0]:
            lines[i : i + 2] = [read, update]
            return "\n".join(lines) + "\n"
    raise AssertionError("no update comes right before a forward of its stage")


@pytest.mark.parametrize("case", TAMPERED)
def test_a_log_that_does_not_fit_is_an_error_with_its_line(case: str, text: str, tmp_path: Path) -> None:
    change, message = TAMPERED[case]
    assert change(text) != text
    log = tmp_path / "log"
    log.write_text(change(text))
    with pytest.raises(UsageError, match=message):
        replayed(log, "async-lu")


def test_a_log_has_as_many_runs_as_were_recorded(text: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(text[: text.index("run 2")])
    with pytest.raises(UsageError, match="the log ends after run 1, and this is one more"):
        replayed(log, "async-lu")


def test_a_replay_needs_the_serial_back_end_and_no_delays(text: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    for options in ({"backend": "threads"}, {"backend": "serial", "delays": {"forward": 1}}):
        with pytest.raises(UsageError, match="of its log"):
            Trainer(built("mlp"), "async-lu", replay=log, **options)
    with pytest.raises(UsageError, match="cannot be made: File exists"):
        Trainer(built("mlp"), "async-lu", record=log)


def test_lines_are_written_as_they_are_read() -> None:
    texts = [
        "forward 0F3 v1",
        "replica[1].worker[2] 3F7 v2 loss=2.302585092994046 ~ replica[1].3U6 replica[0].3SYNC1",
        "sync 2SYNC0 begin",
    ]
    assert [line_text(parse_line(text), replicas) for text, replicas in zip(texts, (1, 2, 1), strict=True)] == texts
    assert parse_line(texts[2]) == Line(0, "sync", Action(2, Op.SYNC, 0), "begin")


def test_running_statistics_that_differ_are_noticed(tmp_path: Path) -> None:
    """They change no parameter in training, but every evaluation."""

    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(data[0][0][0].numel(), 10), nn.BatchNorm1d(10))

    def trainer(model: nn.Module, **options: Any) -> Trainer:
        return Trainer(model, "sgd", stages=1, optimizer=MOMENTUM, backend="serial", intra_op_threads=1, **options)

    data = data_for("sgd")
    models = [network(), network()]
    trainer(models[0], record=tmp_path / "log").fit(data)
    next(models[1].buffers()).add_(1)
    with pytest.raises(UsageError, match="the recorded run began with other parameters"):
        trainer(models[1], replay=tmp_path / "log").fit(data)


@pytest.mark.parametrize(
    ("name", "op", "overrides"),
    [("pd-asgd-devices", "B", []), ("zb-h1", "W", ["weights.backward=same"]), ("pipedream", "B", [])],
)
def test_a_count_of_updates_is_not_compared_where_it_is_no_read(
    tmp_path: Path, name: str, op: str, overrides: list[str]
) -> None:
    """What reads a copy of its own may begin before or after a landing update: its line says nothing of that."""
    schedule, log, data = load(name, overrides), tmp_path / "log", data_for(name)

    def trainer(**options: Any) -> Trainer:
        return Trainer(
            built("mlp"), schedule, stages=STAGES, optimizer=MOMENTUM, backend="serial", intra_op_threads=1, **options
        )

    trainer(record=log).fit(data)
    text = log.read_text()
    edited = re.sub(rf"( 1{op}9 v)(\d+)", lambda found: f"{found[1]}{int(found[2]) + 1}", text)
    assert edited != text
    log.write_text(edited)
    again = trainer(replay=log)
    again.fit(data)
    assert again.sessions.words()["replay"]["same_parameters"]
