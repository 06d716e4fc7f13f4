"""From a file, a library name or a text to a Schedule; overrides (`-o key=value`) pass the same checks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from asyncpipe.errors import Position, ScheduleError, UsageError, did_you_mean
from asyncpipe.schedule.extend import resolve_extends
from asyncpipe.schedule.format import SCHEDULE
from asyncpipe.schedule.kinds import MISSING
from asyncpipe.schedule.source import Mapping, Node, Report, Scalar, override_file, parse_text, read_file
from asyncpipe.schedule.spec import Schedule

__all__ = [
    "JOB_KEYS",
    "SCHEDULE_KEYS",
    "apply_overrides",
    "find_schedule",
    "has_keys",
    "library",
    "load",
    "load_text",
    "read_schedule",
]

JOB_KEYS = frozenset({"model", "data", "optimizer"})
SCHEDULE_KEYS = frozenset({"asyncpipe", "extends", "streams"})
"""Keys of which only a job, or only a schedule, has one: each tells the other what it was given."""
_LIBRARY = Path(__file__).resolve().parent.parent / "schedules"


def library() -> dict[str, Path]:
    """The built-in schedules by name."""
    return dict(_library())


@cache
def _library() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_LIBRARY.glob("*.yaml"), key=lambda path: path.stem)}


def find_schedule(name: str | Path) -> Path:
    """The file of a schedule given by path or by library name; a name that is neither stays a path."""
    if not isinstance(name, str | Path):
        hint = 'as in "async-lu" or "mine.yaml"'
        raise UsageError(f"schedule: expected a library name, a file or a Schedule, found {name!r}", hint)
    path = Path(name)
    if os.path.exists(path) or path.suffix or "/" in str(name):
        return path
    known = library()
    if str(name) in known:
        return known[str(name)]
    hint = did_you_mean(str(name), list(known))
    if str(name) in {path.stem for path in (_LIBRARY / "jobs").glob("*.yaml")}:
        hint = f"{str(name)!r} is a job: use `--job {name}`"
    raise UsageError(f"no schedule named {str(name)!r} in the library, and no such file", hint)


def load(name: str | Path, overrides: Sequence[str] = ()) -> Schedule:
    """Reads and validates a schedule; ScheduleError carries every finding with its place."""
    report = Report()
    schedule = read_schedule(name, report, overrides)
    if schedule is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return schedule


def read_schedule(name: str | Path, report: Report, overrides: Sequence[str] = ()) -> Schedule | None:
    """As `load`, with the findings added to `report`."""
    path = find_schedule(name)
    text = read_file(path, report)
    return None if text is None else load_text(text, str(path), report, overrides)


def load_text(text: str, file: str, report: Report, overrides: Sequence[str] = ()) -> Schedule | None:
    """Validates a schedule's text; None if that failed, with the findings in `report`."""
    parsed = parse_text(text, file, report)
    if parsed is None or _refuse_job(parsed, file, report):
        return None
    node = resolve_extends(parsed, file, library(), report)
    if node is None:
        return None
    node = apply_overrides(node, overrides, report)
    schedule = SCHEDULE.read(node, report)
    if schedule is MISSING:
        return None
    assert isinstance(schedule, Schedule)
    changed = [key for key in overrides if not key.startswith("job.")]
    if changed and not any(key.startswith("expect") for key in changed):
        schedule = replace(schedule, expect=None)  # it speaks of the file as written
    return replace(schedule, file=file, name=schedule.name or Path(file).stem)


def has_keys(node: Node, some: frozenset[str], none: frozenset[str]) -> bool:
    names = {str(name.value) for name, _ in node.items} if isinstance(node, Mapping) else set()
    return bool(names & some) and not names & none


def _refuse_job(node: Node, file: str, report: Report) -> bool:
    """One error instead of one for each key."""
    if not has_keys(node, JOB_KEYS, SCHEDULE_KEYS):
        return False
    report.error("AP105", "expected a schedule, found a job", node.where, f"this looks like a job: use `--job {file}`")
    return True


def apply_overrides(node: Node, overrides: Sequence[str], report: Report, prefix: str = "") -> Node:
    """The tree with each `dotted.key=value` set; values are YAML and are reported as `<-o key=value>`.

    An empty value, or null, removes the key: its default counts again.

    A schedule leaves those of `job.` to its job, and a job takes those with its `prefix` alone.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
            raise UsageError(f"-o {override!r}: expected key=value", "as in -o in_flight=4 or -o job.optimizer.lr=0.01")
        if key.startswith("job.") is not bool(prefix):
            continue
        file = override_file(override)
        value = parse_text(text, file, report) if text else Scalar(None, "", Position(file, 1, 1))
        if value is not None:
            node = _with(node, key.removeprefix(prefix).split("."), value, file)
    return node


def _with(node: Node, path: list[str], value: Node, file: str) -> Node:
    if not path:
        return value
    where = Position(file, 1, 1)
    here = node if isinstance(node, Mapping) else Mapping((), where)
    name = Scalar(path[0], path[0], where)
    if len(path) == 1 and isinstance(value, Scalar) and value.value is None:
        return replace(here, items=tuple((k, v) for k, v in here.items if k.value != path[0]))
    child = _with(here.get(path[0]) or Mapping((), where), path[1:], value, file)
    if here.get(path[0]) is None:
        return replace(here, items=(*here.items, (name, child)))
    return replace(here, items=tuple((k, child if k.value == path[0] else v) for k, v in here.items))
