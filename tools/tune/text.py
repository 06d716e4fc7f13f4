"""The result for people: a table of what was measured, what was rejected, and the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asyncpipe.tools.tune.command import command_of
from asyncpipe.tools.tune.objective import Objective
from asyncpipe.tools.tune.planning import Plan
from asyncpipe.tools.tune.rounds import Contender
from asyncpipe.tools.tune.statistics import Interval, ratio_of
from asyncpipe.tools.tune.tune import Tuning
from asyncpipe.tools.tune.verdict import standing

__all__ = ["lines_of", "warnings_of"]

_MOST_REJECTED = 5
_BUSY = 0.1
"""Of a core: so much of every machine is taken by something."""
_COARSE = 0.05


def lines_of(tuning: Tuning, objective: Objective, job: str, asked: Sequence[str], options: Sequence[str]) -> list[str]:
    """`options` are those of the command line that a run needs too, as words."""
    verdict, searched = tuning.verdict, tuning.searched
    counts = f"{len(searched.planned)} settings planned, {len(tuning.contenders)} measured"
    base = tuning.trials.base
    where = base.backend if base.backend != "threads" else f"threads, {tuning.profile.cores} cores"
    lines = [f"{tuning.schedule.name} on {job}, {where}: {counts}; {objective.unit}"]
    lines += _table(tuning, objective)
    failed = [contender for contender in tuning.contenders if contender.failure is not None]
    lines += [f"failed: {one.plan.candidate.words}: {standing(one, verdict)}" for one in failed]
    lines += _rejected(searched.rejected)
    lines.append(f"best: {verdict.answer}")
    command = command_of(tuning, verdict.best, asked, options)
    return [*lines, f"to run it: {command}"]


def _table(tuning: Tuning, objective: Objective) -> list[str]:
    """Fastest first; what failed has no row."""
    own = tuning.verdict.own
    on_cpu = own.plan.candidate.threads is not None
    head = ["setting", "threads" if on_cpu else "period", "streams", "stages", "staleness", "planned", "measured"]
    rows = [[*head, "95 % interval", "verdict"]]
    able = [contender for contender in tuning.contenders if contender.failure is None]
    for contender in sorted(able, key=lambda one: -one.speed.value if one.speed else 0.0):
        candidate, plan = contender.plan.candidate, contender.plan
        run = candidate.threads if on_cpu else candidate.period
        fixed = [candidate.title, run or "-", plan.counts, plan.stages, plan.staleness]
        rows.append([*map(str, fixed), *_numbers(contender, objective), standing(contender, tuning.verdict)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_aligned(row, widths)).rstrip() for row in rows]


def _numbers(contender: Contender, objective: Objective) -> list[str]:
    planned = contender.plan.speed if objective.target is None else None
    shown = [objective.text(planned) if planned else "-"]
    if contender.speed is None:
        return [*shown, "-", "-"]
    found = objective.shown(contender.speed)
    return [*shown, objective.text(found.value), _interval(found, objective)]


def _interval(found: Interval, objective: Objective) -> str:
    if found.low is None or found.high is None:
        return "-"
    return f"{objective.text(found.low)} to {objective.text(found.high)}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Numbers to the right, words to the left."""
    last = len(row) - 1
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if i in (0, last) else cell.rjust(width)


def _rejected(plans: Sequence[Plan]) -> Iterator[str]:
    for plan in plans[:_MOST_REJECTED]:
        yield f"rejected: {plan.candidate.words}: {plan.rejected}"
    if len(plans) > _MOST_REJECTED:
        yield f"rejected: {len(plans) - _MOST_REJECTED} more, which --json lists"


def warnings_of(tuning: Tuning) -> Iterator[str]:
    """What makes the measurements less sure."""
    known = [tuning.profile.others, *(contender.others for contender in tuning.contenders)]
    busy = max((others for others in known if others is not None), default=0.0)
    if busy > _BUSY:
        used = f"{busy:.1f} of {tuning.profile.cores} cores"
        yield f"other processes used up to {used} meanwhile: repeat on a quiet machine"
    shared = max((result.get("other_processes") or 0 for c in tuning.contenders for result in c.results), default=0)
    if shared:
        yield f"{shared} other processes computed on the GPU meanwhile: repeat without them"
    throttled = sum(result.get("throttled") or 0 for c in tuning.contenders for result in c.results)
    if throttled:
        yield f"{throttled} windows were dropped, as the GPU was throttled in them"
    coarse = _widest(tuning)
    if coarse > _COARSE:
        yield f"differences below {100 * coarse:.0f} % cannot be told here; more --repeats tell smaller ones"
    if tuning.profile.alone and not tuning.profile.knows_layers:
        yield "the model cannot be cut at every layer, so that other cuts were not planned"


def _widest(tuning: Tuning) -> float:
    """Half the widest interval of those that tie with the best."""
    best, halves = tuning.verdict.best, [0.0]
    for contender in tuning.contenders:
        ratio = ratio_of(contender.rounds, best.rounds)
        if contender is not best and ratio is not None and ratio.holds(1.0) and ratio.low and ratio.high:
            halves.append((ratio.high - ratio.low) / 2)
    return max(halves)
