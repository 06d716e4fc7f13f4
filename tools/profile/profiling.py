"""One profile from start to folder: what `asyncpipe tools profile` does once its files are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from asyncpipe.runtime.backends import resolve_backend
from asyncpipe.schedule import Schedule
from asyncpipe.tools.profile.efficiency import efficiency, stopwatch_seconds
from asyncpipe.tools.profile.files import PROFILE_NAME, write_timeline
from asyncpipe.tools.profile.profile import examine
from asyncpipe.tools.profile.report import ProfileReport, Setting, document
from asyncpipe.tools.profile.session import ProfileRequest, Session, measure
from asyncpipe.training.directory import RunDirectory

__all__ = ["profile_job", "report_on"]


def profile_job(request: ProfileRequest, out: str | None, environment: dict[str, object]) -> tuple[ProfileReport, Path]:
    """Trains, works out what it shows, and writes the folder. Raises what `run` would."""
    session = measure(request)
    report = report_on(session)
    with RunDirectory(out, f"profile-{request.schedule.name}") as directory:
        spec = replace(request.spec, train=replace(request.spec.train, seed=report.setting.seed))
        directory.write_inputs(_cut(session), spec, environment)
        program = session.run.program
        write_timeline(directory.path, program, session.run.actions)
        (directory.path / PROFILE_NAME).write_text(json.dumps(document(report), indent=1) + "\n", encoding="utf-8")
        return report, directory.path


def report_on(session: Session) -> ProfileReport:
    """What a session shows, with what this machine could do at best."""
    request = session.request
    profile = examine(session.run, session.workers, session.compiled, session.alone, session.staleness)
    backend = resolve_backend(request.backend)
    seed = request.spec.train.seed if request.seed is None else request.seed
    setting = Setting(
        session.compiled.schedule.name,
        request.spec.name,
        backend,
        "cuda:0" if session.gpu else "cpu",
        seed,
        session.batch,
        session.intra_op_threads,
        session.warm_microbatches,
    )
    unavailable = {} if session.gpu else {"gpu": f"{backend} runs on the CPU"}
    found = None
    if session.forward_flops:
        found = efficiency(session.forward_flops, session.run.program.replicas / profile.period, setting.device)
    else:
        unavailable["mfu"] = "torch's counter knows none of the model's operations"
    clock = session.run.clock
    cost = stopwatch_seconds() if clock is None else 2 * clock.stamp
    return ProfileReport(setting, profile, found, cost, session.gpu, unavailable)


def _cut(session: Session) -> Schedule:
    """The schedule with the number of stages that the model was cut into, unless it names the layers of each."""
    schedule = session.request.schedule
    named = isinstance(schedule.stages, tuple) and session.request.stages is None
    return schedule if named else replace(schedule, stages=session.compiled.stages)
