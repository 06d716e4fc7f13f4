"""asyncpipe's own files, and the data that it finds."""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.tools.doctor.environment import Environment
from asyncpipe.tools.doctor.finding import Finding, fail, ok, warn

__all__ = ["probe_data", "probe_schedules"]


def probe_schedules(environment: Environment) -> Iterator[Finding]:
    """A checkout without symbolic links, or a package built wrongly, has no schedules."""
    own = environment.installation
    if own.problem:
        message = f"asyncpipe {own.version} in {own.folder} is not whole: {own.problem}"
        yield fail("asyncpipe", message, "install it again; a checkout needs symbolic links")
    else:
        yield ok("asyncpipe", f"{own.version} in {own.folder}, {own.schedules} schedules, {own.jobs} jobs")


def probe_data(environment: Environment) -> Iterator[Finding]:
    """A data set that is not there is no fault of the machine, unless it was asked for."""
    own = environment.installation
    found = [name for name, problem in own.data.items() if not problem]
    missing = [name for name, problem in own.data.items() if problem and name not in own.data_asked]
    others = f"; not found: {', '.join(missing)}" if missing else ""
    if not found:
        yield fail("data", "no data set is found, not even the one that ships with asyncpipe", "install it again")
    else:
        yield ok("data", f"{', '.join(found)}{others}")
    for name in own.data_asked:
        if own.data[name]:
            yield warn("data", own.data[name], "docs/jobs.md says which files it has")
