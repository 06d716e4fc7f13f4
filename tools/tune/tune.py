"""A tuning from its files to its verdict: one profile, plans of all settings, rounds of the best few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from asyncpipe.errors import (
    AsyncpipeError,
    HangError,
    InternalError,
    MachineError,
    NumericalError,
    OutOfMemoryError,
    UsageError,
    UserCodeError,
    UserError,
)
from asyncpipe.schedule import Costs, Schedule
from asyncpipe.tools.tune.candidate import Candidate
from asyncpipe.tools.tune.planning import Limits, Planner
from asyncpipe.tools.tune.profile import Profile, read_profile
from asyncpipe.tools.tune.request import Request
from asyncpipe.tools.tune.rounds import Contender, measure_rounds
from asyncpipe.tools.tune.search import Searched, search
from asyncpipe.tools.tune.space import Machine, Space, Values, default_space, narrowed, own_values, powers, states_ratio
from asyncpipe.tools.tune.trials import Trials
from asyncpipe.tools.tune.verdict import Verdict, decide

__all__ = ["Asked", "Tuning", "is_cuda", "tune"]

BUG = 1
_ERRORS: dict[int | None, type[UserError]] = {
    2: UsageError,
    4: MachineError,
    5: UserCodeError,
    6: NumericalError,
    8: OutOfMemoryError,
    None: HangError,
}


@dataclass(frozen=True)
class Asked:
    """What to search and how long: `best` settings besides the file's own and the synchronous, `repeats` rounds."""

    spaces: dict[str, Values]
    limits: Limits
    best: int = 4
    repeats: int = 5
    cores: int = 1
    costs: Costs | None = None
    """Of a profile that was measured before; then other cuts and threads are not planned."""


@dataclass(frozen=True)
class Tuning:
    schedule: Schedule
    profile: Profile
    searched: Searched
    contenders: tuple[Contender, ...]
    verdict: Verdict
    trials: Trials


def tune(schedule: Schedule, trials: Trials, asked: Asked, say: Callable[[str], None]) -> Tuning:
    """The verdict. An error of the kind of its failure where the file's own setting cannot be run at all."""
    base = trials.base
    say("profile: the file's own setting" + ("" if asked.costs else ", and each layer alone"))
    profile = read_profile(_or_raise(trials.costs(_thread_counts(base, asked))))
    if asked.costs is not None:
        profile = profile.at(asked.costs)
    own = Candidate(base.schedule, (), None if is_cuda(base) else profile.threads, base.period)
    is_ratio = states_ratio(schedule, base.overrides)
    space = _space(schedule, profile, base, asked, is_ratio)
    planner = Planner(profile, asked.limits, base.overrides, base.stages)
    searched = search(
        own, schedule, space, own_values(schedule, is_ratio), planner, asked.best, profile.multiprocessors
    )
    contenders = tuple(map(Contender, searched.finalists))
    say(f"{len(searched.planned)} settings planned, {len(searched.rejected)} rejected, {len(contenders)} to measure")
    measure_rounds(contenders, trials, asked.repeats, say)
    verdict = decide(contenders, own)
    if verdict is None:
        failure = next((c.failure for c in contenders if c.failure), _NOTHING_COUNTS)
        raise _error(failure, "no setting within the limits could be measured")
    return Tuning(schedule, profile, searched, contenders, verdict, trials)


_NOTHING_COUNTS = {"failed": "not measured", "exit_code": 2, "reason": "the GPU was throttled in every window"}


def is_cuda(request: Request) -> bool:
    return request.backend in ("streams", "graph")


def _thread_counts(base: Request, asked: Asked) -> tuple[int, ...]:
    """With how many intra-op threads the layers are timed."""
    if asked.costs is not None:
        return ()
    return (1,) if is_cuda(base) else tuple(map(int, asked.spaces.get("threads", powers(asked.cores))))


def _space(schedule: Schedule, profile: Profile, base: Request, asked: Asked, is_ratio: bool) -> Space:
    """The default one for this machine and model, with what `--space` says instead."""
    machine = Machine(asked.cores, is_cuda(base), base.backend == "graph")
    space = default_space(schedule, machine, len(profile.layers), is_ratio)
    if base.stages is not None or not profile.knows_layers:
        space = replace(space, stages=())
    if asked.costs is not None:
        space = replace(space, threads=())
    return narrowed(space, asked.spaces)


def _or_raise(result: dict[str, Any]) -> dict[str, Any]:
    if "failed" in result:
        raise _error(result, "the file's own setting cannot be measured")
    return result


def _error(failure: dict[str, Any], what: str) -> AsyncpipeError:
    """Of the kind that a run of this setting would have ended with."""
    code = failure["exit_code"]
    message = f"{what}: {failure['failed']}: {failure['reason']}"
    if code == BUG:
        return InternalError(message)
    hint = "`asyncpipe run` with the same options shows more"
    if code is None:
        hint = "allow a trial more with --timeout, or find out with `asyncpipe run` where it hangs"
    is_killed = code is not None and code < 0
    return (MachineError if is_killed else _ERRORS.get(code, UsageError))(message, hint)
