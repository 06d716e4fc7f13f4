"""The chosen setting as a change of the author's file, comments kept; or a new file that extends a library's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff
from fractions import Fraction
from pathlib import Path

from asyncpipe.compiler import Compiled, compile_instance
from asyncpipe.errors import InternalError, Report
from asyncpipe.schedule import Schedule, load
from asyncpipe.schedule.load import library, load_text
from asyncpipe.schedule.spec import Expect
from asyncpipe.tools.tune.candidate import Candidate
from asyncpipe.tools.tune.yaml_edit import has_key, with_key, without_key

__all__ = ["Patch", "make_patch", "new_file"]


@dataclass(frozen=True)
class Patch:
    """`before` is empty where the file is new."""

    file: Path
    before: str
    after: str

    @property
    def is_new(self) -> bool:
        return not self.before

    @property
    def diff(self) -> str:
        """As `git diff` and `patch` read it; empty where nothing changes."""
        old, new = (str(self.file),) * 2 if self.file.is_absolute() else (f"a/{self.file}", f"b/{self.file}")
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        lines = unified_diff(before, after, "/dev/null" if self.is_new else old, new)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def new_file(schedule: Schedule) -> Path | None:
    """Where the setting goes that was found for a schedule of the library; None for the author's own file."""
    return Path(f"{schedule.name}-tuned.yaml") if Path(schedule.file) in library().values() else None


def make_patch(schedule: Schedule, candidate: Candidate, asked: Sequence[str], remark: str) -> Patch:
    """What makes the file the setting that was chosen; `asked` are the overrides that the whole tuning was given.

    remark: a line on what was measured, for a file that is new.
    """
    settings = [*_settings(asked), *candidate.settings]
    source, new = Path(schedule.file), new_file(schedule)
    if new is not None:
        patch = _extension(schedule, new, settings, remark)
    else:
        text = source.read_text("utf-8")
        changed = _with_settings(text, settings)
        patch = Patch(source, text, _with_expectations(changed, source) if settings else text)
    _check(patch, schedule, candidate, asked)
    return patch


def _settings(asked: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in asked if not text.startswith(("job.", "job="))]
    return [(key, value) for key, _, value in pairs]


def _extension(schedule: Schedule, file: Path, settings: Sequence[tuple[str, str]], remark: str) -> Patch:
    text = f"# {remark}\nasyncpipe: 1\nname: {file.stem}\nextends: {schedule.name}\n"
    return Patch(file, "", _with_settings(text, settings))


def _with_settings(text: str, settings: Sequence[tuple[str, str]]) -> str:
    for key, value in settings:
        is_gone = not value and "." not in key and has_key(text, (key,))
        text = without_key(text, key) if is_gone else with_key(text, key.split("."), value or "null")
    return text


def _with_expectations(text: str, file: Path) -> str:
    """`expect` stated what the file was: its numbers become the new ones; where there are none, it goes."""
    report = Report()
    schedule = load_text(text, str(file), report)
    if schedule is None or schedule.expect is None:
        return text
    compiled = compile_instance(schedule, schedule.expect.stages, schedule.expect.costs, report)
    if compiled is None or report.has_errors:
        return without_key(text, "expect")
    for key, value in _expectations(compiled, schedule.expect):
        text = with_key(text, ("expect", key), value)
    return text


def _expectations(compiled: Compiled, expect: Expect) -> Iterator[tuple[str, str]]:
    """Each key that the author states, with its value now; a bound that holds stays."""
    if expect.staleness is not None:
        yield "staleness", _list(compiled.staleness.apply)
    if expect.period is not None:
        yield "period", str(compiled.period)
    if expect.max_staleness is not None and expect.max_staleness < max(compiled.staleness.max):
        yield "max_staleness", str(max(compiled.staleness.max))
    if expect.versions is not None:
        yield "versions", _list(compiled.weight_versions)


def _list(values: Iterable[Fraction | int]) -> str:
    return f"[{', '.join(map(str, values))}]"


def _check(patch: Patch, schedule: Schedule, candidate: Candidate, asked: Sequence[str]) -> None:
    """The changed text must mean what was measured."""
    report = Report()
    found = load_text(patch.after, str(patch.file), report)
    wanted = load(schedule.file, (*asked, *candidate.overrides))
    if found is None or report.has_errors or _content(found) != _content(wanted):
        raise InternalError(f"the changed text of {patch.file} does not mean {candidate.words}")


def _content(schedule: Schedule) -> Schedule:
    """Without what speaks of a file."""
    return replace(schedule, name="", description="", paper=None, expect=None)
