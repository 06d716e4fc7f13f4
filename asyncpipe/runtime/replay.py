"""Executes a recorded run once more, in one thread: the same actions in the order in which they took effect.

Where two actions of the record overlapped and one wrote what the other touched, no order is the right one, and the
result may differ; everywhere else each read finds the version that it found then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from asyncpipe.errors import UsageError
from asyncpipe.ir import Action, Launch, Op, Program
from asyncpipe.runtime.failure import naming_the_action
from asyncpipe.runtime.interleaving import Line, Log, Section, parse_line
from asyncpipe.runtime.races import reading
from asyncpipe.runtime.record import version_read
from asyncpipe.runtime.replicas import ReplicaGroup

__all__ = ["Replay"]

_POLL_SECONDS = 0.5
_OTHER_RUN = "record the run again; the log was changed, or belongs to another schedule"


class Replay:
    """One section of a log, to be run by `run`. `first_loss`: the line where a loss came out otherwise, if any."""

    def __init__(self, log: Log, section: Section) -> None:
        self.log = log
        self.section = section
        self.first_loss: int | None = None

    def run(
        self,
        group: ReplicaGroup,
        hook: Callable[[int, Action], None] | None = None,
        poll: Callable[[], None] | None = None,
    ) -> None:
        """A back end. UsageError with the line where the log does not fit the program of the group."""
        order = _Order(self, group)
        polled = time.monotonic()
        for number, line in self.lines():
            stream = order.begin(number, line)
            with naming_the_action(line.stream, line.action):
                if hook is not None and line.phase != "begin":
                    hook(stream, line.action)
                self._execute(group, stream, line)
            self._compare(group, number, line)
            order.end(line, stream)
            if poll is not None and time.monotonic() - polled >= _POLL_SECONDS:
                polled = time.monotonic()
                poll()
        order.finished()

    def lines(self) -> Iterator[tuple[int, Line]]:
        """Each line with its number in the file."""
        for number, text in enumerate(self.section.lines, self.section.first):
            try:
                yield number, parse_line(text)
            except ValueError as error:
                raise self.log.error(number, str(error)) from None

    def overlaps(self) -> Iterator[tuple[int, Line]]:
        """The lines with possible races."""
        return ((number, line) for number, line in self.lines() if line.overlaps)

    def first_overlap(self) -> int | None:
        """The first line that has a part in a possible race."""
        involved: set[tuple[int, Action]] = set()
        for _, line in self.overlaps():
            involved |= {(line.replica, line.action), *line.overlaps}
        return next((number for number, line in self.lines() if (line.replica, line.action) in involved), None)

    def _execute(self, group: ReplicaGroup, stream: int, line: Line) -> None:
        if line.phase and group.synchroniser is not None:
            act = group.synchroniser.start if line.phase == "begin" else group.synchroniser.end
            act(group.executions, line.replica, line.action.stage, line.action.index)
        else:
            group.executions[line.replica].run(stream, line.action)

    def _compare(self, group: ReplicaGroup, number: int, line: Line) -> None:
        """A read that overlapped nothing finds the version that the log has; of losses the first difference is kept."""
        execution, (stage, op, index) = group.executions[line.replica], line.action
        found = execution.version(stage) if op is Op.U else version_read(execution, op)(stage, index)
        if found != line.version and not line.overlaps and op in _counting(group.program):
            message = f"{line.action}: the log has version {line.version}, in this order it is {found}"
            raise self.log.error(number, message, _OTHER_RUN)
        if line.loss is not None and self.first_loss is None and not _same(line.loss, execution.losses[index]):
            self.first_loss = number


def _counting(program: Program) -> frozenset[Op]:
    """The ops whose version follows from the order: what reads no live weights overlaps updates without a note, and a
    backward after its recompute repeats the version of that."""
    repeats = any(Op.R in stream.runs for stream in program.streams)
    return reading(program) - ({Op.B, Op.I} if repeats else set()) | {Op.F, Op.U}


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


class _Order:
    """Follows the program: what each stream is to do next, and what has been done."""

    def __init__(self, replay: Replay, group: ReplicaGroup) -> None:
        self.replay = replay
        self.program = program = group.program
        self.names = {stream.name: number for number, stream in enumerate(program.streams)}
        streams = range(len(program.streams))
        self.launches = [[program.launches(stream) for stream in streams] for _ in range(program.replicas)]
        self.next = [[next(launches, None) for launches in row] for row in self.launches]
        self.done: list[set[Action]] = [set() for _ in range(program.replicas)]
        self.begun: set[tuple[int, Action]] = set()
        self.meets = group.synchroniser is not None and group.synchroniser.meets

    def error(self, number: int, message: str) -> UsageError:
        return self.replay.log.error(number, message, _OTHER_RUN)

    def begin(self, number: int, line: Line) -> int:
        """The stream of a line; UsageError where the program does not let it come now."""
        stream = self.names.get(line.stream)
        if stream is None or line.replica >= self.program.replicas:
            raise self.error(number, f"the schedule {self.program.schedule} has no stream {_place(line)}")
        launch = self.next[line.replica][stream]
        if launch is None or launch.action != line.action:
            comes = "its end" if launch is None else str(launch.action)
            raise self.error(number, f"{_place(line)} runs {line.action}, where the schedule has {comes}")
        if (line.action.op is Op.SYNC) != bool(line.phase):
            raise self.error(number, f"{line.action}: expected `begin` or `end` after a SYNC, and nowhere else")
        self._check_phase(number, line)
        self._check_waits(number, line, launch)
        return stream

    def _check_phase(self, number: int, line: Line) -> None:
        if line.phase == "begin":
            self.begun.add((line.replica, line.action))
        elif line.phase == "end":
            together = range(self.program.replicas) if self.meets else (line.replica,)
            for replica in together:
                if (replica, line.action) not in self.begun:
                    raise self.error(number, f"{line.action} ends before replica {replica} has begun it")

    def _check_waits(self, number: int, line: Line, launch: Launch) -> None:
        for source in launch.waits:
            if source not in self.done[line.replica]:
                later = next((n for n, other in self.replay.lines() if n > number and other.action == source), None)
                where = f"comes only in line {later}" if later else "is not in the log"
                raise self.error(number, f"{line.action} needs {source} before it, which {where}")

    def end(self, line: Line, stream: int) -> None:
        if line.phase != "begin":
            self.done[line.replica].add(line.action)
            self.next[line.replica][stream] = next(self.launches[line.replica][stream], None)

    def finished(self) -> None:
        """UsageError where something is left to do after a run that had ended."""
        section = self.replay.section
        left = [launch for row in self.next for launch in row if launch is not None]
        if left and section.end_parameters is not None:
            line = section.first + len(section.lines)
            raise self.error(line, f"run {section.number} ends, and {left[0].action} has not run")


def _place(line: Line) -> str:
    return f"{line.stream} of replica {line.replica}" if line.replica else line.stream
