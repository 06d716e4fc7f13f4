"""The bound on the gradient's bias, and the noise of staleness, with constants measured in a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from asyncpipe.analysis.staleness_theory import gradient_bias, gradient_bias_bound
from asyncpipe.runtime.divergence import DivergenceRecord
from asyncpipe.training.gradient_probe import GradientConstants, GradientProbe
from asyncpipe.training.trainer import Trainer

__all__ = ["gradient_summary", "probe"]


def probe(trainer: Trainer, batches: Sequence[tuple[Any, Any]]) -> GradientConstants | None:
    """The constants of the gradient around the present weights, with what `measure_every` has measured.

    None where stages have losses or gradients of their own (`aux`), where the gradient vanishes, and where a small step
    is lost in the type of the weights (`dtype: bf16`).
    """
    numerics = trainer.platform.numerics
    if trainer.compiled is None or trainer.compiled.program().aux != "chain" or numerics.parameter_dtype is not None:
        return None
    record, moved = trainer.divergence, []
    for by_stage in record.displacements:
        # A stage that this microbatch did not update has not moved for it.
        arenas = [by_stage.get(stage.number) or stage.arena.like() for stage in trainer.parts]
        moved.append([view for arena in arenas for view in arena.views])
    batches = [(numerics.inputs(value), target) for value, target in batches]
    return GradientProbe(trainer.model, trainer.loss).constants(batches, moved, record.largest_step)


def gradient_summary(probes: Sequence[GradientConstants], record: DivergenceRecord) -> dict[str, Any] | None:
    """The bounds with the largest constants that were seen; None where nothing was measured.

    Estimates, not guarantees: `lipschitz` is a lower estimate, the others are the largest of a sample.
    """
    if not probes or not any(record.samples):
        return None
    lipschitz = max(probe.lipschitz for probe in probes)
    bound = gradient_bias_bound(record.largest_gradient, lipschitz, record.largest_lr, record.most_updates)
    last = probes[-1]
    stale = last.sigma_stale
    return {
        "lipschitz": lipschitz,
        "norm_max": record.largest_gradient,
        "lr_max": record.largest_lr,
        "updates_max": record.most_updates,
        "divergence_max": record.largest_step,
        "bias_bound": bound if math.isfinite(bound) else None,
        "bias_from_divergence": gradient_bias(lipschitz, record.largest_step),
        "sigma_sgd": last.sigma_sgd,
        "sigma_stale": stale,
        "sigma_stale_over_sgd": stale / last.sigma_sgd if stale is not None and last.sigma_sgd else None,
    }
