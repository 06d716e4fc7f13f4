"""Expected pictures of a small schedule; `python -m tests.pictures.golden` rewrites them."""

from __future__ import annotations

from pathlib import Path

from tests.command_line import invoke

__all__ = ["FILES", "FOLDER", "golden_text"]

FOLDER = Path(__file__).parents[1] / "cases" / "pictures"
FILES = {
    "async-lu.svg": ["async-lu", "--svg", "-"],
    "async-lu.trace.json": ["async-lu", "--trace", "-"],
    "two-devices.svg": [
        *("sgd", "-o", "devices=2", "-o", "streams={compute: {runs: [F, I, W, U], per: device}}"),
        *("--costs", "U=1/2", "--svg", "-"),
    ],
}


def golden_text(file: str) -> str:
    """What the command line draws now, for two stages and three microbatches."""
    outcome = invoke("show", *FILES[file], "--stages", "2", "--microbatches", "3")
    if outcome.code != 0:
        raise ValueError(f"{file} cannot be drawn:\n{outcome.stderr}")
    return outcome.stdout


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for file in FILES:
        (FOLDER / file).write_text(golden_text(file), "utf-8")


if __name__ == "__main__":
    main()
