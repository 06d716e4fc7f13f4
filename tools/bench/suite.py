"""The suite: rows one after another, each with its share of the budget, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from asyncpipe.tools.bench.process import Apart, measure_apart
from asyncpipe.tools.bench.rows import Row
from asyncpipe.tools.bench.setting import Setting

__all__ = ["SCHEMA", "built_ahead", "run_suite"]

SCHEMA = "asyncpipe.bench/1"
_LEAST_SECONDS = 5.0
_START_SECONDS = 6.0
"""Until a row's process has imported torch and begun; and what a turn at its end may take longer."""
Measure = Callable[[str, Setting], dict[str, Any]]


def run_suite(
    rows: Sequence[Row],
    setting: Setting,
    budget: float,
    measure: Measure = measure_apart,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[dict[str, Any]]:
    """Yield each row's result when it is there; `setting` is shared out by weight, and what a row leaves goes on."""
    end = clock() + budget
    left = [row for row in rows if not row.refusal(setting.device, setting.smoke)]
    for row in rows:
        about: dict[str, Any] = {"number": row.number, "name": row.name, "title": row.title}
        about["goal"] = None if setting.smoke else row.goal
        if refusal := row.refusal(setting.device, setting.smoke):
            yield {**about, "status": "not possible", "reason": refusal}
            continue
        share = _share(row, left, end - clock())
        left.remove(row)
        if share < _LEAST_SECONDS and not setting.smoke:
            reason = (
                f"{max(0.0, share):.0f} s of the budget would be left for it; give a larger --budget, or fewer --rows"
            )
            yield {**about, "status": "left out", "reason": reason}
            continue
        yield {**about, **measure(row.name, setting.within(share))}


def _share(row: Row, left: Sequence[Row], seconds: float) -> float:
    """Of what is left, by weight, without the starts of processes."""
    return (seconds - _START_SECONDS * len(left)) * row.weight / sum(other.weight for other in left)


@contextmanager
def built_ahead(rows: Sequence[Row], setting: Setting, seconds: float) -> Iterator[Measure]:
    """Builds the rows that train, all at once, in processes that then wait; gives what measures a row.

    Compiling and tracing keep one core busy for a minute where a turn takes a second, and nothing is timed meanwhile.
    Some rows only compile, into Inductor's cache. Who is not ready in time begins anew when its turn has come.
    """
    wanted = [row for row in rows if row.trains and row.ahead and not row.refusal(setting.device, setting.smoke)]
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        made = {}
        for row in wanted:
            asked = replace(setting, seconds=seconds, ahead=row.ahead)
            made[row.name] = stack.enter_context(Apart(row.name, asked))
        while time.monotonic() < end and not all(one.is_ended or one.is_built() for one in made.values()):
            time.sleep(0.1)
        ready = {row.name: made[row.name] for row in wanted if made[row.name].is_built()}
        for name in made.keys() - ready.keys():
            made[name].__exit__()
        yield lambda name, own: _measure(ready.pop(name, None), name, own)


def _measure(built: Apart | None, name: str, setting: Setting) -> dict[str, Any]:
    """Its memory is free afterwards."""
    if built is None:
        return measure_apart(name, setting)
    with built:
        return built.measure(setting.seconds)
