"""`asyncpipe tools doctor`: is this machine fit for it, and what is to be done.

`gather_environment` asks the machine for facts (`Environment`), `examine` lets every probe judge them.
"""

from __future__ import annotations

from asyncpipe.tools.doctor.environment import Environment
from asyncpipe.tools.doctor.finding import Finding
from asyncpipe.tools.doctor.gather import gather_environment
from asyncpipe.tools.doctor.report import examine, has_failed, report_document, report_lines

__all__ = ["Environment", "Finding", "examine", "gather_environment", "has_failed", "report_document", "report_lines"]
