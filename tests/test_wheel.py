"""The wheel holds everything and nothing else, and works away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "asyncpipe", "kernels", "tools", "schedules"]
DATA_SUFFIXES = {".yaml", ".gz", ".py", ".md", ".html", ".css", ".js"}


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done  # type: ignore[no-any-return]


def copy_sources(target: Path) -> None:
    """Build from a copy: setuptools writes into its folder, and another worker may build too."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, target / name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    copy_sources(source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source)
    (built,) = out.glob("asyncpipe-*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel)
    return target


def shipped_files() -> set[str]:
    """Name every module and data file of the package as the wheel should, links followed."""
    walked = os.walk(ROOT / "asyncpipe", followlinks=True)
    paths = (Path(folder, file) for folder, _, files in walked for file in files)
    return {p.relative_to(ROOT).as_posix() for p in paths if p.suffix in DATA_SUFFIXES}


def test_every_module_and_data_file_is_in_the_wheel(contents: set[str]) -> None:
    assert shipped_files() - contents == set()
    assert "asyncpipe/py.typed" in contents


def test_nothing_but_the_package_is_in_the_wheel(contents: set[str]) -> None:
    assert {PurePosixPath(name).parts[0] for name in contents} == {"asyncpipe"}
    assert [name for name in contents if "tests" in PurePosixPath(name).parts] == []


def test_installed_package_checks_its_own_schedule(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    schedule = installed / "asyncpipe" / "schedules" / "async-lu.yaml"
    where = run(sys.executable, "-c", "import asyncpipe; print(asyncpipe.__file__)", cwd=tmp_path, env=environment)
    assert where.stdout.strip() == str(installed / "asyncpipe" / "__init__.py")
    run(sys.executable, "-m", "asyncpipe", "check", schedule, cwd=tmp_path, env=environment)
