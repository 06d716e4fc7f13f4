"""`--replay` of `asyncpipe run`: what the log of a run, and the run directory around it, already say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asyncpipe.errors import UsageError

__all__ = ["Recorded", "read_recorded"]


@dataclass(frozen=True)
class Recorded:
    """The options that a replay takes from its log; None where it is for the user to say."""

    schedule: str | None = None
    stages: int | None = None
    seed: int | None = None
    microbatches: int | None = None


def read_recorded(log: str | None, backend: str, disturbed: bool, recording: bool) -> Recorded:
    """Reads the log; UsageError for one that cannot be read, or beside options that a replay has no use for."""
    if log is None:
        return Recorded()
    refused = {"--backend threads": backend == "threads", "--delay": disturbed, "--record": recording}
    for option, given in refused.items():
        if given:
            raise UsageError(f"--replay and {option} exclude each other", "a replay has its order from the log alone")
    from asyncpipe.runtime.interleaving import read_log

    found = read_log(log)
    resolved = Path(found.file).parent / "resolved.yaml"
    ended = all(section.end_parameters is not None for section in found.sections)
    count = sum(section.microbatches for section in found.sections) * int(found.header["replicas"])
    return Recorded(
        str(resolved) if resolved.is_file() else found.header["schedule"],
        int(found.header["stages"]),
        int(found.header["seed"]),
        count if ended else None,
    )
