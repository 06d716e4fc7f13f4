"""Late and slow streams: virtual time on `serial` is the simulator's, sleep on `threads` is real."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest
import torch
from torch import nn

import asyncpipe
from asyncpipe import Trainer
from asyncpipe.analysis.arguments import timing_of
from asyncpipe.analysis.makespan import exact_makespan
from asyncpipe.errors import UsageError
from asyncpipe.ir import Action, Op
from asyncpipe.schedule import load
from tests.networks import Batch

STAGES = 3
COUNT = 24


def linear_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(STAGES)), nn.Flatten())


def rows(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    made = (torch.randn(2, 4, generator=generator) for _ in range(count))
    return [(x, torch.randint(4, (2,), generator=generator)) for x in made]


def trained(
    name: str,
    delays: Mapping[str, float | str],
    stragglers: Mapping[str, float | str] | None = None,
    backend: str = "serial",
    seed: int = 0,
    count: int = COUNT,
) -> tuple[Trainer, asyncpipe.training.FitReport]:
    """A fit of `count` microbatches for each replica."""
    data = rows(count * load(name).replicas.count)
    trainer = Trainer(
        linear_layers(),
        name,
        backend=backend,
        stages=STAGES,
        delays=delays,
        stragglers=stragglers or {},
        delay_seed=seed,
        optimizer={"use": "sgd", "lr": 0.01},
    )
    return trainer, trainer.fit(data)


SLOW = [
    ("async-lu", "forward"),
    ("hogwild", "worker[0]"),
    ("ddp", "replica[0]"),
    ("lapsgd", "replica[1].worker[2]"),
    ("layup", "replica[0]"),
    ("1f1b", "compute[1]"),
    ("fdg", "device[0]"),
    ("sgd", "*"),
]


@pytest.mark.parametrize(("name", "stream"), SLOW)
def test_serial_takes_the_time_that_the_simulator_states(name: str, stream: str) -> None:
    program = asyncpipe.compile(name, STAGES, COUNT)
    for delays, stragglers in (({stream: 5}, {}), ({stream: 1.5}, {stream: 1.25})):
        _, report = trained(name, delays, stragglers)
        stated = exact_makespan(*timing_of(program, None, delays, stragglers))
        assert report.virtual_time == float(stated.time)


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_a_late_forward_makes_asynchronous_weights_fresher(delay: int) -> None:
    """The staleness that serial measures follows from the delays, as the simulator states it."""
    trainer, _ = trained("async-lu", {"forward": delay}, count=60)
    program = asyncpipe.compile("async-lu", STAGES)
    stated = asyncpipe.simulate(program, delays={"forward": delay}, samples=1).staleness
    assert trainer.staleness.summary()["apply"] == [float(value) for value in stated.apply]


@pytest.mark.parametrize("delay", [0, 2, 8])
def test_a_late_replica_holds_up_synchronous_training_alone(delay: int) -> None:
    """In units of T = 1 forward pass: a step takes 3 + delay, of all under DDP, of the late worker under Hogwild!."""
    _, synchronous = trained("ddp", {"replica[0]": f"{delay}T"})
    _, lock_free = trained("hogwild", {"worker[0]": f"{delay}T"})
    assert synchronous.pace is not None
    assert lock_free.pace is not None
    replicas = load("ddp").replicas.count
    assert synchronous.pace.throughput == pytest.approx(replicas / (3 + delay))
    assert lock_free.pace.throughput == pytest.approx(1 / 3 + 1 / (3 + delay), rel=0.02)


def test_random_delays_follow_from_the_seed() -> None:
    times = [trained("async-lu", {"backward[0]": "exponential(2T)"}, seed=seed)[1].virtual_time for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]


def test_delays_change_the_result_of_asynchronous_training_only() -> None:
    def weights(name: str, delays: Mapping[str, float]) -> list[torch.Tensor]:
        return [p.detach().clone() for p in trained(name, delays)[0].model.parameters()]

    for name, same in (("sgd", True), ("hogwild", False)):
        pairs = zip(weights(name, {}), weights(name, {"*": 3} if same else {"worker[0]": 3}), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) is same


def test_threads_sleep_before_the_first_action_of_each_microbatch() -> None:
    seconds = 0.004
    seen: list[tuple[float, str, Action]] = []

    def note(stream: int, action: Action) -> None:
        seen.append((time.perf_counter(), threading.current_thread().name, action))

    data = rows(6)
    trainer = Trainer(linear_layers(), "sgd", backend="threads", stages=STAGES, hook=note, delays={"*": f"{seconds}s"})
    report = trainer.fit(data)
    starts = {action: when for when, _, action in seen}
    ends = [starts[Action(0, Op.U, m)] for m in range(len(data) - 1)]
    assert all(starts[Action(0, Op.F, m + 1)] - end >= seconds for m, end in enumerate(ends))
    assert report.wall_s >= len(data) * seconds
    assert report.virtual_time is None


def test_a_slow_stream_on_threads_sleeps_after_its_actions() -> None:
    class Slow(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.003)
            return super().forward(x)

    def wall(factor: float) -> float:
        trainer = Trainer(nn.Sequential(Slow(4, 4)), "sgd", backend="threads", stages=1, stragglers={"*": factor})
        return trainer.fit(rows(4)).wall_s

    assert wall(4) > 4 * 4 * 0.003


def test_a_multiple_of_T_on_threads_is_of_a_forward_pass_measured_before() -> None:
    class Slow(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.003)
            return super().forward(x)

    trainer = Trainer(nn.Sequential(Slow(4, 4)), "sgd", backend="threads", stages=1, delays={"*": "2T"})
    before = torch.get_rng_state()
    report = trainer.fit(rows(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.forward_seconds is not None
    assert trainer.forward_seconds >= 0.003
    assert report.wall_s >= 3 * (1 + 2) * 0.003


def test_threads_end_at_once_when_the_model_fails_while_a_stream_sleeps() -> None:
    class Broken(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("no")

    start = time.perf_counter()
    trainer = Trainer(nn.Sequential(Broken(4, 4)), "hogwild", backend="threads", stages=1, delays={"worker[1]": "60s"})
    with pytest.raises(asyncpipe.errors.UserCodeError, match="ValueError: no"):
        trainer.fit(rows(4))
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("backend", "delays", "stragglers", "message"),
    [
        ("serial", {"forward": "1s"}, {}, "virtual time has no seconds"),
        ("threads", {}, {"forward": 0.5}, "a thread cannot be faster than it is"),
        ("serial", {"forward": -1}, {}, "expected a number of at least 0"),
        ("serial", {"forward": "soon"}, {}, "expected a number of at least 0 or a distribution"),
        ("serial", {"a b": 1}, {}, "expected a stream such as"),
        ("serial", {}, {"forward": "0"}, "expected a factor above 0"),
    ],
)
def test_what_cannot_be_delayed_is_refused_at_once(
    backend: str, delays: Mapping[str, float | str], stragglers: Mapping[str, float | str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Trainer(linear_layers(), "async-lu", backend=backend, delays=delays, stragglers=stragglers)


def test_a_stream_that_the_schedule_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"worker: async-lu has no such stream"):
        trained("async-lu", {"worker": 1})


def test_each_fit_draws_delays_of_its_own() -> None:
    trainer, first = trained("sgd", {"*": "exponential(1T)"}, count=4)
    again = trainer.fit(rows(4))
    assert first.virtual_time != again.virtual_time
