"""Stdout is for results, whatever code of the author prints."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, redirect_stdout
from typing import TextIO

__all__ = ["prints_on_stderr"]


def prints_on_stderr() -> AbstractContextManager[TextIO]:
    """Around what may run code of the author; `--json` stays one document."""
    return redirect_stdout(sys.stderr)
