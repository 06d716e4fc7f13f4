"""A trial in a process of its own: what fails, hangs or is killed there is a result here, and harms nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO, Any

from asyncpipe.tools.tune.request import Request

__all__ = ["TRIAL", "run_trial"]

TRIAL = "asyncpipe.tools.tune.trial"
_MEANING = {
    1: "a bug in asyncpipe",
    2: "usage",
    3: "invalid schedule or job",
    4: "this machine cannot",
    5: "user code",
    6: "not finite",
    7: "hang",
    8: "out of memory",
    9: "checkpoint",
}
"""The exit codes of the contract."""
_LAST_BYTES = 4096


def run_trial(request: Request, timeout: float, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the trial measured, or `{"failed": kind, "exit_code": code, "reason": text}`; it may take `timeout` seconds.

    An interrupt ends the trial too, and leaves no result.
    """
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", TRIAL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": _path(sys.path), **(environment or {})},
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(json.dumps(request.document()).encode(), timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            return _failure("hang", None, f"no result within {timeout:g} s; the process was ended")
        except BaseException:
            _end(process)
            raise
        return _result(process.returncode, said, _tail(errors))


def _path(entries: Sequence[str]) -> str:
    """Where this process finds modules, for one that may start elsewhere."""
    return os.pathsep.join(os.path.abspath(entry) for entry in entries)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process with all that it started: it is the leader of a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _result(code: int, said: bytes, errors: str) -> dict[str, Any]:
    document = _document(said)
    if code == 0 and document is not None:
        return document
    if document is not None and "failed" in document:
        return _failure(_MEANING.get(code, "failed"), code, str(document["failed"]))
    if code < 0:
        return _failure("killed", code, f"by {_signal_name(-code)}{_SUSPICIONS.get(-code, '')}")
    return _failure(_MEANING.get(code, "failed"), code, _last_line(errors) or "it said nothing")


_SUSPICIONS: dict[int, str] = {
    signal.SIGKILL: ", as the system does where memory runs out",
    signal.SIGSEGV: ": a fault in native code",
    signal.SIGABRT: ": native code gave up",
}


def _failure(kind: str, code: int | None, reason: str) -> dict[str, Any]:
    return {"failed": kind, "exit_code": code, "reason": reason}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _document(said: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(said)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _tail(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _LAST_BYTES))
    return errors.read().decode("utf-8", "replace")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
