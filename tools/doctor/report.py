"""The report: a line for each finding, its fix below it, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from asyncpipe.tools.doctor.environment import Environment
from asyncpipe.tools.doctor.finding import Finding
from asyncpipe.tools.doctor.probes import PROBES

__all__ = ["examine", "has_failed", "report_document", "report_lines"]


def examine(environment: Environment) -> list[Finding]:
    """What every probe finds."""
    return [finding for probe in PROBES for finding in probe(environment)]


def has_failed(findings: Sequence[Finding]) -> bool:
    """Whether something does not work here."""
    return any(finding.status == "fail" for finding in findings)


def report_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The text, line by line; the last one counts."""
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        yield f"{finding.status:<4}  {finding.subject:<{width}}  {finding.message}"
        if finding.fix:
            yield f"{'':<{width + 6}}  fix: {finding.fix}"
    counts = {status: sum(f.status == status for f in findings) for status in ("ok", "warn", "fail")}
    yield f"{counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail"


def report_document(findings: Sequence[Finding], environment: Environment) -> dict[str, Any]:
    """`asyncpipe.doctor/1`."""
    return {
        "schema": "asyncpipe.doctor/1",
        "ok": not has_failed(findings),
        "findings": [
            {"status": f.status, "subject": f.subject, "message": f.message, "fix": f.fix or None} for f in findings
        ],
        "versions": dict(environment.versions),
        "gpus": [gpu.description.document() for gpu in environment.gpus],
    }
