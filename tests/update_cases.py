"""Rewrites the expected texts of tests/cases from what the command line says now: `python -m tests.update_cases`.

Read the difference before you commit it: each text is a promise to whoever makes that mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from asyncpipe.schedule import library
from tests.command_line import invoke

__all__ = ["GOLDEN", "INVALID", "golden_cases", "golden_text", "invalid_cases", "invalid_text"]

CASES = Path(__file__).parent / "cases"
INVALID = CASES / "invalid"
GOLDEN = CASES / "golden"
STAGES = "3"
WITH_LEVELS = ("async-bu", "async-lu", "ddp", "hogwild", "pd-asgd-devices", "pipedream-2bw", "sgd", "sgd-ready")
WIDTH = "110"


def invalid_cases() -> list[str]:
    """The names of the invalid files."""
    return sorted(path.stem for path in INVALID.glob("*.yaml"))


def invalid_text(name: str) -> tuple[int, str]:
    """Exit code of `asyncpipe check NAME.yaml` in the folder of the cases, and what it says on stderr."""
    with chdir(INVALID):
        outcome = invoke("check", f"{name}.yaml")
    return outcome.code, outcome.stderr


def golden_cases() -> Iterator[tuple[str, list[str]]]:
    """(file, arguments of `asyncpipe show`) of each golden text: pictures of all, both compiled levels of some."""
    small = ["--stages", STAGES]
    for schedule in library():
        sizes = small if schedule in WITH_LEVELS else []
        yield f"{schedule}.txt", [schedule, "--width", WIDTH, "--no-color", *sizes]
    for schedule in WITH_LEVELS:
        for level in ("L1", "L2"):
            yield f"{schedule}-{level}.txt", [schedule, "--level", level, *small]
            yield f"{schedule}-{level}-10.txt", [schedule, "--level", level, "--microbatches", "10", *small]


def golden_text(arguments: list[str]) -> str:
    outcome = invoke("show", *arguments)
    if outcome.code != 0:
        raise ValueError(f"show {' '.join(arguments)} failed:\n{outcome.stderr}")
    return outcome.stdout


def main() -> None:
    for name in invalid_cases():
        code, text = invalid_text(name)
        if code != 3:
            raise ValueError(f"{name}.yaml: expected exit code 3, found {code}:\n{text}")
        (INVALID / f"{name}.txt").write_text(text, "utf-8")
    GOLDEN.mkdir(exist_ok=True)
    for file, arguments in golden_cases():
        (GOLDEN / file).write_text(golden_text(arguments), "utf-8")


if __name__ == "__main__":
    main()
