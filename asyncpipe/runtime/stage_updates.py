"""The updates of one stage: whose optimizer state they use, what is done to their gradient, and when they count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from asyncpipe.errors import UsageError
from asyncpipe.ir import Program
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.half_precision_rule import HALF
from asyncpipe.runtime.optimizers import OptimizerSpec, OptimizerState, StageOptimizer, make_optimizer
from asyncpipe.runtime.stage import Gradients
from asyncpipe.runtime.stage_weights import Planned, StageWeights
from asyncpipe.runtime.version_counters import VersionCounters

__all__ = ["StageUpdates", "reduce_gradients"]


@dataclass
class _Commit:
    """Where the last committed update left the stage, and the gradients since (ACCO, arXiv 2406.02613)."""

    weights: Arena
    state: OptimizerState
    gradients: list[Gradients] = field(default_factory=list)


class StageUpdates:
    """Applies updates to `weights.live`; called by the streams that run U, at once where `write` lets them."""

    def __init__(
        self, program: Program, weights: StageWeights, spec: OptimizerSpec, planned: Planned, counted: bool = False
    ) -> None:
        """`counted`: versions and staleness are counted on the device too."""
        self.program = program
        self.weights = weights
        device = weights.live.layout.device
        self.counters = VersionCounters.on(device, len(weights.past)) if counted else None
        self.read = weights.live.like() if needs_read(program) else None
        shared = program.owner == "shared"
        owners = [None] if shared and not weights.private else list(weights.streams)
        if shared and len(weights.private) > 1:
            raise UsageError("update.owner: shared: each private copy needs a state of its own", "set `owner: stream`")
        _refuse_masters_of_many(program, weights, spec, len(owners))
        self.optimizers: dict[int | None, StageOptimizer] = {
            owner: make_optimizer(spec, self._target(owner), self._attachments(owner, planned)) for owner in owners
        }
        # A tensor is added element by element; holding a lock over all of them is as atomic, and nothing is lost. A
        # chain of updates has to be kept apart from what other replicas bring meanwhile.
        self._lock: contextlib.AbstractContextManager[Any] = (
            weights.lock if program.write in ("atomic", "ordered") else contextlib.nullcontext()
        )
        self._commit: _Commit | None = None
        self.lr_factor = planned.lr_factor

    def _target(self, owner: int | None) -> Arena:
        """What the steps of an owner change first."""
        apart = None if owner is None else self.weights.apart.get(owner)
        return self.weights.live if apart is None else apart

    def _attachments(self, owner: int | None, planned: Planned) -> Attachments:
        steps = transforms_of(self.program)
        weights = self.weights
        backward = self.program.backward_weights
        return Attachments(
            transforms={name: steps[name] for name in steps if name in ("clip_norm", "delay_compensation")},  # type: ignore[misc]
            spike="spike" in steps,
            # Only where it counts: a rule without attachments has the bits of torch.optim.
            staleness=planned.staleness if "spike" in steps or "lr_over_staleness" in steps else 0.0,
            staleness_power=steps.get("lr_over_staleness", 0.0),
            read=self.read,
            # On a device updates overlap by streams, which no lock of the host holds back.
            atomic=self.program.write == "atomic" and weights.live.layout.device.type == "cuda",
            private=None if owner is None or owner in weights.apart else weights.private.get(owner),
            ahead=weights.ahead,
            horizon=planned.staleness if weights.ahead else 0.0,
            drift_decay=float(Fraction(backward[4:-1])) if backward.startswith("ema") else None,
            corrected=weights.corrected,
            drift_horizon=planned.forward_backward if weights.corrected else 0.0,
            counters=None if owner in weights.apart else self.counters,
        )

    @property
    def concurrent(self) -> bool:
        """Whether two updates may be applied at once: they share parameters, and maybe the optimizer's state."""
        shares_more = self.read is not None or self.program.commit > 1
        return not shares_more and all(optimizer.concurrent for optimizer in self.optimizers.values())

    @property
    def counted(self) -> list[Tensor]:
        """What the device counts, read and written without order."""
        return [] if self.counters is None else self.counters.tensors

    def version_found(self, update: int) -> Tensor | None:
        """int64 (1), on the device: the version that a forward for `update` reads; None where nobody counts there."""
        if self.counters is None or self.weights.apart:
            return None
        return self.counters.found(self.weights.place_of_past(update))

    def updated(self, version: int) -> None:
        """The live weights are now at `version`, and so are those that others read."""
        self.weights.updated(version)
        if self.counters is not None and self.weights.past:
            self.counters.keep(version % len(self.weights.past))

    def apply(
        self,
        stream: int,
        update: int,
        parts: Sequence[Gradients],
        read: Arena | None,
        lr: float,
        found: Sequence[Tensor] = (),
    ) -> None:
        """One update with the gradients of its microbatches, in ascending order; `read`: the weights of its forward.

        found: what `version_found` gave for each microbatch.
        """
        optimizer = self.optimizers.get(stream) or self.optimizers[None]
        with self._lock:
            if self.read is not None and read is not None:
                self.read.copy_from(read)
            if self.program.commit > 1:
                parts = self._since_commit(optimizer, update, parts)
            with self._pushing(stream):
                optimizer.step(reduce_gradients(parts, self.program.reduce), lr, _together(found))

    @contextlib.contextmanager
    def _pushing(self, stream: int) -> Iterator[None]:
        """A step stores the private weights as the live ones (`overwrite`); otherwise their change is added."""
        private = self.weights.private.get(stream)
        if private is None or stream in self.weights.apart or self.program.write == "overwrite":
            yield
            return
        live, before = self.weights.live.clone(), private.clone()
        yield
        for dtype, flat in self.weights.live.flat.items():
            flat.copy_(live.flat[dtype] + (private.flat[dtype] - before.flat[dtype]))

    def _since_commit(self, optimizer: StageOptimizer, update: int, parts: Sequence[Gradients]) -> list[Gradients]:
        """Take the tentative updates back; all gradients since the last commit, these included."""
        if self._commit is None:
            self._commit = _Commit(self.weights.live.clone(), optimizer.state())
        else:
            self.weights.live.copy_from(self._commit.weights)
            optimizer.load_state(self._commit.state)
        self._commit.gradients += parts
        gradients = self._commit.gradients
        if (update + 1) % self.program.commit == 0:
            self._commit = None
        return gradients

    def tentative(self) -> list[Any]:
        """The tensors that the next update reads of earlier ones, in nested lists."""
        if self._commit is None:
            return []
        return [list(self._commit.weights.flat.values()), self._commit.state["parameters"], self._commit.gradients]

    def restart(self) -> None:
        """A run begins after a drain: a tentative update that ended the last one stays."""
        self._commit = None
        if self.counters is not None and self.counters.past is not None:
            self.counters.past.copy_(self.counters.version.expand_as(self.counters.past))


def _together(found: Sequence[Tensor]) -> Tensor | None:
    if not found:
        return None
    return found[0] if len(found) == 1 else torch.cat(list(found))


def _refuse_masters_of_many(program: Program, weights: StageWeights, spec: OptimizerSpec, owners: int) -> None:
    """UsageError where several float32 copies of one weight would be added to, and none be right."""
    halves = any(place.trainable and place.dtype in HALF for place in weights.live.layout.places)
    if spec.precision == "master" and program.write == "atomic" and owners > 1 and halves:
        raise UsageError(
            f"`precision: master` with `write: atomic` and {owners} owners of optimizer state (`owner: stream`): each"
            " would add to a float32 copy of its own, and round the weights from that",
            "choose `precision: stochastic`, `owner: shared`, `write: ordered`, or parameters in float32",
        )


def transforms_of(program: Program) -> Mapping[str, float]:
    """The gradient transforms in their order; a switch is 1."""
    pairs = (text.partition("=") for text in program.gradient)
    return {name: float(Fraction(value or 1)) for name, _, value in pairs}


def needs_read(program: Program) -> bool:
    """Whether an update needs the weights that its forward read."""
    return "delay_compensation" in transforms_of(program)


def reduce_gradients(parts: Sequence[Gradients], reduce: str) -> Gradients:
    """The sum of the microbatches' gradients in ascending order; `mean` divides by their number."""
    if len(parts) == 1:
        return parts[0]
    sums: Gradients = []
    for column in zip(*parts, strict=True):
        total: Any = None
        for gradient in column:
            if gradient is not None:
                total = gradient if total is None else total + gradient
        sums.append(total if total is None or reduce == "sum" else torch.div(total, len(parts)))
    return sums
