"""Which candidates are planned, and which of them are worth a measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from asyncpipe.schedule import Schedule
from asyncpipe.tools.tune.candidate import SYNCHRONOUS, Candidate, differing
from asyncpipe.tools.tune.planning import Plan, Planner, by_promise
from asyncpipe.tools.tune.profile import Profile
from asyncpipe.tools.tune.space import Space

__all__ = ["Searched", "search"]

_CUT_FROM = 6
"""So many of the best settings at the file's own cut are planned with other cuts."""
_SHARES = (0.25, 1 / 3, 0.5)
"""Of the multiprocessors, for the group of forwards."""
_GRAIN = 8
"""Multiprocessors are reserved by eights (CUDA, green contexts on Hopper)."""


@dataclass(frozen=True)
class Searched:
    """All plans, and those to measure: the file's own setting, the synchronous ones, and the most promising others."""

    own: Plan
    synchronous: tuple[Plan, ...]
    others: tuple[Plan, ...]
    planned: tuple[Plan, ...]
    """Everything that was planned, own and synchronous ones too."""

    @property
    def finalists(self) -> tuple[Plan, ...]:
        """The file's own is the reference, even where it is beyond a limit."""
        return (self.own, *(plan for plan in (*self.synchronous, *self.others) if not plan.rejected))

    @property
    def rejected(self) -> tuple[Plan, ...]:
        return tuple(plan for plan in self.planned if plan.rejected)


def search(
    own: Candidate, schedule: Schedule, space: Space, values: dict[str, str], planner: Planner, best: int, sms: int = 0
) -> Searched:
    """`values`: what the file has for the keys of the space. `best`: how many others are measured. sms: of the GPU."""
    first = planner.plan(own)
    known = {first.means}
    synchronous = _new(map(planner.plan, _synchronous(own, schedule, space)), known)
    flat = _new(map(planner.plan, differing(_flat(own, space, values), [own])), known)
    cut = _new(map(planner.plan, differing(_cut(own, [first, *flat], space, planner.profile))), known)
    # On one worker nothing overlaps: there no streams are faster than the synchronous one.
    others = _varied([plan for plan in by_promise([*flat, *cut]) if plan.workers > 1], best)
    more = _new(map(planner.plan, differing(_unplanned(first, others, space, schedule, sms))), known)
    return Searched(
        first,
        tuple(by_promise(synchronous) or synchronous),
        (*others, *(plan for plan in more if not plan.rejected)),
        (first, *synchronous, *flat, *cut, *more),
    )


def _new(plans: Iterable[Plan], known: set[Hashable]) -> list[Plan]:
    """Those that are rejected, or run what none of the known ones runs."""
    found = []
    for plan in plans:
        if plan.rejected or plan.means not in known:
            found.append(plan)
            known.add(plan.means)
    return found


def _synchronous(own: Candidate, schedule: Schedule, space: Space) -> Iterator[Candidate]:
    """On one stage, where nothing is handed over, with each number of threads; updates are as often as in the file."""
    every = schedule.update.every
    settings = (("stages", "1"), *((("update.every", str(every)),) if every > 1 else ()))
    plain = Candidate(SYNCHRONOUS, settings, own.threads, own.period, is_synchronous=True)
    yield from (replace(plain, threads=count) for count in _threads(own, space))


def _threads(own: Candidate, space: Space) -> list[int | None]:
    return [*map(int, space.threads)] or [own.threads]


def _flat(own: Candidate, space: Space, values: dict[str, str]) -> Iterator[Candidate]:
    """All settings at the file's own cut."""
    for settings in space.settings(values):
        yield from (replace(own, settings=settings, threads=count) for count in _threads(own, space))


def _cut(own: Candidate, plans: Sequence[Plan], space: Space, profile: Profile) -> Iterator[Candidate]:
    """The most promising ones, and the file's own, with every other cut, by operation counts and by measured times."""
    chosen = [own, *(plan.candidate for plan in by_promise(plans)[:_CUT_FROM])]
    for candidate in dict.fromkeys(chosen):
        for cut in space.stages:
            yield candidate.with_settings([("stages", cut)])
            balanced = profile.balanced(int(cut), candidate.threads or profile.threads) if cut.isdecimal() else None
            if balanced is not None:
                yield candidate.with_settings([("stages", _named(balanced))])


def _named(cut: Sequence[range]) -> str:
    """As a schedule states the layers of each stage."""
    stages = (f"{{name: stage{i}, layers: {part[0]}-{part[-1]}}}" for i, part in enumerate(cut))
    return f"[{', '.join(stages)}]"


def _varied(plans: Sequence[Plan], most: int) -> list[Plan]:
    """The first ones that differ in more than their depth, and no counts more than twice."""
    found: list[Plan] = []
    seen: Counter[tuple[object, ...]] = Counter()
    for plan in plans:
        counts = (plan.counts, plan.candidate.threads, plan.candidate.unseen)
        whole = (*counts, plan.stages)
        if len(found) < most and not seen[whole] and seen[counts] < 2:
            found.append(plan)
            seen.update([counts, whole])
    return found


def _unplanned(own: Plan, others: Sequence[Plan], space: Space, schedule: Schedule, sms: int) -> Iterator[Candidate]:
    """What no plan tells, tried on the most promising setting: the length of a graph, and shares of the GPU."""
    base = max([own, *others], key=lambda plan: plan.speed or 0).candidate
    yield from (replace(base, period=int(period)) for period in space.period if int(period) != (base.period or 8))
    if sms and len(schedule.streams) == 2 and not any(group.sms for group in schedule.streams):
        yield from (base.with_settings(settings) for settings in _shares(own, schedule, sms))


def _shares(own: Plan, schedule: Schedule, sms: int) -> Iterator[list[tuple[str, str]]]:
    first, second = (group.name for group in schedule.streams)
    counts = [int(count) for count in own.counts.split(":")]
    for share in _SHARES:
        each = max(_GRAIN, int(sms * share) // counts[0] // _GRAIN * _GRAIN)
        rest = (sms - each * counts[0]) // counts[1] // _GRAIN * _GRAIN
        if rest:
            yield [(f"streams.{first}.sms", str(each)), (f"streams.{second}.sms", str(rest))]
