"""What is looked at: a model, one microbatch, a loss and an optimizer, as a job or the command line names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.data import data_shape
from asyncpipe.data.batches import Batches
from asyncpipe.data.dataset import DataSet, Split
from asyncpipe.errors import MachineError, UsageError
from asyncpipe.jobs import Job, build_job
from asyncpipe.runtime.numerics import Numerics, read_numerics
from asyncpipe.runtime.optimizers import OptimizerSpec
from asyncpipe.runtime.stage import Loss
from asyncpipe.schedule.job import Component, JobSpec
from asyncpipe.training.trainer import optimizer_spec

__all__ = ["InputShape", "Subject", "read_subject"]

_STAND_IN = "asyncpipe.tools.fit.subject"
Target = Callable[[Any], Any]


@dataclass(frozen=True)
class InputShape:
    """A microbatch as the command line gives it, samples first; random numbers fill it."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))} of {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class Subject:
    """`sample` and what `target_of(output)` gives are one microbatch; `source` says in words where they are from.

    stand_in: why sample and target are random, if they are. numerics: those that model, sample and loss already have,
    and what forwards compute in.
    """

    name: str
    model: nn.Module
    sample: Tensor
    target_of: Target
    loss: Loss
    optimizer: OptimizerSpec
    source: str
    stand_in: str = ""
    numerics: Numerics = field(default_factory=Numerics)

    @property
    def batch(self) -> int:
        return len(self.sample)

    @property
    def shape(self) -> InputShape:
        return InputShape(tuple(self.sample.shape), self.sample.dtype)


def read_subject(spec: JobSpec, allow: Sequence[str], given: InputShape | None = None, seed: int = 0) -> Subject:
    """Builds the job's model, with the first microbatch of its data, or a random one where a shape is `given` or the
    files of the data are not here. UsageError or UserCodeError for what cannot be built."""
    return _converted(_build(spec, allow, given, seed), read_numerics(spec.train.numerics))


def _converted(subject: Subject, numerics: Numerics) -> Subject:
    numerics.convert(subject.model)
    sample, loss = numerics.inputs(subject.sample), numerics.loss(subject.loss)
    return replace(subject, sample=sample, loss=loss, numerics=numerics)


def _build(spec: JobSpec, allow: Sequence[str], given: InputShape | None, seed: int) -> Subject:
    name = spec.model.use if ":" in spec.model.use else f"{spec.model.use} of {spec.name}"
    if given is not None:
        if ":" not in spec.model.use:
            message = f"--input has no meaning with model {spec.model.use}, which takes its sizes from the data"
            raise UsageError(message, "leave it out; it is for a MODEL that is code")
        built = build_job(replace(spec, data=Component(f"{_STAND_IN}:no_data")), seed, (*allow, _STAND_IN))
        return _random(name, built, given, "as --input says")
    try:
        job = build_job(spec, seed, allow)
    except MachineError as error:
        job = build_job(replace(spec, data=_described(spec)), seed, (*allow, _STAND_IN))
        reason = f"since {error.message}"
        return replace(_of_data(name, job, spec, seed), source="random numbers", stand_in=reason)
    return _of_data(name, job, spec, seed)


def _of_data(name: str, job: Job, spec: JobSpec, seed: int) -> Subject:
    sample, target = next(Batches(job.data.train, spec.train.batch, seed=seed).batches())
    optimizer = optimizer_spec(job.optimizer)
    return Subject(name, job.model, sample, lambda _: target, job.loss, optimizer, f"first of {spec.data.use}")


def _random(name: str, job: Job, given: InputShape, why: str) -> Subject:
    try:
        sample = random_values(given.shape, given.dtype, _ids(job.model))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"--input {given}: torch cannot make it: {reason}", "choose another size or --dtype") from None
    loss, target_of = _loss_of(job)
    return Subject(name, job.model, sample, target_of, loss, optimizer_spec(job.optimizer), "random numbers", why)


def random_values(shape: Sequence[int], dtype: torch.dtype, below: int) -> Tensor:
    """Normal numbers, or whole ones from 0 up to, but not including, `below`; the same each time."""
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(*shape, generator=generator, dtype=dtype)
    return torch.randint(below, tuple(shape), generator=generator).to(dtype)


def _ids(model: nn.Module) -> int:
    """Below it every embedding of the model knows an id."""
    sizes = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    return min(sizes, default=2)


def _loss_of(job: Job) -> tuple[Loss, Target]:
    """The job's loss with a random target that fits the output, else the mean of squares."""
    make = _TARGETS.get(job.spec.loss.use)
    return (_mean_of_squares, lambda _: None) if make is None else (_or_squares(job.loss, make), make)


def _or_squares(loss: Loss, make: Target) -> Loss:
    """An output that is no tensor of scores has no classes to draw from."""

    def chosen(output: Any, target: Any) -> Tensor:
        return _mean_of_squares(output, None) if target is None else loss(output, target)

    return chosen


def _mean_of_squares(output: Any, _: Any) -> Tensor:
    from asyncpipe.tools.fit.record import tensors_in

    return torch.stack([y.float().pow(2).mean() for y in tensors_in(output) if y.is_floating_point()]).sum()


def _classes(output: Any) -> Tensor | None:
    """One class for each sample, or for each place of a sequence or an image."""
    if not isinstance(output, Tensor) or output.dim() < 2:
        return None
    shape = (*output.shape[:1], *output.shape[2:]) if output.dim() > 3 else output.shape[:-1]
    return random_values(shape, torch.int64, output.shape[1] if output.dim() > 3 else output.shape[-1])


def _numbers(output: Any) -> Tensor | None:
    return random_values(output.shape, output.dtype, 2) if isinstance(output, Tensor) else None


def _shares(output: Any) -> Tensor | None:
    return None if (found := _numbers(output)) is None else found.sigmoid()


_TARGETS: dict[str, Target] = {
    "cross_entropy": _classes,
    "mse": _numbers,
    "l1": _numbers,
    "bce_with_logits": _shares,
}


def no_data() -> DataSet:
    """Where the model is given a shape and no data."""
    nothing = Split(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
    return DataSet(nothing, nothing, 1, (1,))


def _described(spec: JobSpec) -> Component:
    """Random data with the sizes of the job's; MachineError where these are not known without the files."""
    shape = data_shape(spec.data.use, spec.data.options)
    options = {
        "sample_shape": shape.sample_shape,
        "classes": shape.classes,
        "vocabulary": shape.vocabulary,
        "target_shape": shape.target_shape,
        "samples": spec.train.batch,
    }
    return Component(f"{_STAND_IN}:random_data", options, spec.data.where)


def random_data(
    sample_shape: tuple[int, ...], classes: int, vocabulary: int | None, target_shape: tuple[int, ...], samples: int
) -> DataSet:
    """Samples and targets that mean nothing."""
    dtype = torch.float32 if vocabulary is None else torch.int64
    inputs = random_values((samples, *sample_shape), dtype, vocabulary or 1)
    part = Split(inputs, random_values((samples, *target_shape), torch.int64, classes))
    return DataSet(part, part, classes, sample_shape, vocabulary, target_shape)


def relative_use(use: str, folder: str) -> str:
    """`./net.py:Net` as it is named from the working directory."""
    file, colon, name = use.rpartition(":")
    return f"{os.path.relpath(os.path.join(folder, file))}:{name}" if colon and file.endswith(".py") else use


def parse_shape(text: str, dtype: str) -> InputShape:
    """`32x1x28x28` and `float32`; UsageError for anything else."""
    try:
        shape = tuple(int(part) for part in text.replace(" ", "").split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"--input {text!r}: expected sizes, samples first", "as in --input 32x1x28x28")
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise UsageError(f"--dtype {dtype!r}: torch has no such type", "as in --dtype float32 or --dtype int64")
    return InputShape(shape, found)
