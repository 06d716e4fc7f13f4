"""The optimizer of one stage, the same for every back end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor

from asyncpipe.errors import CheckpointError, InternalError, MachineError, UsageError
from asyncpipe.runtime.arena import Arena, Place
from asyncpipe.runtime.attached_rule import AttachedRule
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.builtin_rule import BuiltinRule
from asyncpipe.runtime.half_precision_rule import HalfPrecisionRule
from asyncpipe.runtime.optimizer_options import CHOICES, OPTIONS, read_non_negative, suggestion
from asyncpipe.runtime.torch_rule import PREFIX, TorchRule, find_optimizer_class
from asyncpipe.runtime.update_rule import Arithmetic, CountingRule, ParameterState, Precision, UpdateRule
from asyncpipe.runtime.version_counters import VersionCounters

__all__ = ["OptimizerSpec", "OptimizerState", "StageOptimizer", "make_optimizer"]

FUSED_ON_CUDA = ("sgd", "adam", "adamw", "nadam", "lion")
"""Those with a Triton kernel, which then is their only arithmetic on CUDA."""


@dataclass(frozen=True)
class OptimizerSpec:
    """`use`: sgd, adam, adamw, nadam, lion, muon, "torch.optim.NAME" or a class; `options`: its own, without lr.

    precision: of half-precision weights; parameters of other dtypes are updated as ever.
    auto: lr is right without staleness; each stage takes the part of it that `Planned` says.
    """

    use: str | type[torch.optim.Optimizer]
    lr: float
    options: Mapping[str, object] = field(default_factory=dict)
    arithmetic: Arithmetic = "default"
    precision: Precision = "plain"
    auto: bool = False


class OptimizerState(TypedDict):
    """Plain numbers and tensors: the steps so far, and by parameter name what torch.optim would keep."""

    count: int
    parameters: dict[str, ParameterState]


class StageOptimizer:
    """One optimizer state over one arena; `step` never locks and may be called from any thread."""

    def __init__(
        self, arena: Arena, rule: UpdateRule, counters: VersionCounters | None = None, name: str = "of its own"
    ) -> None:
        """`counters`: of updates by a rule that does not count them itself."""
        self.name = name
        self._arena = arena
        self._rule = rule
        self._counters = counters
        # A number per thread, written by that thread alone: exact without a lock.
        self._counts: dict[int, int] = {}
        self._loaded_count = 0

    @property
    def count(self) -> int:
        """How many steps were taken, by all threads."""
        return self._loaded_count + sum(list(self._counts.values()))

    @property
    def concurrent(self) -> bool:
        """Whether two threads may be inside `step` at once; else steps must follow one another."""
        return self._rule.concurrent

    @property
    def repeats(self) -> bool:
        """Whether a CUDA graph may repeat a step: all that changes from one to the next lies on the device."""
        return self._rule.repeats

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """Those that steps draw random numbers from; a capture has to know them."""
        return self._rule.generators

    @property
    def state_bytes(self) -> int:
        """Bytes of the tensors that the optimizer keeps now."""
        return self._rule.state_bytes

    def step(self, gradients: Sequence[Tensor | None], lr: float, reads: Tensor | None = None) -> None:
        """Apply one update to the arena in place, with one gradient per view; gradients stay as they are.

        A view without one is skipped: no weight decay, no momentum, no step. UsageError for sparse gradients. reads:
        the versions that its forwards found, where updates are counted on the device.
        """
        with torch.no_grad():
            arranged = _arrange(self._arena, gradients)
            if reads is not None and isinstance(self._rule, CountingRule):
                self._rule.apply_counted(arranged, lr, reads)
            else:
                self._rule.apply(arranged, lr)
                if reads is not None and self._counters is not None:
                    self._counters.count(reads)
        thread = threading.get_ident()
        self._counts[thread] = self._counts.get(thread, 0) + 1

    def state(self) -> OptimizerState:
        """A copy of the whole state."""
        states = self._rule.parameter_states()
        return {"count": self.count, "parameters": dict(zip(self._arena.names, states, strict=True))}

    def load_state(self, state: OptimizerState) -> None:
        """Continue from what `state` returned; CheckpointError where it belongs to other parameters."""
        states, names = state["parameters"], self._arena.names
        if states.keys() != set(names):
            raise CheckpointError(f"optimizer state: expected parameters {names}, found {list(states)}")
        self._rule.load_parameter_states([states[name] for name in names])
        self._counts = {}
        self._loaded_count = state["count"]


def make_optimizer(spec: OptimizerSpec, arena: Arena, attachments: Attachments | None = None) -> StageOptimizer:
    """An optimizer with a state of its own over `arena`; UsageError where the spec cannot be met, MachineError
    where CUDA lacks Triton."""
    _require_rate(spec.lr)
    for name, words in CHOICES.items():
        if (found := getattr(spec, name)) not in words:
            raise UsageError(f"optimizer {name} must be {' or '.join(words)}, found {found!r}")
    attachments = attachments or Attachments()
    name = spec.use if isinstance(spec.use, str) else spec.use.__name__
    return StageOptimizer(arena, _make_rule(spec, arena, attachments), attachments.counters, name)


def _make_rule(spec: OptimizerSpec, arena: Arena, attachments: Attachments) -> UpdateRule:
    if arena.layout.device.type == "cuda" and spec.use in FUSED_ON_CUDA:
        return _fused_rule(spec, arena, attachments)
    if not isinstance(spec.use, str) or spec.use not in OPTIONS:
        return _torch_rule(spec, arena, attachments)
    if spec.precision != "plain":
        return _half_precision_rule(spec, arena, attachments)
    if attachments.is_empty:
        return _builtin_rule(spec, arena)
    return AttachedRule(arena, spec.use, spec.options, spec.arithmetic, attachments)


def _builtin_rule(spec: OptimizerSpec, arena: Arena) -> UpdateRule:
    use = str(spec.use)
    if use == "muon" and arena.layout.device.type == "cuda":
        with _needing_triton(use):
            from asyncpipe.runtime.muon_rule import MuonRule
        return MuonRule(arena, spec.options, spec.arithmetic)
    return BuiltinRule(arena, use, spec.options, spec.arithmetic)


def _fused_rule(spec: OptimizerSpec, arena: Arena, attachments: Attachments) -> UpdateRule:
    with _needing_triton(spec.use):
        from asyncpipe.runtime.fused_rule import FusedRule
    return FusedRule(arena, str(spec.use), spec.options, attachments, spec.precision, _new_seed(spec))


@contextmanager
def _needing_triton(use: object) -> Iterator[None]:
    """Around an import: Triton is not on every machine, and takes its time to load."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("triton"):
            raise
        raise MachineError(
            f"optimizer {use} on CUDA needs Triton, which is not installed",
            "pip install 'triton>=3.6', or choose torch.optim.NAME, such as torch.optim.SGD",
        ) from error


def _half_precision_rule(spec: OptimizerSpec, arena: Arena, attachments: Attachments) -> UpdateRule:
    if not attachments.is_empty:
        raise UsageError(
            f"`precision: {spec.precision}` with gradient transforms, private or predicted weights is for"
            f" {', '.join(FUSED_ON_CUDA)} on CUDA, found {spec.use} on {arena.layout.device.type}",
            "leave `precision` out, or keep the parameters in float32",
        )
    return HalfPrecisionRule(arena, partial(_builtin_rule, spec), spec.precision == "master", _new_seed(spec))


def _new_seed(spec: OptimizerSpec) -> int:
    """Of torch's global generator, so that no two stages or replicas round alike, and two equal runs do."""
    return int(torch.randint(1 << 31, ())) if spec.precision == "stochastic" else 0


def _torch_rule(spec: OptimizerSpec, arena: Arena, attachments: Attachments) -> UpdateRule:
    if not attachments.is_empty:
        raise UsageError(
            f"gradient transforms and weight prediction are for built-in optimizers, found {spec.use}",
            f"choose {', '.join(FUSED_ON_CUDA)}, or leave them out",
        )
    is_known = not isinstance(spec.use, str) or spec.use.startswith(PREFIX)
    if is_known and spec.precision != "plain":
        raise UsageError(
            f"`precision: {spec.precision}` is for built-in optimizers, found {spec.use}",
            f"choose {', '.join(OPTIONS)}, or leave it out",
        )
    if not isinstance(spec.use, str):
        return TorchRule(arena, spec.use, spec.lr, spec.options, spec.arithmetic)
    if spec.use.startswith(PREFIX):
        return TorchRule(arena, find_optimizer_class(spec.use), spec.lr, spec.options, spec.arithmetic)
    raise UsageError(
        f"no optimizer is called {spec.use!r}{suggestion(spec.use.lower(), OPTIONS)}",
        f"use {', '.join(OPTIONS)}, or {PREFIX}NAME for any class of torch.optim",
    )


def _require_rate(lr: object) -> None:
    try:
        read_non_negative(lr)
    except ValueError:
        raise UsageError(f"optimizer: lr must be a finite number of at least 0, found {lr!r}") from None


def _arrange(arena: Arena, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Check one gradient per view, and give each the strides of its view, as autograd does for `.grad`."""
    if len(gradients) != len(arena.views):
        raise InternalError(f"expected {len(arena.views)} gradients, found {len(gradients)}")
    triples = zip(gradients, arena.layout.places, arena.views, strict=True)
    return [None if gradient is None else _arrange_one(gradient, place, view) for gradient, place, view in triples]


def _arrange_one(gradient: Tensor, place: Place, view: Tensor) -> Tensor:
    if not place.trainable:
        raise InternalError(f"{place.name} does not require a gradient, but has one")
    if gradient.layout != torch.strided:
        raise UsageError(
            f"the gradient of {place.name} is sparse, the optimizers need dense ones",
            "construct its module with sparse=False",
        )
    if gradient.stride() == view.stride():
        return gradient
    if _same_order(gradient, view):
        return gradient.as_strided(view.shape, view.stride())
    return torch.empty_like(view).copy_(gradient)


def _same_order(gradient: Tensor, view: Tensor) -> bool:
    """In memory: strides of dimensions of size 1, as in 1x1 convolutions, mean nothing."""
    triples = zip(view.shape, view.stride(), gradient.stride(), strict=True)
    return all(size == 1 or expected == found for size, expected, found in triples)
