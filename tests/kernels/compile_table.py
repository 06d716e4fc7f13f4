"""The table of docs/kernels.md: what the assembler made of each variant for sm_90.

python -m tests.kernels.compile_table     # rewrites it; the difference is part of the change
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.kernels.sass import wide_accesses
from tests.kernels.variants import VARIANTS

__all__ = ["DOCUMENT", "documented", "row_of", "spills"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "kernels.md"
ARCHITECTURE = 90
HEAD = (
    "| variant, Triton {version} | kernel | registers | loads | stores | atomic | spilled bytes |\n"
    "|---|---|---|---|---|---|---|\n"
)
TABLE = re.compile(r"^\| variant, Triton (?P<version>[\d.]+) \|.*\n\|[-|]+\|\n(?P<rows>(?:\|.*\n)+)", re.MULTILINE)


def row_of(kernel: Mapping[str, Any]) -> list[str]:
    """The cells of one kernel of a report (compile_report.py)."""
    wide = wide_accesses(kernel["whole_block"])
    numbers = (kernel["resources"]["REG"], wide["load"], wide["store"], wide["atomic"], spills(kernel))
    return [kernel["variant"], kernel["kernel"].removesuffix("_kernel"), *map(str, numbers)]


def spills(kernel: Mapping[str, Any]) -> int:
    """Bytes of each thread's stack and local memory, and one for each access to it."""
    names = kernel["instructions"].items()
    accesses: int = sum(number for name, number in names if name.startswith(("LDL", "STL")))
    stack: int = kernel["resources"]["STACK"] + kernel["resources"]["LOCAL"]
    return stack + accesses


def documented(text: str) -> tuple[str, dict[tuple[str, str], list[str]]]:
    """The version of Triton that the table names, and its numbers by variant and kernel."""
    found = TABLE.search(text)
    assert found is not None, "the document has no table of compiled kernels"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found["rows"].splitlines()]
    return found["version"], {(name, kernel): numbers for name, kernel, *numbers in rows}


def table(version: str, kernels: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(f"| {' | '.join(row_of(kernel))} |\n" for kernel in kernels)
    return HEAD.format(version=version) + rows


def main() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRITON_")}
    asked = {"architecture": ARCHITECTURE, "names": [*VARIANTS], "misalign": None}
    command = [sys.executable, "-m", "tests.kernels.compile_report", json.dumps(asked)]
    (report,) = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    if report["missing"]:
        sys.exit(report["missing"])
    version = ".".join(report["triton"].split(".")[:2])
    made = table(version, report["kernels"])
    DOCUMENT.write_text(TABLE.sub(lambda _: made, DOCUMENT.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
