"""Rules for the repository itself: sizes, versions, links, and nothing that exists on one machine only."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncpipe

ROOT = Path(__file__).parents[1]
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
UNTRACKED = {".git", ".venv", "build", "dist", "runs"}
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:home|root|work|Users|opt|mnt)/\w[^\s\"']*")


def repository_files() -> Iterator[Path]:
    """Yield tracked files and those about to be; without git, all but the usual build folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split("\0") if listed.returncode == 0 else walked_files()
    paths = (ROOT / name for name in names if name)
    yield from (path for path in paths if path.is_file() and not path.is_symlink())


def walked_files() -> Iterator[str]:
    for path in ROOT.rglob("*"):
        relative = path.relative_to(ROOT)
        if not UNTRACKED & set(relative.parts) and not any("cache" in part for part in relative.parts):
            yield str(relative)


def python_sources() -> Iterator[tuple[str, str]]:
    for path in repository_files():
        if path.suffix == ".py":
            yield str(path.relative_to(ROOT)), path.read_text()


def long_functions(source: str, most: int) -> Iterator[tuple[int, str, int]]:
    """Yield line, name and length of each function that is longer than `most` lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > most:
                yield node.lineno, node.name, lines


def test_no_source_file_is_too_long() -> None:
    sizes = {name: len(source.splitlines()) for name, source in python_sources()}
    assert len(sizes) > 10
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES_OF_A_FILE} == {}


def test_no_function_is_too_long() -> None:
    found = [
        f"{name}:{line}: {function} has {lines} lines"
        for name, source in python_sources()
        for line, function, lines in long_functions(source, MOST_LINES_OF_A_FUNCTION)
    ]
    assert "\n".join(found) == ""


def test_long_functions_are_measured_from_def_to_end() -> None:
    source = "class A:\n    @staticmethod\n    def f():\n        x = 1\n\n        return x\n\ndef g(): pass\n"
    assert list(long_functions(source, 3)) == [(3, "f", 4)]
    assert list(long_functions(source, 4)) == []


def is_text(path: Path) -> bool:
    return b"\0" not in path.read_bytes()[:4096]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in repository_files()
        if is_text(path)
        for match in MACHINE_PATH.finditer(path.read_text())
    ]
    assert "\n".join(found) == ""


@pytest.mark.parametrize("text", ["see /{}/someone/file", "'/{}/x'", "a=/{}/b"])
@pytest.mark.parametrize("folder", ["home", "root"])
def test_machine_paths_are_recognised(text: str, folder: str) -> None:
    assert MACHINE_PATH.search(text.format(folder))


@pytest.mark.parametrize("text", ["https://example.org/home/page", "./home/x", "~/root/x", "home/x", "a/root/b"])
def test_other_paths_are_not_machine_paths(text: str) -> None:
    assert MACHINE_PATH.search(text) is None


def test_version_is_stated_once_and_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert asyncpipe.__version__ == version
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["kernels", "tools", "schedules"])
def test_top_level_folders_are_linked_into_the_package(name: str) -> None:
    """Relative links: they must survive a clone into another folder."""
    assert os.readlink(ROOT / "asyncpipe" / name) == f"../{name}"


def test_tested_versions_cover_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {re.split(r"[><=]", requirement)[0] for requirement in requirements} - pinned == set()
