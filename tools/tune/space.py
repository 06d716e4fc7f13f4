"""Which settings are worth planning: counts of streams, depth, cut, threads, by default or as `--space` says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from asyncpipe.errors import Report, UsageError
from asyncpipe.schedule import Schedule, read_schedule
from asyncpipe.schedule.expression import Number

__all__ = [
    "Machine",
    "Space",
    "Values",
    "default_space",
    "narrowed",
    "own_values",
    "powers",
    "read_spaces",
    "states_ratio",
]

Values = tuple[str, ...]
_RUN_KEYS = ("threads", "period")
"""What is no key of the schedule: intra-op threads, and microbatches of one graph."""
_MOST_STREAMS = 8
_MOST_VALUES = 64
_HINT = "as in --space streams.backward.count=1..4, --space in_flight=2,3,4 or --space threads=1,2"
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_PERIODS = ("8", "16", "32")


@dataclass(frozen=True)
class Machine:
    """What the default space depends on."""

    cores: int
    is_cuda: bool = False
    is_graph: bool = False


@dataclass(frozen=True)
class Space:
    """`axes`: per key of the schedule its values; `stages`, `threads` and `period` stand beside them.

    limit: streams of all counted groups together. in_flight None: around the number of streams, where the file has one.
    """

    counts: Mapping[str, Values]
    in_flight: Values | None
    others: Mapping[str, Values]
    stages: Values
    threads: Values
    period: Values
    limit: int | None

    def settings(self, own: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], ...]]:
        """Each combination of all but stages, threads and period; without the values that are the file's own."""
        for counts in self._counts():
            for depth in self._depths(counts, own):
                for values in product(*self.others.values()):
                    found = {**counts, **depth, **dict(zip(self.others, values, strict=True))}
                    yield tuple((key, value) for key, value in found.items() if own.get(key) != value)

    def _counts(self) -> Iterator[dict[str, str]]:
        for values in product(*self.counts.values()):
            if self.limit is None or sum(_parts(values)) <= self.limit:
                yield dict(zip(self.counts, values, strict=True))

    def _depths(self, counts: Mapping[str, str], own: Mapping[str, str]) -> Iterator[dict[str, str]]:
        if self.in_flight is not None:
            yield from ({"in_flight": value} for value in self.in_flight)
        elif "in_flight" not in own:
            yield {}
        else:
            streams = sum(_parts(list(counts.values())))
            near = [streams, streams + 1] if streams else []
            yield from ({"in_flight": value} for value in dict.fromkeys([own["in_flight"], *map(str, near)]))


def _parts(values: Sequence[str]) -> list[int]:
    """The counts in `2` and `1:2`."""
    return [int(part) for value in values for part in value.split(":")]


def states_ratio(schedule: Schedule, overrides: Sequence[str]) -> bool:
    """Whether the file states all counts in one line; then it takes no count of a group, even one that it has."""
    counted = [group for group in schedule.streams if not group.per]
    if schedule.ratio or not counted:
        return bool(schedule.ratio)
    report = Report()
    read_schedule(schedule.file, report, (*overrides, f"streams.{counted[0].name}.count={counted[0].count}"))
    return report.has_errors


def own_values(schedule: Schedule, is_ratio: bool) -> dict[str, str]:
    """What the file has for the keys that may be searched."""
    found = {"stages": str(schedule.stages)} if isinstance(schedule.stages, int | str) else {}
    if isinstance(schedule.in_flight, Number):
        found["in_flight"] = str(schedule.in_flight)
    if is_ratio:
        counts = ":".join(str(group.count) for group in schedule.streams)
        return {**found, "streams.ratio": schedule.ratio or counts}
    return {**found, **{f"streams.{g.name}.count": str(g.count) for g in schedule.streams if not g.per}}


def default_space(schedule: Schedule, machine: Machine, layers: int, is_ratio: bool) -> Space:
    """Counts of all greedy groups that have one, three depths, some cuts, and powers of two of threads."""
    counted = [g for g in schedule.streams if not g.per and not g.table and not g.body]
    total = sum(g.count for g in counted)
    limit = max(total + 1, _MOST_STREAMS if machine.is_cuda else min(machine.cores + 1, _MOST_STREAMS))
    each = tuple(str(n) for n in range(1, limit - len(counted) + 2))
    counts: dict[str, Values] = {}
    if not counted or _counts_are_the_algorithm(schedule):
        pass
    elif is_ratio:
        whole = product(range(1, len(each) + 1), repeat=len(schedule.streams))
        counts["streams.ratio"] = tuple(":".join(map(str, ratio)) for ratio in whole if sum(ratio) <= limit)
    else:
        counts = {f"streams.{g.name}.count": each for g in counted}
    threads = () if machine.is_cuda else powers(machine.cores)
    return Space(counts, None, {}, _cuts(schedule, layers), threads, _PERIODS if machine.is_graph else (), limit)


def _counts_are_the_algorithm(schedule: Schedule) -> bool:
    """One stream for all is synchronous; workers with blocks of their own do less where there are more of them."""
    one_stream = len(schedule.streams) == 1 and schedule.streams[0].count == 1
    return one_stream or schedule.update.scope != "all"


def powers(cores: int) -> Values:
    """1, 2, 4, ... and all cores."""
    found = [1]
    while found[-1] * 2 <= cores:
        found.append(found[-1] * 2)
    return tuple(map(str, dict.fromkeys([*found, cores])))


def _cuts(schedule: Schedule, layers: int) -> Values:
    """None where the author named the layers of each stage."""
    if isinstance(schedule.stages, tuple):
        return ()
    some = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if n < layers]
    return tuple(map(str, [*some, layers]))


def read_spaces(texts: Sequence[str]) -> dict[str, Values]:
    """`streams.backward.count=1..4` and `in_flight=2,3` by key; UsageError for anything else."""
    return dict(map(_read_space, texts))


def _read_space(text: str) -> tuple[str, Values]:
    key, equals, values = text.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key) or not values:
        raise UsageError(f"--space {text!r}: expected a key, =, and values", _HINT)
    span = _RANGE.fullmatch(values)
    found = tuple(map(str, range(int(span[1]), int(span[2]) + 1))) if span else tuple(values.split(","))
    if not found or not all(found) or len(found) > _MOST_VALUES:
        raise UsageError(f"--space {text!r}: expected 1 to {_MOST_VALUES} values, found {len(found)}", _HINT)
    _check_value(text, key, found)
    return key, found


def _check_value(text: str, key: str, values: Values) -> None:
    is_whole = key in _RUN_KEYS or key.endswith((".count", ".sms"))
    pattern = r"[1-9]\d*" if is_whole else r"[1-9]\d*(:[1-9]\d*)+" if key == "streams.ratio" else ".+"
    wrong = next((value for value in values if not re.fullmatch(pattern, value)), None)
    if wrong is not None:
        expected = "a whole number of at least 1" if is_whole else "a ratio such as 1:2"
        raise UsageError(f"--space {text!r}: expected {expected}, found {wrong!r}", _HINT)


def narrowed(space: Space, asked: Mapping[str, Values]) -> Space:
    """The space with the axes that `--space` names in the place of its own."""
    counts = {**space.counts, **{key: asked[key] for key in asked if _is_count(key)}}
    known = ("in_flight", "stages", *_RUN_KEYS)
    others = {key: values for key, values in asked.items() if key not in known and not _is_count(key)}
    return Space(
        counts,
        asked.get("in_flight", space.in_flight),
        {**space.others, **others},
        asked.get("stages", space.stages),
        asked.get("threads", space.threads),
        asked.get("period", space.period),
        None if any(map(_is_count, asked)) else space.limit,
    )


def _is_count(key: str) -> bool:
    return key == "streams.ratio" or key.endswith(".count")
