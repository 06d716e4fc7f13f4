"""`Trainer`: a model, a schedule, and batches. Compiles the schedule for the model and runs it on a back end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.errors import ScheduleError, UsageError
from asyncpipe.ir import Program
from asyncpipe.models.describe import LayerCost
from asyncpipe.models.measure import measure_layers
from asyncpipe.models.modules import split_layers
from asyncpipe.runtime.autocast import autocast_of_this_thread, entered
from asyncpipe.runtime.backends import CUDA_BACKENDS, choose_backend, default_threads, resolve_backend
from asyncpipe.runtime.clock import RunClock
from asyncpipe.runtime.delays import Delays
from asyncpipe.runtime.divergence import DivergenceRecord, DivergenceSampler
from asyncpipe.runtime.evaluation import Evaluation, evaluate
from asyncpipe.runtime.learning_rate import LearningRate, StatedRate, read_rate
from asyncpipe.runtime.numerics import read_numerics
from asyncpipe.runtime.optimizers import OptimizerSpec
from asyncpipe.runtime.replicas import ReplicaGroup, Synchroniser, share_out
from asyncpipe.runtime.stage import Loss
from asyncpipe.runtime.stage_functions import StageFunctions
from asyncpipe.runtime.staleness import StalenessRecord
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.runtime.threads import Hook
from asyncpipe.schedule import Costs, Schedule, load
from asyncpipe.schedule.counts import MOST_STAGES, require_count
from asyncpipe.staging import cut_stages
from asyncpipe.training.adopt import Mark, adopt_weights, mark_of
from asyncpipe.training.auto_rate import lr_factors
from asyncpipe.training.counting import SampleCounter, counted
from asyncpipe.training.delays import Pairs, forward_seconds, parse_disturbance
from asyncpipe.training.fit_report import FitReport
from asyncpipe.training.log_facts import log_header
from asyncpipe.training.model_checks import refuse_changed_model, refuse_tied_stages
from asyncpipe.training.phases import Phases, compiled_phases, widest
from asyncpipe.training.refusals import refuse_for_platform
from asyncpipe.training.replica import Replica, build_replica
from asyncpipe.training.sessions import Sessions, make_sessions
from asyncpipe.training.stages import stage_modules
from asyncpipe.training.virtual_time import pace_of
from asyncpipe.verify.trainable import untrainable

__all__ = ["FitReport", "Trainer"]

Batches = Iterable[tuple[Any, Any]]
Layer = tuple[str, nn.Sequential]


@dataclass(repr=False)
class Trainer:
    """Trains `model` under a schedule; the trained weights are in `model` itself after every `fit`.

    `schedule` is a library name, a file, or a loaded Schedule; `loss(output, target)` gives a scalar tensor;
    `optimizer` is `{"use": "sgd", "lr": 0.1, "momentum": 0.9}` or names any `torch.optim` class (`use:
    torch.optim.Adagrad`); with `"lr": {"auto": 0.1}` each stage takes the part of 0.1 that its staleness leaves
    stable; `backend` is serial, threads or auto. A model is cut into stages at the children of nn.Sequential; another
    module is one layer. One in `measure_every` microbatches (0: none) is measured for `trainer.divergence`.
    `delays`, `stragglers`, `record` and `replay` are in docs/running.md; a `stopwatch` times every action. Phases of
    the schedule that are shares of the training are those of `updates_planned`, or else of the first `fit`. `numerics`
    are autocast, dtype, memory_format and compile as a job has them; the model is converted at once. `emulate`,
    `period`, `data` and `executables` are for streams and graph (docs/cuda.md). Raises UsageError or ScheduleError for
    what does not fit together.
    """

    model: nn.Module
    schedule: str | Path | Schedule = "async-lu"
    loss: Loss = torch.nn.functional.cross_entropy
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"use": "sgd", "lr": 0.1})
    backend: str = "auto"
    stages: int | None = None
    learning_rate: LearningRate | None = None
    costs: Costs | None = None
    intra_op_threads: int | None = None
    hook: Hook | None = None
    measure_every: int = 0
    emulate: bool = False
    period: int | None = None
    delays: Pairs = ()
    stragglers: Pairs = ()
    delay_seed: int = 0
    record: str | Path | None = None
    replay: str | Path | None = None
    stopwatch: Stopwatch | None = None
    updates_planned: int | None = None
    numerics: Mapping[str, str] = field(default_factory=dict)
    data: str = "auto"
    executables: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            hint = "as in torch.nn.Sequential(torch.nn.Linear(64, 10))"
            raise UsageError(f"model: expected a torch.nn.Module, found {self.model!r}", hint)
        if not callable(self.loss):
            hint = "as in loss=torch.nn.functional.cross_entropy"
            raise UsageError(f"loss: expected a function of (output, target), found {self.loss!r}", hint)
        require_count("stages", self.stages, MOST_STAGES)
        require_count("executables", self.executables, 4)
        if not isinstance(self.schedule, Schedule):
            self.schedule = load(self.schedule)
        if not_yet := untrainable(self.schedule):
            raise ScheduleError(not_yet)
        numerics = read_numerics(self.numerics)
        self.platform, self.run_backend = choose_backend(
            self.backend, self.emulate, self.period, numerics, self.data, self.executables
        )
        numerics.convert(self.model)
        self.loss = numerics.loss(self.loss)
        self._refuse_host_measurements()
        self.spec = optimizer_spec(self.optimizer)
        self.rate = self.learning_rate or LearningRate(self.spec.lr)
        self.disturbance = parse_disturbance(self.delays, self.stragglers, self.delay_seed)
        self.disturbance.check_back_end(resolve_backend(self.backend))
        self.sessions = self._sessions()
        self.forward_seconds: float | None = None
        self.compiled: Compiled | None = None
        self.replicas: list[Replica] = []
        self.left: Mark | None = None
        self.phases: Phases | None = None
        self.staleness = StalenessRecord()
        self.divergence = DivergenceRecord()
        self.microbatches = 0
        self.updates = 0

    def _refuse_host_measurements(self) -> None:
        if self.measure_every and resolve_backend(self.backend) in CUDA_BACKENDS:
            raise UsageError(
                f"measure_every: on {self.backend} the host would have to wait for every measurement",
                "set it to 0, or use serial or threads",
            )

    def __repr__(self) -> str:
        name = self.schedule.name if isinstance(self.schedule, Schedule) else self.schedule
        stages = f", {len(self.parts)} stages" if self.replicas else ""
        return f"Trainer({type(self.model).__name__}, {name}, {self.backend}{stages}, {self.updates} updates)"

    @property
    def parts(self) -> Sequence[StageFunctions]:
        """The stages that hold the model itself: those of replica 0; empty before the first `fit`."""
        return self.replicas[0].parts if self.replicas else []

    @property
    def synchroniser(self) -> Synchroniser | None:
        """What keeps the replicas together in the phase that was trained last; None for one replica."""
        return self.phases.synchroniser if self.phases else None

    @property
    def has_virtual_time(self) -> bool:
        return resolve_backend(self.backend) == "serial"

    def prepare(self, sample: Any) -> Compiled:
        """Cuts the model for a microbatch such as `sample`, compiles, and builds stages; `fit` does it on its own."""
        if self.compiled is not None:
            refuse_changed_model(self.parts)
            if self.left is not None and mark_of(self.replicas[0]) != self.left:
                adopt_weights(self.replicas, self.synchroniser)
            return self.compiled
        assert isinstance(self.schedule, Schedule)
        layers, sample = _layers(self.model), self.platform.numerics.inputs(sample)
        cut = cut_stages(self.schedule, self.stages, len(layers), lambda: _layer_costs(layers, sample))
        compiled = compile_schedule(self.schedule, len(cut), self.costs)
        phases = compiled_phases(compiled)
        refuse_for_platform(self.platform, phases)
        self.disturbance.check(compiled.program())
        self.cut = [[layers[i] for i in part] for part in cut]
        self._build(phases, sample)
        self.compiled = compiled
        return compiled

    def _build(self, phases: Sequence[Compiled], sample: Any) -> None:
        if not self.model.training:
            self.model.train()
        refuse_tied_stages(self.cut)
        parts = [nn.Sequential(*(child for _, layer in part for child in layer)) for part in self.cut]
        compiled, program = phases[-1], widest(phases)
        modules = stage_modules(program, parts, sample)
        # The others are copied before replica 0 moves the model's parameters into its arenas.
        numbers = range(compiled.schedule.replicas.count - 1, -1, -1)
        build = partial(build_replica, self.platform, modules, compiled, program, self.spec, self.loss)
        self.replicas = [build(number) for number in numbers][::-1]
        self.phases = Phases(phases, self.updates_planned, self.replicas[0].weights, torch.initial_seed())
        self.staleness = StalenessRecord(compiled.stages)
        self.divergence = DivergenceRecord(compiled.stages)

    def fit(
        self,
        batches: Batches,
        microbatches: int | None = None,
        poll: Callable[[ReplicaGroup], None] | None = None,
    ) -> FitReport:
        """Trains on every batch (or the first `microbatches`) and drains the pipeline at the end.

        `batches` is any iterable of (input, target); one without a length is read into a list first, unless
        `microbatches` is given. `poll` sees the executions every half second, and at the end or after a failure.
        Replicas take the batches in turn; what is left over when each had equally many is not trained on. Afterwards
        they have the same weights.
        """
        count, sample, stream = counted(batches, microbatches)
        sample = self.platform.numerics.inputs(sample)
        self.prepare(sample)
        samples = SampleCounter()
        fed = samples.over(stream)
        reports = [self._fit_part(phase, part, fed, sample, poll) for phase, part in self._parts(count)]
        return replace(FitReport.of(reports), samples=samples.count)

    def parts_of(self, microbatches: int) -> list[int]:
        """Where phases of the schedule cut the next `microbatches` of a prepared trainer: one `fit` trains each."""
        return [each * len(self.replicas) for _, each in self._parts(microbatches)]

    def _parts(self, count: int) -> list[tuple[int, int]]:
        """(phase, microbatches of each replica)."""
        assert self.phases is not None
        replicas = len(self.replicas)
        if count < replicas:
            raise UsageError(f"{replicas} replicas need as many batches, found {count}", "give more, smaller batches")
        return list(self.phases.parts(self.updates, count // replicas))

    def _fit_part(
        self,
        phase: int,
        each: int,
        batches: Iterator[tuple[Any, Any]],
        sample: Any,
        poll: Callable[[ReplicaGroup], None] | None,
    ) -> FitReport:
        """`each` microbatches of each replica, in one run."""
        assert self.phases is not None
        group = self._group(*self.phases.enter(phase), batches, each, sample)
        program = group.program
        threads = self.intra_op_threads or default_threads(self.backend, program)
        try:
            wall = self._run(group, threads, poll)
        except BaseException:
            self._count_what_was_done(group)
            raise
        losses = tuple(loss for losses in zip(*(e.losses for e in group.executions), strict=True) for loss in losses)
        updates = program.updates or 0
        self.microbatches += len(losses)
        self.updates += updates
        for execution in group.executions:
            self.staleness.add(execution)
            self.divergence.add(execution.divergence)
        return FitReport(len(losses), updates, 0, wall, losses, threads, group.clock.now().virtual, pace_of(group))

    def _count_what_was_done(self, group: ReplicaGroup) -> None:
        """The updates of a run that failed stay in the weights, so that a later `fit` goes on behind them."""
        self.microbatches += sum(execution.finished for execution in group.executions)
        stages = range(group.program.stages)
        self.updates += max(execution.version(stage) for execution in group.executions for stage in stages)

    def _run(self, group: ReplicaGroup, threads: int, poll: Callable[[ReplicaGroup], None] | None) -> float:
        """The seconds that it took; afterwards all replicas have the same weights."""
        timed = group if self.stopwatch is None else self.platform.timed(group, self.stopwatch)
        with self.sessions.around(timed, self.run_backend, self.model) as (used, backend):
            start = time.perf_counter()
            with intra_op(threads), entered(autocast_of_this_thread()):
                try:
                    backend(used, self.hook, None if poll is None else lambda: poll(group))
                finally:
                    for replica in self.replicas:
                        replica.drop()
                    # After a failure too: the model is replica 0, and must not be one of several that disagree.
                    if group.synchroniser is not None:
                        group.synchroniser.drain([replica.weights for replica in self.replicas])
                    self.left = mark_of(self.replicas[0])
                    if poll is not None:
                        poll(group)
            return time.perf_counter() - start

    def record_to(self, file: str | Path) -> None:
        """Every later `fit` logs the order of its actions into a new file, for `replay`."""
        self.record = file
        self.sessions = self._sessions()

    def _sessions(self) -> Sessions:
        """What is done around each run: nothing, or it is recorded, or replayed from a log."""
        if self.replay is not None and self.disturbance:
            raise UsageError("a replay has the order of its log, and no delays of its own", "leave them out")
        sessions = make_sessions(self.record, self.replay, resolve_backend(self.backend), self._log_header)
        self.intra_op_threads = self.intra_op_threads or sessions.threads
        return sessions

    def _log_header(self) -> dict[str, str]:
        assert self.compiled is not None
        program, modules = self.compiled.program(), [part.module for part in self.parts]
        threads = self.intra_op_threads or default_threads(self.backend, program)
        return log_header(program, modules, self.spec, resolve_backend(self.backend), threads)

    def _group(
        self,
        compiled: Compiled,
        synchroniser: Synchroniser | None,
        batches: Iterator[tuple[Any, Any]],
        each: int,
        sample: Any,
    ) -> ReplicaGroup:
        """One run of all replicas, with the batches dealt out among them."""
        replicas = len(self.replicas)
        dealt = share_out(islice(batches, each * replicas), replicas)
        if synchroniser is not None:
            synchroniser.restart()
        rate = self._rate_after(self.updates)
        clock, before = RunClock(), self.microbatches // replicas
        feeds = [self.platform.feed(dealt.of(number), each) for number in range(replicas)]
        executions = [
            replica.execution(compiled, each, feed, rate, clock, DivergenceSampler(self.measure_every, before))
            for replica, feed in zip(self.replicas, feeds, strict=True)
        ]
        return ReplicaGroup(executions, synchroniser, self._delays(executions[0].program, sample))

    def _delays(self, program: Program, sample: Any) -> Delays | None:
        """Those of one run; for real delays in units of T, a forward pass is timed before the first run."""
        if not self.disturbance:
            return None
        if self.has_virtual_time:
            return self.disturbance.virtual(program, self.microbatches)
        if self.disturbance.needs_forward_seconds and self.forward_seconds is None:
            with intra_op(self.intra_op_threads or default_threads(self.backend, program)):
                layers = [layer for part in self.cut for _, layer in part]
                self.forward_seconds = forward_seconds(layers, sample)
        return self.disturbance.real(program, self.forward_seconds or 0.0, self.microbatches)

    def _rate_after(self, updates: int) -> Callable[[int], float]:
        return lambda update: self.rate.at(updates + update)

    def evaluate(self, batches: Batches) -> Evaluation:
        """{"loss", "accuracy"} over the batches, in evaluation mode; accuracy is None where targets are no classes."""
        return evaluate(self.model, self.loss, batches, self.platform.numerics)

    @property
    def lr_factors(self) -> tuple[float, ...]:
        """Per stage, what `lr: {auto: ...}` multiplies the learning rate with; empty before the first `fit`."""
        return lr_factors(self.compiled, self.spec) if self.compiled else ()

    @property
    def predicted_staleness(self) -> tuple[Fraction, ...]:
        """Per stage, as the compiler states it for the planned timing; empty before the first `fit`."""
        return self.compiled.staleness.apply if self.compiled else ()


def optimizer_spec(options: Mapping[str, Any]) -> OptimizerSpec:
    """`{"use": ..., "lr": ..., "arithmetic": ..., "precision": ..., ...}` as a spec; UsageError without use or lr."""
    example = 'as in {"use": "sgd", "lr": 0.1, "momentum": 0.9}'
    if not isinstance(options, Mapping):
        raise UsageError(f"optimizer: expected a mapping, found {type(options).__name__}", example)
    rest = dict(options)
    for key in ("use", "lr"):
        if key not in rest:
            raise UsageError(f"the optimizer needs {key!r}", example)
    use, lr = rest.pop("use"), rest.pop("lr")
    arithmetic, precision = rest.pop("arithmetic", "default"), rest.pop("precision", "plain")
    rate = read_rate(lr, "optimizer") if isinstance(lr, Mapping) else StatedRate(lr)
    return OptimizerSpec(use, rate.lr, rest, arithmetic, precision, rate.auto)


def _layers(model: nn.Module) -> tuple[Layer, ...]:
    """The layers of nn.Sequential; a subclass may do more than call its children, and so is one layer."""
    if type(model) is not nn.Sequential:
        return ((type(model).__name__, nn.Sequential(model)),)
    if not len(model):
        raise UsageError("the model is an empty nn.Sequential", "give it at least one module")
    return split_layers(model)


def _layer_costs(layers: tuple[Layer, ...], sample: Any) -> tuple[LayerCost, ...]:
    return measure_layers([module for _, module in layers], sample, [name for name, _ in layers])


@contextmanager
def intra_op(threads: int) -> Iterator[None]:
    """torch's intra-op threads for the time of a run; every stream uses as many."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
