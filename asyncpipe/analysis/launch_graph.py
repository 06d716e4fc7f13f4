"""A run as a graph: its launches numbered in host issue order, each with the launches that it waits for.

The order of issue is topological, so that one pass in that order computes anything that flows along the waits. Arcs
between launches of one stream are not stored: a stream runs its launches one after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from asyncpipe.errors import InternalError
from asyncpipe.ir import Action, Instruction, Kind, Op, Program, relative_text

__all__ = ["BodyLaunch", "Key", "LaunchGraph", "finite_graph", "launch_count", "shortened", "steady_graph"]

Key = tuple[Op, int]
"""The op and the stage of an action."""


class BodyLaunch(NamedTuple):
    """A launch of the body: its stream, its key, its index relative to the iteration, its waits.

    A wait is (how many iterations back, which launch of the body), or where nothing in the body is meant, the action.
    """

    stream: int
    key: int
    index: int  # type: ignore[assignment]  # tuple.index is of no use here
    waits: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LaunchGraph:
    """The launches of a run: lists by number. Those of the body begin at `first`, `width` in each iteration."""

    program: Program
    keys: tuple[Key, ...]
    key: list[int] = field(repr=False)
    index: list[int] = field(repr=False)
    stream: list[int] = field(repr=False)
    waits: list[tuple[int, ...]] = field(repr=False)
    first: int = 0
    iterations: int = 0
    body: tuple[BodyLaunch, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.key)

    @property
    def width(self) -> int:
        return len(self.body)

    @cached_property
    def reach(self) -> int:
        """How many iterations back a wait of the body reaches, at least 1 for the streams' own order."""
        return max((back for launch in self.body for back, _ in launch.waits), default=1) or 1

    def action(self, number: int) -> Action:
        op, stage = self.keys[self.key[number]]
        return Action(stage, op, self.index[number])

    def microbatch(self, number: int) -> int:
        """The microbatch of a launch; where its index counts updates, the last one of that update."""
        index, every = self.index[number], self.program.every
        if not self.keys[self.key[number]][0].by_update:
            return index
        last = index * every + every - 1
        n = self.program.microbatches
        return last if n is None else min(last, n - 1)

    @cached_property
    def numbers(self) -> dict[Key, dict[int, int]]:
        """Per key the launch of each index."""
        found: list[dict[int, int]] = [{} for _ in self.keys]
        for number, (key, index) in enumerate(zip(self.key, self.index, strict=True)):
            found[key][index] = number
        return dict(zip(self.keys, found, strict=True))

    @cached_property
    def previous(self) -> list[int]:
        """The launch before each one in its stream, -1 for the first ones."""
        last = [-1] * len(self.program.streams)
        before = []
        for number, stream in enumerate(self.stream):
            before.append(last[stream])
            last[stream] = number
        return before


def launch_count(program: Program) -> int:
    """How many launches the body of a finite program has, over all iterations."""
    return (program.iterations or 0) * sum(i.kind is Kind.LAUNCH for i in program.body)


def finite_graph(program: Program) -> LaunchGraph:
    """All launches of a finite program."""
    assert program.microbatches is not None
    return _build(program, program.iterations or 0, program.cooldown)


def steady_graph(program: Program, iterations: int) -> LaunchGraph:
    """Warmup and so many iterations of the body, as an endless run begins; what would follow is left out."""
    endless = replace(program, iterations=None, microbatches=None, cooldown=())
    return _build(endless, iterations, ())


def shortened(program: Program, iterations: int) -> Program:
    """A finite program with that many iterations fewer, hence with fewer microbatches."""
    assert program.iterations is not None
    assert program.microbatches is not None
    less = iterations * program.step
    cooldown = tuple(i._replace(action=i.action.later(-less, program.every)) for i in program.cooldown)
    return replace(
        program,
        iterations=program.iterations - iterations,
        microbatches=program.microbatches - less,
        cooldown=cooldown,
    )


class _Builder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.codes: dict[Key, int] = {}
        self.key: list[int] = []
        self.index: list[int] = []
        self.stream: list[int] = []
        self.waits: list[tuple[int, ...]] = []
        self.number: dict[Action, int] = {}
        self.loop: _Loop | None = None

    def code(self, action: Action) -> int:
        return self.codes.setdefault((action.op, action.stage), len(self.codes))

    def find(self, action: Action) -> int:
        """The launch of an action that was named before, or that lies in the body."""
        found = self.number.get(action)
        if found is None and self.loop is not None:
            found = self.loop.launch(action)
        if found is None:
            raise InternalError(f"the program waits for {action}, which it never launched before")
        return found

    def flat(self, instructions: Iterable[Instruction]) -> None:
        """Launches with absolute indices."""
        waits: list[list[int]] = [[] for _ in self.program.streams]
        number, find, codes = self.number, self.find, self.codes
        wait, launch = Kind.WAIT, Kind.LAUNCH
        for kind, stream, action in instructions:
            if kind is launch:
                stage, op, index = action
                number[action] = len(self.key)
                self.stream.append(stream)
                self.key.append(codes.setdefault((op, stage), len(codes)))
                self.index.append(index)
                self.waits.append(tuple(waits[stream]))
                waits[stream] = []
            elif kind is wait:
                found = number.get(action)
                waits[stream].append(find(action) if found is None else found)

    def template(self) -> tuple[list[BodyLaunch], list[list[Action]]]:
        """The body, yet without waits, and for each of its launches the actions that it waits for, relative."""
        waits: list[list[Action]] = [[] for _ in self.program.streams]
        launches: list[BodyLaunch] = []
        sources: list[list[Action]] = []
        for kind, stream, action in self.program.body:
            if kind is Kind.WAIT:
                waits[stream].append(action)
            elif kind is Kind.LAUNCH:
                launches.append(BodyLaunch(stream, self.code(action), action.index, ()))
                sources.append(waits[stream])
                waits[stream] = []
        return launches, sources

    def body(self, iterations: int) -> tuple[BodyLaunch, ...]:
        """Adds the body's launches; gives the body with its waits."""
        launches, sources = self.template()
        self.loop = _Loop(self.program, launches, self.codes, len(self.key), iterations)
        found = [tuple(map(self.loop.place, actions)) for actions in sources]
        body = tuple(b._replace(waits=w) for b, w in zip(launches, found, strict=True))
        self.iterate(body, sources, iterations)
        return body

    def iterate(self, body: tuple[BodyLaunch, ...], sources: list[list[Action]], iterations: int) -> None:
        """The body's launches; where a wait reaches back before the body, by the action that it names."""
        program, width, begin = self.program, len(body), len(self.key)
        reach = max((back for launch in body for back, _ in launch.waits), default=0)
        offsets = [tuple(place - back * width for back, place in launch.waits) for launch in body]
        by_update = [op.by_update for op, _ in self.codes]
        self.stream += [launch.stream for launch in body] * iterations
        self.key += [launch.key for launch in body] * iterations
        for k in range(iterations):
            base, microbatch = begin + k * width, program.start + k * program.step
            update = microbatch // program.every
            if k < reach:
                self.waits += self.first_waits(body, sources, k, base)
            else:
                self.waits += [tuple([base + offset for offset in each]) for each in offsets]
            self.index += [launch.index + (update if by_update[launch.key] else microbatch) for launch in body]

    def first_waits(
        self, body: tuple[BodyLaunch, ...], sources: list[list[Action]], k: int, base: int
    ) -> Iterator[tuple[int, ...]]:
        width = len(body)
        for launch, actions in zip(body, sources, strict=True):
            pairs = zip(launch.waits, actions, strict=True)
            yield tuple(
                base + place - back * width if back <= k else self.find(self.program.absolute(action, k))
                for (back, place), action in pairs
            )


class _Loop:
    """Finds actions in the body: relative ones by the iterations since, absolute ones by their launch."""

    def __init__(
        self, program: Program, launches: list[BodyLaunch], codes: dict[Key, int], first: int, iterations: int
    ) -> None:
        self.program = program
        self.codes = codes
        self.first = first
        self.width = len(launches)
        self.iterations = iterations
        keys = list(codes)
        self.at: dict[tuple[int, int], tuple[int, int]] = {}
        for place, launch in enumerate(launches):
            self.at[launch.key, launch.index % self.step(keys[launch.key][0])] = (launch.index, place)

    def step(self, op: Op) -> int:
        return self.program.step // self.program.every if op.by_update else self.program.step

    def _found(self, action: Action) -> tuple[int, int] | None:
        return self.at.get((self.codes.get((action.op, action.stage), -1), action.index % self.step(action.op)))

    def place(self, action: Action) -> tuple[int, int]:
        """(iterations back, place) of a relative action."""
        found = self._found(action)
        if found is None:
            raise InternalError(f"the body waits for {relative_text(action)}, which it never launches")
        return (found[0] - action.index) // self.step(action.op), found[1]

    def launch(self, action: Action) -> int | None:
        """The launch of an absolute action, if it lies in the body."""
        relative = action.later(-self.program.start, self.program.every)
        found = self._found(relative)
        if found is None:
            return None
        iteration = (relative.index - found[0]) // self.step(action.op)
        return self.first + iteration * self.width + found[1] if 0 <= iteration < self.iterations else None


def _build(program: Program, iterations: int, cooldown: tuple[Instruction, ...]) -> LaunchGraph:
    builder = _Builder(program)
    builder.flat(program.warmup)
    first = len(builder.key)
    body = builder.body(iterations) if program.body and iterations else ()
    builder.flat(cooldown)
    return LaunchGraph(
        program,
        tuple(builder.codes),
        builder.key,
        builder.index,
        builder.stream,
        builder.waits,
        first,
        iterations,
        body,
    )
