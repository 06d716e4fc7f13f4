"""`lr: {auto: x}`: of a learning rate that is right without staleness, the part that each stage's staleness leaves.

The factor of a stage is min(1, share): if plain SGD without staleness is stable at lr / (1 - momentum) on a quadratic,
then so is the stage at factor * lr, see `asyncpipe.analysis.stability`. Other rules: lr / staleness^p (PipeMare, arXiv
1910.05124), which a schedule states as `lr_over_staleness`; lr / staleness of each gradient (arXiv 1511.05950).
"""

from __future__ import annotations

from asyncpipe.compiler import Compiled
from asyncpipe.errors import UsageError
from asyncpipe.runtime.optimizer_options import OPTIONS, read_options
from asyncpipe.runtime.optimizers import OptimizerSpec
from asyncpipe.verify.job_rate import NO_COPIES, refused_auto
from asyncpipe.verify.stable_rate import ADAPTIVE, stable_rates, step_rule

__all__ = ["lr_factors"]


def lr_factors(compiled: Compiled, spec: OptimizerSpec) -> tuple[float, ...]:
    """Per stage, by the planned staleness; all 1 unless `spec.auto`. UsageError for an optimizer of unknown limits."""
    if not spec.auto:
        return (1.0,) * compiled.stages
    known = isinstance(spec.use, str) and spec.use in OPTIONS
    rule = step_rule(spec.use, read_options(str(spec.use), spec.options)) if known else None
    if rule is None:
        raise UsageError(*refused_auto(spec.use))
    factors = tuple(rate.factor for rate in stable_rates(compiled, rule, spec.use in ADAPTIVE))
    if 0 in factors:
        raise UsageError(f"lr: auto: stage {factors.index(0)} is stable at no lr as planned", NO_COPIES)
    return factors
