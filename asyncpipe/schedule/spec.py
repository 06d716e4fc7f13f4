"""L0: a valid schedule as data, every default filled in. `str(schedule)` is canonical YAML that reads back equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from asyncpipe.errors import Position
from asyncpipe.ir import Op
from asyncpipe.schedule.expression import Binary, Expression, Name, Number
from asyncpipe.schedule.rule import BodyEntry, Rule
from asyncpipe.schedule.source import Node

__all__ = [
    "DEFAULT_COSTS",
    "DEFAULT_ORDER",
    "Costs",
    "Expect",
    "Paper",
    "Schedule",
    "StageRange",
    "StreamGroup",
    "Update",
    "Weights",
]

DEFAULT_ORDER = (Op.U, Op.B, Op.I, Op.F, Op.W)
DEFAULT_COSTS = {
    Op.F: Fraction(1),
    Op.B: Fraction(2),
    Op.I: Fraction(1),
    Op.W: Fraction(1),
    Op.U: Fraction(0),
}


@dataclass(frozen=True)
class Costs:
    """The time of each op: one number for all stages, or one per stage. Any unit; the default forward costs 1."""

    values: tuple[tuple[Op, tuple[Fraction, ...]], ...] = ()

    def of(self, op: Op, stage: int) -> Fraction:
        times = dict(self.values).get(op, (DEFAULT_COSTS[op],))
        return times[stage] if len(times) > 1 else times[0]

    def merged(self, other: Costs) -> Costs:
        """These costs, overridden by `other` where that names an op."""
        return Costs(tuple(sorted({**dict(self.values), **dict(other.values)}.items())))


@dataclass(frozen=True)
class Paper:
    title: str
    id: str = ""


@dataclass(frozen=True)
class StageRange:
    """A stage of the author's own cut: `layers` first to last, both included."""

    name: str
    first: int
    last: int
    where: Position | None = field(default=None, compare=False)


@dataclass(frozen=True)
class StreamGroup:
    """Streams of one kind: what they run, how many there are, which stages they serve, and in which order they work."""

    name: str
    runs: tuple[Op, ...]
    count: int = 1
    per: str | None = None
    stages: tuple[Expression, Expression] = (Number(0), Name("last"))
    device: Expression | None = None
    order: tuple[Op, ...] = DEFAULT_ORDER
    body: tuple[BodyEntry, ...] = ()
    places: Mapping[str, Position] = field(default_factory=dict, compare=False)

    def where(self, *keys: str) -> Position | None:
        """The place of the first of these keys that the group has, else of its name."""
        return next((self.places[key] for key in keys if key in self.places), self.places.get(""))


@dataclass(frozen=True)
class Update:
    """`every` microbatches make one update; `write` says whether the updates of one stage form a chain."""

    every: int = 1
    write: str = "ordered"
    reduce: str = "mean"


@dataclass(frozen=True)
class Weights:
    """Which weights forward and backward read: `latest`, or for the backward `same`, what its forward read."""

    forward: str = "latest"
    backward: str = "latest"


@dataclass(frozen=True)
class Expect:
    """What the author states about one instance; `check` asserts it there."""

    stages: int
    staleness: tuple[Fraction, ...] | None = None
    period: Fraction | None = None
    costs: Costs = Costs()
    places: Mapping[str, Position] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Schedule:
    streams: tuple[StreamGroup, ...]
    name: str = ""
    description: str = ""
    paper: Paper | None = None
    stages: str | int | tuple[StageRange, ...] = "auto"
    devices: Expression = Number(1)
    place: Expression = Binary("//", Binary("*", Name("s"), Name("D")), Name("S"))
    in_flight: Expression | None = None
    rules: tuple[Rule, ...] = ()
    update: Update = Update()
    weights: Weights = Weights()
    costs: Costs = Costs()
    expect: Expect | None = None
    job: Node | None = field(default=None, compare=False)
    places: Mapping[str, Position] = field(default_factory=dict, compare=False)
    file: str = field(default="", compare=False)

    def where(self, *keys: str) -> Position | None:
        """The place of the first of these keys that the file has, else the beginning of the schedule."""
        return next((self.places[key] for key in keys if key in self.places), self.places.get(""))

    @property
    def ops(self) -> frozenset[Op]:
        return frozenset(op for group in self.streams for op in group.runs)

    def __str__(self) -> str:
        from asyncpipe.schedule.canonical import canonical_text

        return canonical_text(self)
