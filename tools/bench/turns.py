"""All contenders of a row in one process: each is built and judged, then they take turns while the clock runs."""

from __future__ import annotations

import gc
import importlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from asyncpipe.errors import UserError
from asyncpipe.tools.bench import guard
from asyncpipe.tools.bench.catalogue import OTHER, Kind
from asyncpipe.tools.bench.contender import Contender, Losses, take
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.setting import Pace

__all__ = ["Turns", "reason_of", "run_turns"]


@dataclass
class Turns:
    """Losses of the first updates, and seconds of one update in every round; who is missing, and why."""

    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    updates: dict[str, int] = field(default_factory=dict)
    build_seconds: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    interleaved: bool = True


def run_turns(
    problem: Problem,
    kinds: Sequence[Kind],
    pace: Pace,
    built: Callable[[], float | None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Turns:
    """In turns, whose order rotates; or one after another where two do not fit into memory at once.

    `built` is called when all are there, and may say how many seconds there are from then on. What compiles is built
    last: of all others there is a number then.
    """
    turns = Turns(interleaved=not problem.workload.alone)
    _load(problem)
    start = clock()
    end, built_by = start + pace.seconds, start + pace.build_share * pace.seconds
    allowed = sorted((k for k in kinds if not _refused(turns, k, problem)), key=_urgency)
    if turns.interleaved:
        made = {}
        for number, kind in enumerate(allowed):
            # Three times its share at most: one that is far slower than expected must not cost the others theirs.
            by = min(built_by, clock() + 3 * (built_by - clock()) / (len(allowed) - number))
            if (contender := _build(turns, kind, problem, by, clock)) is not None:
                made[kind.name] = contender
        seconds = built()
        _measure(turns, problem, made, pace, end if seconds is None else clock() + seconds, clock)
        return turns
    for number, kind in enumerate(allowed):
        now = clock()
        share = max(0.0, end - now) / (len(allowed) - number)
        contender = _build(turns, kind, problem, now + pace.build_share * share, clock)
        if contender is not None:
            _measure(turns, problem, {kind.name: contender}, pace, now + share, clock)
        del contender
        _free(problem)
    return turns


def _urgency(kind: Kind) -> tuple[int, int]:
    """What compiles last, and before it who counts for no ratio; else peers before ours, by the table's order."""
    return kind.compile_seconds, kind.role == OTHER


def _load(problem: Problem) -> None:
    """What torch imports with its first optimizer: an import that a time limit interrupts would be left half done."""
    importlib.import_module("torch._dynamo")
    problem.optimizer(nn.Linear(1, 1, device=problem.device)).step()


class _LateError(BaseException):
    """No Exception: compilers wrap those, or go on after them."""


def _refused(turns: Turns, kind: Kind, problem: Problem) -> bool:
    """Those for the other device are not worth a line."""
    reason = kind.refusal(problem)
    if reason and reason not in ("needs CUDA", "is for the CPU"):
        turns.missing[kind.name] = reason
    return bool(reason)


def _build(turns: Turns, kind: Kind, problem: Problem, end: float, clock: Callable[[], float]) -> Contender | None:
    """A contender that has made its first updates; None, with the reason, where it cannot."""
    start = clock()
    if start + kind.compile_seconds * problem.on_cuda >= end:
        needed = f"takes about {kind.compile_seconds} s to build" if kind.compile_seconds else "must be built"
        turns.missing[kind.name] = f"{needed}, and {max(0.0, end - start):.0f} s were left; give a larger --budget"
        return None
    losses: Losses = []
    try:
        with _limited(end - start):
            made = kind.make(problem)
            made.train(guard.UPDATES, losses)
            problem.finish()
        turns.losses[kind.name] = take(losses)
    except (Exception, _LateError) as error:  # one contender fails, the others are measured
        turns.missing[kind.name] = reason_of(error)
        _free(problem)
        return None
    turns.build_seconds[kind.name] = clock() - start
    return made


def _measure(
    turns: Turns, problem: Problem, made: dict[str, Contender], pace: Pace, end: float, clock: Callable[[], float]
) -> None:
    """`rounds`, then more while there is time; fewer, but two, where turns take longer than they should. Who fails is
    out."""
    share = max(0.0, end - clock()) / (max(1, len(made)) * pace.rounds)
    for name, contender in list(made.items()):
        size = _attempt(turns, made, name, lambda c=contender: _calibrated(c, problem, pace, share))  # type: ignore[misc]
        if size is not None:
            turns.updates[name] = int(size)
    started = clock()
    for number in range(pace.most_rounds):
        now = clock()
        next_round = (now - started) / max(1, number)
        if not made or (number >= pace.rounds and now + next_round > end) or (number > 1 and now > end):
            return
        _round(turns, problem, made, number)


def _round(turns: Turns, problem: Problem, made: dict[str, Contender], number: int) -> None:
    """One turn of each. A round that somebody did not survive counts for the others."""
    names = list(made)
    shift = number % len(names)
    for name in names[shift:] + names[:shift]:
        updates = turns.updates[name]
        contender = made[name]
        seconds = _attempt(turns, made, name, lambda c=contender, n=updates: _timed(c, problem, n))  # type: ignore[misc]
        if seconds is not None:
            turns.seconds.setdefault(name, []).append(seconds / updates)


def _calibrated(contender: Contender, problem: Problem, pace: Pace, seconds: float) -> int:
    """How many updates take about so long; a first turn tells, and is not counted."""
    if pace.updates is not None:
        return pace.updates
    first = pace.least_updates
    while (taken := _timed(contender, problem, first)) < 0.2 * seconds and first < 16384:
        first *= 4
    return max(pace.least_updates, round(0.8 * seconds * first / taken))


def _timed(contender: Contender, problem: Problem, updates: int) -> float:
    problem.finish()
    start = time.perf_counter()
    contender.train(updates)
    problem.finish()
    return time.perf_counter() - start


def _attempt(turns: Turns, made: dict[str, Contender], name: str, work: Callable[[], float]) -> float | None:
    try:
        return work()
    except Exception as error:
        turns.missing[name] = reason_of(error)
        turns.seconds.pop(name, None)
        del made[name]
        return None


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """_LateError in the block after so long: a compiler knows no limit, and must not cost the whole row its time.

    Signals reach the main thread only; elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: object) -> None:
        raise _LateError(f"was not built within {seconds:.0f} s; give a larger --budget")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _free(problem: Problem) -> None:
    gc.collect()
    if problem.on_cuda:
        torch.cuda.empty_cache()


def reason_of(error: BaseException) -> str:
    """One line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, UserError):
        return error.message
    if isinstance(error, _LateError):
        return str(error)
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
