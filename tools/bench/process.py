"""One row in a process of its own: `python -m asyncpipe.tools.bench.process ROW SETTING OUT`.

A hang, a sticky CUDA error or a crash ends this row, and not the suite.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from asyncpipe.tools.bench.rows import ROWS
from asyncpipe.tools.bench.setting import Setting

__all__ = ["GRACE", "Apart", "measure_apart", "result_of"]

GRACE = 25.0
"""Seconds beyond a row's own and half as many: the start of a process, and turns that take longer than they did."""
READY = b"built\n"
ENVIRONMENT = {
    # Streams that share one of the device's queues wait for each other; it has 8 unless told before it starts.
    "CUDA_DEVICE_MAX_CONNECTIONS": "32",
    # Else jax takes three quarters of the device's memory.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


def measure_apart(row: str, setting: Setting, limit: float | None = None) -> dict[str, Any]:
    """The result of a row, or `failed` with the reason; never an exception."""
    limit = 1.5 * setting.seconds + GRACE if limit is None else limit
    with Apart(row, setting) as process:
        return process.result(limit)


class Apart:
    """A row's process, which ends with the context."""

    def __init__(self, row: str, setting: Setting) -> None:
        self._begun = time.monotonic()
        self._folder = tempfile.TemporaryDirectory()
        self._out, self._errors = (Path(self._folder.name) / name for name in ("row.json", "stderr"))
        with self._errors.open("w") as stream:
            self._process = start(row, setting, self._out, stream)

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *error: object) -> None:
        end_group(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    @property
    def is_ended(self) -> bool:
        return self._process.poll() is not None

    def is_built(self) -> bool:
        """Whether it has said so by now."""
        stdout = self._process.stdout
        return stdout is not None and bool(select.select([stdout], [], [], 0)[0]) and not self.is_ended

    def measure(self, seconds: float) -> dict[str, Any]:
        """Of one that is built."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(f"{seconds}\n".encode())
            stdin.flush()
        except BrokenPipeError:  # it has ended since; its result or its last words are there
            pass
        return self.result(1.5 * seconds + GRACE)

    def result(self, limit: float) -> dict[str, Any]:
        """What it has found within so many seconds from now on, or why it has not."""
        try:
            code: int | None = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        return {**result_of(self._out, self._errors, code, limit), "wall_s": time.monotonic() - self._begun}


def start(row: str, setting: Setting, out: Path, errors: Any) -> subprocess.Popen[bytes]:
    """The process of a row, in a group of its own: a row may start processes too."""
    kernels = {} if setting.device == "cpu" else {"TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "asyncpipe.tools.bench.process", row, str(setting), str(out)]
    environment = {**os.environ, **ENVIRONMENT, **kernels, "PYTHONPATH": _path()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} if setting.ahead else {"stdout": subprocess.DEVNULL}
    return subprocess.Popen(command, **pipes, stderr=errors, env=environment, start_new_session=True)  # type: ignore[call-overload,no-any-return]


def _path() -> str:
    """Where this package lies, before all others: it may run from a checkout."""
    import asyncpipe

    assert asyncpipe.__file__ is not None
    return os.pathsep.join(
        filter(None, [str(Path(asyncpipe.__file__).absolute().parents[1]), os.environ.get("PYTHONPATH")])
    )


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Nothing that the row has started outlives it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def result_of(out: Path, errors: Path, code: int | None, limit: float) -> dict[str, Any]:
    """What a process wrote, or how it ended; code: None where it had to be ended."""
    if out.exists():
        found: dict[str, Any] = json.loads(out.read_text())
        return found
    if code is None:
        return {"status": "failed", "reason": f"not done after {limit:.0f} seconds"}
    lines = errors.read_text().strip().splitlines()
    said = lines[-1] if lines else "it said nothing"
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return {"status": "failed", "reason": f"{how}: {said}"}


def main(row: str, setting: Setting, out: Path) -> None:
    """In the row's process. The file appears whole, or not at all."""
    from asyncpipe.runtime.allocator import keep_freed_memory
    from asyncpipe.tools.bench.training_row import prepare
    from asyncpipe.tools.bench.turns import reason_of

    keep_freed_memory()  # asyncpipe does so; then all contenders profit from it
    if setting.ahead == "compile":
        prepare(row, setting)
        return
    try:
        result = {"status": "measured", **ROWS[row].run(setting, _told if setting.ahead else lambda: None)}
    except Exception as error:  # whatever it is, the row has one line, and the suite goes on
        result = {"status": "failed", "reason": reason_of(error)}
    part = out.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.rename(out)


def _told() -> float:
    """Says that all is built, and waits for the seconds to measure."""
    os.write(_STDOUT, READY)
    return float(sys.stdin.readline())


if __name__ == "__main__":
    # What else prints must not be taken for an answer.
    _STDOUT = os.dup(1)
    os.dup2(2, 1)
    main(sys.argv[1], Setting.parse(sys.argv[2]), Path(sys.argv[3]))
