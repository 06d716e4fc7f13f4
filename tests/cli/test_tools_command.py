"""The group `asyncpipe tools`: its help, its suggestions, and that it starts without torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import invoke

TOOLS = ["doctor", "fit", "profile", "tune", "bench", "compare", "watch", "trace", "report"]
ROOT = Path(__file__).parents[2]


def test_help_lists_the_tools() -> None:
    outcome = invoke("tools", "--help")
    assert (outcome.code, outcome.stderr) == (0, "")
    listed = outcome.stdout.partition("Commands:\n")[2]
    assert re.findall(r"^  (\S+)", listed, re.MULTILINE) == TOOLS


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_has_help(tool: str) -> None:
    outcome = invoke("tools", tool, "-h")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith(f"Usage: asyncpipe tools {tool} ")
    assert "--json" in outcome.stdout


def test_unknown_tool_gets_a_suggestion() -> None:
    outcome = invoke("tools", "compere")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.endswith("Error: no command 'compere'; did you mean 'compare'?\n")


def test_reading_runs_needs_no_torch() -> None:
    modules = "asyncpipe.cli.tools_report, asyncpipe.cli.tools_compare, asyncpipe.tools.report.page"
    modules += ", asyncpipe.tools.report.timelines, asyncpipe.tools.compare.verdict"
    code = f"import sys, {modules}; print(*sorted({{'torch', 'numpy', 'PIL'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
