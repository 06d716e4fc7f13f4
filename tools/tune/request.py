"""What one trial is asked to do, as JSON between two processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Request", "read_request"]


@dataclass(frozen=True)
class Request:
    """`kind`: `costs` of every layer, `speed` of a setting, or seconds until the test `loss` came to `target`.

    The trial trains for `warm_up` seconds that do not count, then for `seconds` in `windows` parts. memory: bytes of
    data that its process may have.
    """

    kind: str
    schedule: str
    overrides: tuple[str, ...] = ()
    tuned: str = ""
    """The file whose `job:` counts, whichever schedule is trained."""
    job: str | None = None
    backend: str = "threads"
    stages: int | None = None
    threads: int | None = None
    period: int | None = None
    emulate: bool = False
    allow: tuple[str, ...] = ()
    seed: int = 0
    seconds: float = 2.0
    warm_up: float = 0.5
    windows: int = 5
    target: float | None = None
    memory: int | None = None
    thread_counts: tuple[int, ...] = ()
    """Of `costs`: with how many intra-op threads the layers are timed."""

    def document(self) -> dict[str, Any]:
        """As plain JSON values, lists where there are tuples."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def read_request(document: dict[str, Any]) -> Request:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in document.items()}
    return Request(**values)
