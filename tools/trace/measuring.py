"""Trains a schedule under a stopwatch for as long as a trace shows."""

from __future__ import annotations

from dataclasses import replace

from asyncpipe.errors import UsageError
from asyncpipe.runtime.backends import BACKENDS
from asyncpipe.runtime.stopwatch import Stopwatch
from asyncpipe.tools.profile.session import ProfileRequest, Profiling
from asyncpipe.tools.trace.measured import MeasuredRun, Steps, default_steps

__all__ = ["measure_run"]

_MOST_MICROBATCHES = 100_000
"""Of all replicas: some hundreds of megabytes of trace, which no viewer shows."""


def measure_run(request: ProfileRequest, steps: Steps | None) -> tuple[MeasuredRun, Steps]:
    """Warms up, trains as many updates as `steps` asks for, and until these have left the pipeline.

    UsageError, MachineError or UserCodeError for what fails.
    """
    own = Profiling(replace(request, schedule=replace(request.schedule, phases=())))
    program = own.compiled.program()
    shown = steps or default_steps(program)
    drain = -(-(program.start + program.step) // program.every)
    microbatches = (shown.after + drain) * program.every * own.replicas
    if microbatches > _MOST_MICROBATCHES:
        message = f"--steps {shown}: {microbatches:,} microbatches would be timed, at most {_MOST_MICROBATCHES:,} are"
        raise UsageError(message, "use earlier ones")
    own.warm_up()
    stopwatch = own.trainer.stopwatch = Stopwatch()
    report = own.trainer.fit(own.batches, microbatches)
    run = stopwatch.runs[-1]
    if not run.actions:
        raise UsageError(f"on {own.backend} actions are not timed", f"use --backend {' or '.join(BACKENDS)}")
    return MeasuredRun(run, request.spec.name, own.backend, report.losses), shown
