"""`asyncpipe new`: a schedule of one's own, begun from another one."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from asyncpipe.cli.options import json_option
from asyncpipe.cli.schema import SCHEMA_FILE, schedule_schema, schema_text
from asyncpipe.errors import ScheduleError, UsageError
from asyncpipe.schedule import Schedule, library, load
from asyncpipe.schedule.job import job_library
from asyncpipe.schedule.source import Report, read_file
from asyncpipe.schedule.template import EDITOR_LINE, begin_from

__all__ = ["Files", "command", "mover"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_DESCRIPTION = "Say here in one line what this schedule does."
_OURS = '"title": "asyncpipe schedule'


@dataclass
class Files:
    """What will be written, by path; `copied` are the files that the template names."""

    texts: dict[Path, str] = field(default_factory=dict)
    copied: list[Path] = field(default_factory=list)


@click.command("new")
@click.argument("name", metavar="NAME")
@click.option(
    "--from", "template", metavar="NAME|FILE", help="Begin from it; default: the library's NAME, else async-lu."
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Write into this folder; it is made.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@json_option
def command(name: str, template: str | None, out: Path, force: bool, as_json: bool) -> None:
    """Write NAME.yaml, a schedule begun from another one, and the schema with which editors complete it.

    The template's comments stay. Its name and description are replaced; `expect` still states its numbers.
    """
    _check_name(name)
    template = template or (name if name in library() else "async-lu")
    schedule = load(template)
    files, target = Files(), out / f"{name}.yaml"
    origin = _origin(template, schedule, out)
    files.texts[out / SCHEMA_FILE] = schema_text(schedule_schema())
    files.texts[target] = _text(schedule, name, origin, mover(Path(schedule.file).parent, out, files))
    if not force:
        _refuse_to_overwrite(files, target, out / SCHEMA_FILE)
    _write(files)
    if as_json:
        click.echo(json.dumps(_document(target, out / SCHEMA_FILE, origin, files)))
        return
    click.echo(str(target))
    click.echo(_next_steps(target, out / SCHEMA_FILE, origin, files), err=True)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        path = Path(name)
        folder = f" --out {shlex.quote(str(path.parent))}" if path.parent != Path() else ""
        better = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-")
        hint = (
            f"try `asyncpipe new {better}{folder}`; the file becomes {better}.yaml" if better else "as in my-schedule"
        )
        raise UsageError(f"expected a name of letters, digits, - and _, found {name!r}", hint)


def _origin(template: str, schedule: Schedule, out: Path) -> str:
    """The template's library name, or its path from `out`; ScheduleError where a file does not compile."""
    if library().get(template) == Path(schedule.file):
        return template
    from asyncpipe.compiler import compile_schedule

    compile_schedule(schedule)
    return Path(os.path.relpath(schedule.file, out)).as_posix()


def _text(schedule: Schedule, name: str, origin: str, moved: Callable[[str], str | None]) -> str:
    report = Report()
    text = read_file(schedule.file, report)
    if text is None:
        raise ScheduleError(report.diagnostics)
    said = f": {schedule.description}" if schedule.description not in ("", _DESCRIPTION) else ""
    comments = (f"{EDITOR_LINE}{SCHEMA_FILE}", f"# Begun from {origin}{said}")
    return begin_from(text, name, _DESCRIPTION, comments, moved)


def mover(folder: Path, out: Path, files: Files) -> Callable[[str], str | None]:
    """What to write instead of a value that names a file beside the template, so that it is found from `out`.

    A file of the library becomes its library name, or a copy: an installation may move. Others get another path.
    """
    named = {path.resolve(): name for name, path in (library() | job_library()).items()}
    ours = folder.resolve() in {path.parent for path in named}

    def moved(value: str) -> str | None:
        script = re.fullmatch(r"(.*\.py)(:\w+)", value)
        path, rest = (script[1], script[2]) if script else (value, "")
        source = folder / path
        if not (Path(path).suffix or "/" in path) or Path(path).is_absolute() or not os.path.isfile(source):
            return None
        if source.resolve() in named:
            return named[source.resolve()]
        if ours:
            files.texts[out / source.name] = source.read_text("utf-8")
            files.copied.append(out / source.name)
        relative = source.name if ours else Path(os.path.relpath(source, out)).as_posix()
        dotted = relative if relative.startswith(".") or not rest else f"./{relative}"
        return None if Path(relative) == Path(path) else dotted + rest

    return moved


def _refuse_to_overwrite(files: Files, target: Path, schema: Path) -> None:
    """An older schema, and a copy that is the same, are no loss."""
    for path, text in files.texts.items():
        there = _content(path)
        harmless = there == text if path != schema else _OURS in there[:500]
        if os.path.lexists(path) and (path == target or not harmless):
            raise UsageError(f"{path} is already there", "choose another name, or --force to overwrite it")


def _content(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _write(files: Files) -> None:
    for path, text in files.texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8", newline="")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}", "name a folder that you can write to") from None


def _document(target: Path, schema: Path, origin: str, files: Files) -> dict[str, object]:
    return {
        "schema": "asyncpipe.new/1",
        "file": str(target),
        "template": origin,
        "schema_file": str(schema),
        "copied": [str(path) for path in files.copied],
    }


def _next_steps(target: Path, schema: Path, origin: str, files: Files) -> str:
    also = "".join(f", {path}" for path in files.copied)
    file = shlex.quote(str(target))
    return (
        f"begun from {origin}{also and ' with'}{also.removeprefix(',')}; editors complete its keys with {schema}\n"
        f"next: edit it, then\n  asyncpipe check {file}\n  asyncpipe show {file}"
    )
