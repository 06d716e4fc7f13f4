"""What only a process of its own shows: what it imports, a closed pipe, a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "numpy", "rich", "triton", "pynvml"}
LISTING = """
import sys
from asyncpipe.cli import main
sys.argv = ["asyncpipe", *sys.argv[1:]]
try:
    main()
except SystemExit as leaving:
    code = leaving.code
print(code, *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["check", "--help"],
        ["check", "async-lu", "hogwild", "--job", "fashion-mnist", "--stages", "3", "--microbatches", "9"],
        ["check", "async-lu", "--json"],
        ["show", "async-lu", "--color"],
        ["show", "async-lu", "--level", "L2", "--microbatches", "9", "--json"],
        ["schedules"],
    ],
    ids=" ".join,
)
def test_answer_needs_no_heavy_library(arguments: list[str]) -> None:
    command = [sys.executable, "-c", LISTING, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code, *modules = done.stderr.split()
    assert code == "0"
    assert "asyncpipe" in modules
    assert HEAVY & set(modules) == set()
    assert done.stdout


def test_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "asyncpipe", "show", "async-lu", "--microbatches", "500", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(20) == b'{"schema": "asyncpip'
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_invalid_file_ends_the_process_with_3(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("asyncpipe: 1\n")
    command = [sys.executable, "-m", "asyncpipe", "check", str(tmp_path / "mine.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == f"{tmp_path}/mine.yaml: invalid, 1 error\n"
    assert done.stderr.startswith(f"{tmp_path}/mine.yaml:1:1: error[AP106]: ")


def on_a_terminal(environment: dict[str, str], *arguments: str) -> str:
    """What the command writes to a terminal."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "asyncpipe", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=follower, env={**os.environ, **environment}) as process:
        os.close(follower)
        text = b""
        try:
            while block := os.read(leader, 65536):
                text += block
        except OSError:  # how Linux tells that the other end is closed
            pass
        os.close(leader)
        assert process.wait() == 0
    return text.decode()


def test_terminal_gets_colours_unless_no_color_is_set() -> None:
    arguments = ["show", "sgd", "--stages", "2", "--microbatches", "2"]
    assert "\x1b[30;46m0F0" in on_a_terminal({"NO_COLOR": ""}, *arguments)
    assert "\x1b" not in on_a_terminal({"NO_COLOR": "1"}, *arguments)
    assert "\x1b[30;46m0F0" in on_a_terminal({"NO_COLOR": "1"}, *arguments, "--color")
