"""Which versions asyncpipe needs, and their comparison."""

from __future__ import annotations

import re

__all__ = ["LISTED", "NEEDED", "OPTIONAL", "at_least", "numbers"]

NEEDED = {"torch": "2.11", "numpy": "2.0", "click": "8.2", "ruamel.yaml": "0.18", "rich": "13"}
"""As pyproject.toml has them; a test compares."""
OPTIONAL = {"triton": "3.6", "nvidia-ml-py": "12.535", "pillow": "10.1"}
"""What some features need; nvidia-ml-py is installed with asyncpipe, but nothing fails without it."""
LISTED = (*NEEDED, *OPTIONAL, "cuda-bindings")
"""Of the last any version is good for something."""


def numbers(version: str) -> tuple[int, ...]:
    """(2, 13, 0) of `2.13.0+cu130`; what follows the numbers of the release counts for nothing."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def at_least(version: str, least: str) -> bool:
    """Whether `version` is `least` or newer."""
    return numbers(version) >= numbers(least)
