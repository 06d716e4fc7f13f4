"""L0: a valid schedule as data, every default filled in. `str(schedule)` is canonical YAML that reads back equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from asyncpipe.errors import Position
from asyncpipe.ir import Action, Op
from asyncpipe.schedule.expression import Binary, Expression, Name, Number
from asyncpipe.schedule.rule import BodyEntry, Rule
from asyncpipe.schedule.source import Node

__all__ = [
    "ALL_STAGES",
    "DEFAULT_COSTS",
    "DEFAULT_ORDER",
    "Aux",
    "Costs",
    "Expect",
    "Paper",
    "Phase",
    "Recompute",
    "Replicas",
    "Schedule",
    "Span",
    "StageRange",
    "StreamGroup",
    "Sync",
    "Transform",
    "Update",
    "Weights",
]

DEFAULT_ORDER = (Op.U, Op.B, Op.I, Op.F, Op.R, Op.W)
DEFAULT_COSTS = {
    Op.F: Fraction(1),
    Op.B: Fraction(2),
    Op.I: Fraction(1),
    Op.W: Fraction(1),
    Op.U: Fraction(0),
    Op.SYNC: Fraction(0),
    "SEND": Fraction(0),
}
Span = tuple[Expression, Expression]
"""First and last stage of a range, both included."""
ALL_STAGES: Span = (Number(0), Name("last"))


@dataclass(frozen=True)
class Costs:
    """The time of each op: one number for all stages, or one per stage. Any unit; the default forward costs 1.

    `SEND` is the cost of every transfer; a recompute costs what the forward costs, unless `R` says otherwise.
    """

    values: tuple[tuple[str, tuple[Fraction, ...]], ...] = ()

    def of(self, op: Op, stage: int) -> Fraction:
        known = dict(self.values)
        key = "SEND" if op.is_transfer else "F" if op is Op.R and "R" not in known else op.value
        times = known.get(key) or (DEFAULT_COSTS[key],)
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
    stages: Span = ALL_STAGES
    device: Expression | None = None
    order: tuple[Op, ...] = DEFAULT_ORDER
    body: tuple[BodyEntry, ...] = ()
    table: str | tuple[tuple[Action, ...], ...] = ()
    """The name of a generator, or one row of actions for each device."""
    assign: str = "round"
    priority: int = 0
    sms: int = 0
    places: Mapping[str, Position] = field(default_factory=dict, compare=False)

    def where(self, *keys: str) -> Position | None:
        """The place of the first of these keys that the group has, else of its name."""
        return next((self.places[key] for key in keys if key in self.places), self.places.get(""))


@dataclass(frozen=True)
class Update:
    """`every` microbatches make one update; `write` says whether the updates of one stage form a chain.

    `scope` partition: worker c updates, and back-propagates to, its own block of stages only; alternate: every other
    microbatch of a worker is whole. `commit` n: every n-th update commits all gradients since the last commit, those
    between are tentative (ACCO, arXiv 2406.02613).
    """

    every: int = 1
    write: str = "ordered"
    owner: str = "shared"
    reduce: str = "mean"
    scope: str = "all"
    commit: int = 1


@dataclass(frozen=True)
class Weights:
    """Which weights forward and backward read.

    Forward: `latest`, `lag` (version g - lag), `predict` (extrapolated by the stage's staleness). Backward: `latest`,
    `same` (what its forward read), `ema` (with decay `gamma`), `private` (the stream's own copy).
    """

    forward: str = "latest"
    backward: str = "latest"
    lag: int = 0
    gamma: Fraction = Fraction(0)

    @property
    def texts(self) -> tuple[str, str]:
        """As written: `lag(1)`, `ema(9/10)`."""
        forward = f"lag({self.lag})" if self.forward == "lag" else self.forward
        return forward, f"ema({self.gamma})" if self.backward == "ema" else self.backward


@dataclass(frozen=True)
class Transform:
    """One step between a gradient and its update; `value` is the step's parameter, None for a switch."""

    kind: str
    value: Fraction | None = None
    where: Position | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{{{self.kind}: {'true' if self.value is None else self.value}}}"


@dataclass(frozen=True)
class Recompute:
    """`full`: the forward keeps its input only, and runs again before the backward; `invert`: it keeps nothing, the
    stage is reversible. `stages` says for which.
    """

    mode: str = "none"
    stages: Span = ALL_STAGES


@dataclass(frozen=True)
class Aux:
    """Where the gradient of a stage's output comes from: `chain` from the stage above, `local` from an auxiliary loss
    at the stage (DGL), `synthetic` from a model that predicts it (DNI)."""

    gradient: str = "chain"
    stages: Span = (Number(0), Binary("-", Name("last"), Number(1)))


@dataclass(frozen=True)
class Sync:
    """How replicas stay together: `allreduce` of gradients, `average` of parameters every so many updates, `outer`
    steps (DiLoCo), or `push` of new parameters to a random peer (LayUp). A `blocking` one makes the next forward wait.
    """

    kind: str
    every: int = 1
    blocking: bool = True
    granularity: str = "stage"
    lr: Fraction = Fraction(7, 10)
    momentum: Fraction = Fraction(9, 10)
    nesterov: bool = True


@dataclass(frozen=True)
class Replicas:
    """`count` full copies of the parameters, each with streams and devices of its own."""

    count: int = 1
    sync: Sync | None = None


@dataclass(frozen=True)
class Phase:
    """In what the training differs at first: up to so many updates, or up to that share of them all.

    scope: of updates; sync: of replicas; None as in the file.
    """

    until: int | Fraction
    scope: str | None = None
    sync: Sync | None = None
    where: Position | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Expect:
    """What the author states about one instance; `check` asserts it there."""

    stages: int
    staleness: tuple[Fraction, ...] | None = None
    period: Fraction | None = None
    max_staleness: int | None = None
    versions: tuple[int, ...] | None = None
    costs: Costs = Costs()
    places: Mapping[str, Position] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Schedule:
    streams: tuple[StreamGroup, ...]
    name: str = ""
    description: str = ""
    paper: Paper | None = None
    ratio: str = ""
    """`auto`: as many streams of each group as keep up with the group that has the least work."""
    stages: str | int | tuple[StageRange, ...] = "auto"
    devices: Expression = Number(1)
    place: Expression | tuple[int, ...] = Binary("//", Binary("*", Name("s"), Name("D")), Name("S"))
    in_flight: Expression | None = None
    rules: tuple[Rule, ...] = ()
    update: Update = Update()
    weights: Weights = Weights()
    gradient: tuple[Transform, ...] = ()
    aux: Aux = Aux()
    recompute: Recompute = Recompute()
    replicas: Replicas = Replicas()
    phases: tuple[Phase, ...] = ()
    """What the training begins with, one after another; then comes the schedule as it stands."""
    costs: Costs = Costs()
    expect: Expect | None = None
    job: Node | None = field(default=None, compare=False)
    places: Mapping[str, Position] = field(default_factory=dict, compare=False)
    file: str = field(default="", compare=False)

    def where(self, *keys: str) -> Position | None:
        """The place of the first of these keys that the file has, else the beginning of the schedule."""
        return next((self.places[key] for key in keys if key in self.places), self.places.get(""))

    def during(self, phase: Phase) -> Schedule:
        """What runs in a phase."""
        return replace(
            self,
            update=replace(self.update, scope=phase.scope or self.update.scope),
            replicas=replace(self.replicas, sync=phase.sync or self.replicas.sync),
            phases=(),
            expect=None,
            places={**self.places, **dict.fromkeys(("update", "replicas"), phase.where or Position(self.file, 1, 1))},
        )

    @property
    def ops(self) -> frozenset[Op]:
        return frozenset(op for group in self.streams for op in group.runs)

    def __str__(self) -> str:
        from asyncpipe.schedule.canonical import canonical_text

        return canonical_text(self)
