"""All that is found of one model under one schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpipe.errors import ScheduleError, UserCodeError
from asyncpipe.tools.fit import check_code, check_model, check_training
from asyncpipe.tools.fit.examine import Asked, Examined, examine
from asyncpipe.tools.fit.findings import Finding, Severity, worst
from asyncpipe.tools.fit.subject import Subject

__all__ = ["Fit", "fit"]


@dataclass(frozen=True)
class Fit:
    """What was examined, and the findings in the order of the checks."""

    examined: Examined
    findings: Sequence[Finding]

    @property
    def severity(self) -> Severity:
        return worst(self.findings)

    @property
    def stage_options(self) -> Sequence[str]:
        """What to ask `run` for: nothing where the schedule's own cut will do."""
        examined = self.examined
        if examined.asked.stages is None and examined.can_be_cut_so:
            return ()
        return examined.proposals[-1].option if examined.proposals else ("--stages", "1")

    @property
    def exit_code(self) -> int:
        """0: it trains, maybe with warnings; 5: the user's code raised; 3: it does not train so."""
        if self.examined.step.raised is not None or self.examined.evaluation is not None:
            return UserCodeError.exit_code
        return ScheduleError.exit_code if self.severity == "fail" else 0


def fit(subject: Subject, asked: Asked) -> Fit:
    """Examines the model, whose modules move into arenas meanwhile; their values stay. UserCodeError where it raises
    in its first forward, UsageError or ScheduleError for a schedule that it cannot be cut for."""
    found = examine(subject, asked)
    checks = (*check_model.CHECKS, *check_code.CHECKS, *check_training.CHECKS)
    return Fit(found, [finding for check in checks for finding in check(found)])
