"""L0: what the author wrote. `load(path)` gives a validated Schedule, or a ScheduleError with every finding."""

from asyncpipe.schedule.load import apply_overrides, find_schedule, library, load, load_text, read_schedule
from asyncpipe.schedule.spec import Costs, Expect, Schedule, StageRange, StreamGroup, Update, Weights

__all__ = [
    "Costs",
    "Expect",
    "Schedule",
    "StageRange",
    "StreamGroup",
    "Update",
    "Weights",
    "apply_overrides",
    "find_schedule",
    "library",
    "load",
    "load_text",
    "read_schedule",
]
