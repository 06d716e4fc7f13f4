"""What env.json says about this machine agrees with what the machine says itself."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy
import pytest
import torch

from asyncpipe.tools import environment
from asyncpipe.tools.environment import describe_environment


@pytest.fixture
def described() -> dict[str, Any]:
    return cast("dict[str, Any]", describe_environment())


def leaves(value: object) -> Iterator[object]:
    """Yield every key and every plain value of nested JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def make_repository(folder: Path) -> str:
    """Create a repository with one committed file and return the commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (folder / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_it_survives_json(described: dict[str, Any]) -> None:
    assert json.loads(json.dumps(described)) == described


def test_keys_are_snake_case(described: dict[str, Any]) -> None:
    assert [key for key in keys(described) if not re.fullmatch(r"[a-z][a-z0-9_]*", key)] == []


def test_host_name_is_not_told(described: dict[str, Any]) -> None:
    assert platform.node() not in list(leaves(described))
    assert not {"host", "hostname", "node", "user"} & set(keys(described))


def test_versions_are_those_that_run(described: dict[str, Any]) -> None:
    assert described["python"] == platform.python_version()
    assert described["versions"]["torch"] == str(torch.__version__)
    assert described["versions"]["numpy"] == numpy.__version__


def test_threads_are_those_of_this_process(described: dict[str, Any]) -> None:
    assert described["torch"]["intra_op_threads"] == torch.get_num_threads()


def test_devices_are_those_that_torch_sees(described: dict[str, Any]) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [torch.cuda.get_device_name(i) for i in range(count)]
    assert described["cuda"]["available"] == torch.cuda.is_available()
    assert [device["name"] for device in described["cuda"]["devices"]] == names


def test_machine_is_described(described: dict[str, Any]) -> None:
    assert 1 <= described["cpu"]["usable"] <= described["cpu"]["count"] == os.cpu_count()
    assert described["memory_bytes"] > 2**28


def test_time_is_now_in_utc(described: dict[str, Any]) -> None:
    stamp = datetime.fromisoformat(described["time_utc"])
    assert stamp.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - stamp) < timedelta(minutes=1)


def test_processor_name_is_read_from_the_kernels_list(tmp_path: Path) -> None:
    (tmp_path / "x86").write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3.00GHz\nmodel name\t: second\n")
    (tmp_path / "arm").write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert environment._cpu_model(tmp_path / "x86") == "Fast CPU @ 3.00GHz"
    assert environment._cpu_model(tmp_path / "arm") == platform.machine()
    assert environment._cpu_model(tmp_path / "missing") == platform.machine()


def test_commit_and_changes_of_a_checkout_are_told(tmp_path: Path) -> None:
    commit = make_repository(tmp_path)
    assert environment._describe_checkout(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "file").write_text("two")
    assert environment._describe_checkout(tmp_path) == {"commit": commit, "dirty": True}


def test_commit_of_a_surrounding_repository_is_not_ours(tmp_path: Path) -> None:
    make_repository(tmp_path)
    (tmp_path / "site-packages").mkdir()
    assert environment._describe_checkout(tmp_path / "site-packages") is None


def test_git_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert environment._describe_checkout(tmp_path) is None


def test_importing_the_module_leaves_torch_alone() -> None:
    code = "import sys, asyncpipe.tools.environment; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_torch_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    described = describe_environment()
    assert described["torch"] is None
    assert described["cuda"] is None
