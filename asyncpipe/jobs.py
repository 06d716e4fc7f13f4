"""From a job specification to real objects: model, data, loss, optimizer, learning rate.

Built-ins come by name. `package.module:callable` and `./file.py:callable` run the author's code, and only where
`allow` names that package or file.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe import data, models
from asyncpipe.data.dataset import DataSet, Split
from asyncpipe.errors import UsageError, UserCodeError, UserError, did_you_mean
from asyncpipe.runtime.learning_rate import LearningRate
from asyncpipe.runtime.losses import cross_entropy
from asyncpipe.runtime.stage import Loss
from asyncpipe.schedule.job import Component, JobSpec, RateSpec
from asyncpipe.schedule.source import file_beside

__all__ = ["LOSSES", "Job", "build_job", "make_learning_rate"]

LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "mse": nn.functional.mse_loss,
    "l1": nn.functional.l1_loss,
    "bce_with_logits": nn.functional.binary_cross_entropy_with_logits,
}


@dataclass(frozen=True)
class Job:
    """Everything that a training needs, built."""

    spec: JobSpec
    model: nn.Module
    data: DataSet
    loss: Loss
    optimizer: dict[str, Any]


def build_job(spec: JobSpec, seed: int, allow: Sequence[str] = ()) -> Job:
    """Builds a job. The model is initialised from `seed`. UsageError, MachineError or UserCodeError for what fails."""
    code = _UserCode(tuple(allow), Path(spec.file).parent if spec.file else Path())
    dataset = _build_data(spec.data, code)
    torch.manual_seed(seed)
    model = _build_model(spec.model, dataset, code)
    return Job(spec, model, dataset, _build_loss(spec.loss, code), _optimizer(spec.optimizer, code))


def make_learning_rate(lr: float, spec: RateSpec, updates: int, updates_per_epoch: float) -> LearningRate:
    """The learning rate over a run of `updates`; the cosine ends with the run."""
    warmup = min(round(spec.warmup * updates_per_epoch), updates)
    t_max = max(1, updates - warmup) if spec.schedule == "cosine" else None
    return LearningRate(lr, t_max, spec.min_lr, warmup, spec.warmup_start)


@dataclass(frozen=True)
class _UserCode:
    """Loads the author's callables, as far as they were allowed."""

    allow: tuple[str, ...]
    folder: Path

    def find(self, component: Component) -> Callable[..., Any] | None:
        """The callable of `module:name` or `./file.py:name`; None for a built-in's name."""
        module, colon, name = component.use.rpartition(":")
        if not colon:
            return None
        loaded = self._file(module, component) if module.endswith(".py") else self._module(module, component)
        found = getattr(loaded, name, None)
        if not callable(found):
            raise UsageError(f"{component.where}: {module} has no callable {name!r}")
        return found  # type: ignore[no-any-return]

    def _module(self, module: str, component: Component) -> Any:
        if not any(module == name or module.startswith(f"{name}.") for name in self.allow):
            raise _not_allowed(component, module.partition(".")[0])
        try:
            return importlib.import_module(module)
        except Exception as error:
            raise UserCodeError(f"importing {module}: {type(error).__name__}: {error}") from error

    def _file(self, file: str, component: Component) -> Any:
        # What an option of the command line names is beside the working directory, not beside the job's file.
        path = (file_beside(component.where, file) if component.where else self.folder / file).resolve()
        if path not in [Path(name).resolve() for name in self.allow]:
            raise _not_allowed(component, os.path.relpath(path))
        specification = importlib.util.spec_from_file_location(f"asyncpipe_job_{path.stem}", path)
        if specification is None or specification.loader is None or not path.exists():
            raise UsageError(f"{component.where}: no file {path}")
        module = importlib.util.module_from_spec(specification)
        sys.modules[f"asyncpipe_job_{path.stem}"] = module  # under its own stem it could hide another module
        try:
            specification.loader.exec_module(module)
        except Exception as error:
            raise UserCodeError(f"importing {path}: {type(error).__name__}: {error}") from error
        return module


def _not_allowed(component: Component, what: str) -> UsageError:
    return UsageError(
        f"{component.where}: {component.use} runs code of its author", f"if you trust it, add --allow {what}"
    )


def _call(function: Callable[..., Any], component: Component) -> Any:
    try:
        return function(**component.options)
    except UserError:
        raise
    except Exception as error:
        raise UserCodeError(f"{component.use}: {type(error).__name__}: {error}") from error


def _build_model(component: Component, dataset: DataSet, code: _UserCode) -> nn.Module:
    function = code.find(component)
    if function is None:
        sizes = dataset.sample_shape, dataset.classes, dataset.vocabulary, dataset.target_shape
        return models.build(component.use, component.options, *sizes)
    model = _call(function, component)
    if not isinstance(model, nn.Module):
        raise UserCodeError(f"{component.use} returned {type(model).__name__}; expected a torch.nn.Module")
    return model


def _build_data(component: Component, code: _UserCode) -> DataSet:
    function = code.find(component)
    if function is None:
        return data.load(component.use, component.options)
    value = _call(function, component)
    if isinstance(value, DataSet):
        return value
    try:
        (train_x, train_y), (test_x, test_y) = value
        train, test = Split(train_x, train_y), Split(test_x, test_y)
    except (TypeError, ValueError):
        expected = "((train inputs, train targets), (test inputs, test targets))"
        raise UserCodeError(f"{component.use} returned {type(value).__name__}; expected {expected}") from None
    return _data_set(train, test)


def _data_set(train: Split, test: Split) -> DataSet:
    """Sizes of the author's tensors: int64 samples are token ids, integer targets are classes."""
    shape = tuple(train.inputs.shape[1:])
    ids = train.inputs.dtype == torch.int64
    vocabulary = int(max(train.inputs.max(), test.inputs.max())) + 1 if ids else None
    if train.targets.is_floating_point():
        return DataSet(train, test, 1, shape, vocabulary)
    target_shape = tuple(train.targets.shape[1:])
    return DataSet(train, test, int(train.targets.max()) + 1, shape, vocabulary, target_shape)


def _build_loss(component: Component, code: _UserCode) -> Loss:
    function = code.find(component)
    if function is None:
        if component.use not in LOSSES:
            raise UsageError(f"no loss is called {component.use!r}", did_you_mean(component.use, list(LOSSES)))
        function = LOSSES[component.use]
    return partial(function, **component.options) if component.options else function


def _optimizer(component: Component, code: _UserCode) -> dict[str, Any]:
    function = code.find(component)
    return {"use": component.use if function is None else function, **component.options}
