"""`Trainer`: a model, a schedule, and batches. Compiles the schedule for the model and runs it on a back end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.errors import ScheduleError, UsageError
from asyncpipe.models.describe import LayerCost
from asyncpipe.models.measure import measure_layers
from asyncpipe.models.modules import split_layers
from asyncpipe.runtime.backends import choose_backend, default_threads
from asyncpipe.runtime.evaluation import Evaluation, evaluate
from asyncpipe.runtime.execution import Execution
from asyncpipe.runtime.feed import Feed, as_pair
from asyncpipe.runtime.learning_rate import LearningRate
from asyncpipe.runtime.optimizers import OptimizerSpec, StageOptimizer, make_optimizer
from asyncpipe.runtime.stage import Loss, Stage
from asyncpipe.runtime.staleness import StalenessRecord
from asyncpipe.runtime.threads import Hook
from asyncpipe.schedule import Costs, Schedule, load
from asyncpipe.staging import cut_stages
from asyncpipe.verify.trainable import slow_pushes, untrainable

__all__ = ["FitReport", "Trainer"]

Batches = Iterable[tuple[Any, Any]]
Layer = tuple[str, nn.Sequential]


@dataclass(frozen=True)
class FitReport:
    """What one `fit` did: microbatches and updates, samples, seconds, and the loss of every microbatch in order."""

    microbatches: int
    updates: int
    samples: int
    wall_s: float
    losses: tuple[float, ...] = field(repr=False)
    intra_op_threads: int

    @property
    def train_loss(self) -> float:
        return sum(self.losses) / len(self.losses)


@dataclass(repr=False)
class Trainer:
    """Trains `model` under a schedule; the trained weights are in `model` itself after every `fit`.

    `schedule` is a library name, a file, or a loaded Schedule; `loss(output, target)` gives a scalar tensor;
    `optimizer` is `{"use": "sgd", "lr": 0.1, "momentum": 0.9}` or names any `torch.optim` class (`use:
    torch.optim.Adagrad`); `backend` is serial, threads or auto. A model is cut into stages at the children of
    nn.Sequential; another module is one layer. Raises UsageError or ScheduleError for what does not fit together.
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

    def __post_init__(self) -> None:
        if not callable(self.loss):
            hint = "as in loss=torch.nn.functional.cross_entropy"
            raise UsageError(f"loss: expected a function of (output, target), found {self.loss!r}", hint)
        if not isinstance(self.schedule, Schedule):
            self.schedule = load(self.schedule)
        if not_yet := untrainable(self.schedule):
            raise ScheduleError(not_yet)
        self.run_backend = choose_backend(self.backend)
        self.spec = optimizer_spec(self.optimizer)
        self.rate = self.learning_rate or LearningRate(self.spec.lr)
        self.compiled: Compiled | None = None
        self.parts: list[Stage] = []
        self.optimizers: list[StageOptimizer] = []
        self.staleness = StalenessRecord()
        self.microbatches = 0
        self.updates = 0

    def __repr__(self) -> str:
        name = self.schedule.name if isinstance(self.schedule, Schedule) else self.schedule
        stages = f", {len(self.parts)} stages" if self.parts else ""
        return f"Trainer({type(self.model).__name__}, {name}, {self.backend}{stages}, {self.updates} updates)"

    def prepare(self, sample: Any) -> Compiled:
        """Cuts the model for a microbatch such as `sample`, compiles, and builds stages; `fit` does it on its own."""
        if self.compiled is not None:
            refuse_changed_model(self.parts)
            return self.compiled
        assert isinstance(self.schedule, Schedule)
        layers = _layers(self.model)
        cut = cut_stages(self.schedule, self.stages, len(layers), lambda: _layer_costs(layers, sample))
        compiled = compile_schedule(self.schedule, len(cut), self.costs)
        if sends := slow_pushes(compiled):
            raise ScheduleError(sends)
        self.cut = [[layers[i] for i in part] for part in cut]
        self._build(compiled)
        self.compiled = compiled
        return compiled

    def _build(self, compiled: Compiled) -> None:
        if not self.model.training:
            self.model.train()
        stash = compiled.schedule.weights.backward == "same"
        refuse_tied_stages(self.cut)
        self.parts, self.optimizers = [], []
        for number, part in enumerate(self.cut):
            loss = self.loss if number == compiled.stages - 1 else None
            module = nn.Sequential(*(child for _, layer in part for child in layer))
            stage = Stage(number, module, compiled.slots[number], stash, loss)
            self.parts.append(stage)
            self.optimizers.append(make_optimizer(self.spec, stage.arena))
        if compiled.schedule.update.write == "racy" and not all(o.concurrent for o in self.optimizers):
            raise UsageError(
                f"optimizer {self.spec.use} takes one step at a time, and `write: racy` takes several at once",
                "use sgd, adam, adamw, nadam, lion or muon, or `write: ordered`",
            )
        self.staleness = StalenessRecord(compiled.stages)

    def fit(
        self,
        batches: Batches,
        microbatches: int | None = None,
        poll: Callable[[Execution], None] | None = None,
    ) -> FitReport:
        """Trains on every batch (or the first `microbatches`) and drains the pipeline at the end.

        `batches` is any iterable of (input, target); one without a length is read into a list first, unless
        `microbatches` is given. `poll` sees the execution every half second.
        """
        count, sample, stream = _counted(batches, microbatches)
        compiled = self.prepare(sample)
        program = compiled.program(count)
        samples = _SampleCounter()
        execution = Execution(
            program,
            self.parts,
            self.optimizers,
            Feed(samples.over(stream), count),
            self._rate_after(self.updates),
        )
        threads = self.intra_op_threads or default_threads(self.backend, program)
        start = time.perf_counter()
        with intra_op(threads):
            try:
                self.run_backend(execution, self.hook, None if poll is None else lambda: poll(execution))
            finally:
                for stage in self.parts:
                    stage.drop()
        wall = time.perf_counter() - start
        updates = program.updates or 0
        self.microbatches += count
        self.updates += updates
        self.staleness.add(execution)
        return FitReport(count, updates, samples.count, wall, tuple(execution.losses), threads)

    def _rate_after(self, updates: int) -> Callable[[int], float]:
        return lambda update: self.rate.at(updates + update)

    def evaluate(self, batches: Batches) -> Evaluation:
        """{"loss", "accuracy"} over the batches, in evaluation mode; accuracy is None where targets are no classes."""
        return evaluate(self.model, self.loss, batches)

    @property
    def predicted_staleness(self) -> tuple[Fraction, ...]:
        """Per stage, as the compiler states it for the planned timing; empty before the first `fit`."""
        return self.compiled.staleness.apply if self.compiled else ()


def optimizer_spec(options: Mapping[str, Any]) -> OptimizerSpec:
    """`{"use": ..., "lr": ..., "arithmetic": "default"|"fused", ...}` as a spec; UsageError without use or lr."""
    example = 'as in {"use": "sgd", "lr": 0.1, "momentum": 0.9}'
    if not isinstance(options, Mapping):
        raise UsageError(f"optimizer: expected a mapping, found {type(options).__name__}", example)
    rest = dict(options)
    for key in ("use", "lr"):
        if key not in rest:
            raise UsageError(f"the optimizer needs {key!r}", example)
    use, lr, arithmetic = rest.pop("use"), rest.pop("lr"), rest.pop("arithmetic", "default")
    return OptimizerSpec(use, lr, rest, arithmetic)


def refuse_tied_stages(cut: list[list[Layer]]) -> None:
    """AP601's runtime twin: one parameter in two stages would get two optimizers and two staleness values."""
    owner: dict[int, int] = {}
    for number, part in enumerate(cut):
        for _, module in part:
            for name, parameter in module.named_parameters():
                other = owner.setdefault(id(parameter), number)
                if other != number:
                    raise UsageError(
                        f"parameter {name} is tied between the stages {other} and {number}",
                        "cut the model so that tied parameters share a stage, or use --stages 1",
                    )


def refuse_changed_model(parts: list[Stage]) -> None:
    """The slots share the weights that the model had at its first `fit`; other ones would not be trained."""
    for stage in parts:
        known = zip(stage.arena.names, stage.arena.views, stage.trainable, strict=True)
        found = dict(stage.module.named_parameters(remove_duplicate=False))
        for name, view, trainable in known:
            if found[name].data_ptr() != view.data_ptr() or found[name].requires_grad != trainable:
                raise UsageError(
                    f"parameter {name} of stage {stage.number} was replaced, frozen or thawed since the first fit",
                    "make a new Trainer for the changed model",
                )


def _layers(model: nn.Module) -> tuple[Layer, ...]:
    """The layers of nn.Sequential; a subclass may do more than call its children, and so is one layer."""
    if type(model) is not nn.Sequential:
        return ((type(model).__name__, nn.Sequential(model)),)
    if not len(model):
        raise UsageError("the model is an empty nn.Sequential", "give it at least one module")
    return split_layers(model)


def _layer_costs(layers: tuple[Layer, ...], sample: Any) -> tuple[LayerCost, ...]:
    return measure_layers([module for _, module in layers], sample, [name for name, _ in layers])


def _counted(batches: Batches, microbatches: int | None) -> tuple[int, Any, Iterator[tuple[Any, Any]]]:
    """(how many, the first input, all of them as an iterator)."""
    if microbatches is None:
        try:
            microbatches = len(batches)  # type: ignore[arg-type]
        except TypeError:  # also a DataLoader over an iterable data set
            batches = list(batches)
            microbatches = len(batches)
    if microbatches < 1:
        raise UsageError("there are no batches to train on", "give at least one (input, target) pair")
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise UsageError("there are no batches to train on", "give at least one (input, target) pair")
    return microbatches, as_pair(first, 0)[0], chain([first], iterator)


class _SampleCounter:
    """Counts the samples that pass by."""

    def __init__(self) -> None:
        self.count = 0

    def over(self, batches: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        for number, batch in enumerate(batches):
            target = as_pair(batch, number)[1]
            self.count += len(target) if isinstance(target, Tensor) and target.dim() else 1
            yield batch


@contextmanager
def intra_op(threads: int) -> Iterator[None]:
    """torch's intra-op threads for the time of a run; every stream uses as many."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
