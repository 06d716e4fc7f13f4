"""A benchmark's script in this process: a Python of its own takes two seconds of CPU to import torch."""

from __future__ import annotations

import gc
import io
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from tests.command_line import Outcome

__all__ = ["BENCHMARKS", "run_script"]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run_script(name: str, *arguments: str) -> Outcome:
    """Runs `python benchmarks/NAME/main.py ARGUMENTS`."""
    script, code = BENCHMARKS / name / "main.py", 0
    out, err = io.StringIO(), io.StringIO()
    with _as_a_process_of(script, *arguments), redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else int(done.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


@contextmanager
def _as_a_process_of(script: Path, *arguments: str) -> Iterator[None]:
    """Its own arguments, environment and modules: scripts import their neighbours by plain names, as `plan`."""
    path = [str(script.parent), *sys.path]
    argv = [str(script), *arguments]
    with mock.patch.dict("os.environ"), mock.patch.object(sys, "path", path), mock.patch.object(sys, "argv", argv):
        try:
            yield
        finally:
            gc.unfreeze()  # what a script froze would never be freed, and Triton reports it at the end
            for name, module in list(sys.modules.items()):
                if Path(getattr(module, "__file__", None) or ".").parent == script.parent:
                    del sys.modules[name]
