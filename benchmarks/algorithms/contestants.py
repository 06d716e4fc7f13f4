"""Who takes part in the delay curve, and how fast each one should be by closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from observed import STAGES

from asyncpipe.api import simulate
from asyncpipe.compiler import compile_schedule
from asyncpipe.ir import Op
from asyncpipe.schedule import Schedule, load

__all__ = ["CONTESTANTS", "Contestant", "simulated_rate"]

STEP = 3.0
"""Forward and backward of one microbatch, in T: a backward costs two forwards."""
WORKERS = 4


@dataclass(frozen=True)
class Contestant:
    """A schedule with four workers (sgd has one, async-lu three streams), of which `late` is late.

    `rate`: microbatches per T of all workers by the delay, once for each microbatch, in T: one forward through the
    whole model. Derived in the README.
    """

    name: str
    late: str
    rate: Callable[[float], float]
    overrides: tuple[str, ...] = ()

    def schedule(self) -> Schedule:
        return load(self.name, list(self.overrides))


def synchronous(workers: int) -> Callable[[float], float]:
    """All wait for the late one in every step."""
    return lambda delay: workers / (STEP + delay)


def independent(workers: int) -> Callable[[float], float]:
    """Nobody waits: the others go on at full speed."""
    return lambda delay: (workers - 1) / STEP + 1 / (STEP + delay)


def coupled(replicas: int, workers: int) -> Callable[[float], float]:
    """`in_flight` bounds how far workers of a replica drift apart: in the replica of the late one all keep its pace."""
    return lambda delay: workers * ((replicas - 1) / STEP + 1 / (STEP + delay))


def pipelined(backwards: int) -> Callable[[float], float]:
    """Backward streams take microbatches in turn, so all keep the late one's pace; the forward stream caps the rate."""
    return lambda delay: min(1.0, backwards / (STEP - 1 + delay))


_TWO_WORKERS = "streams.worker.count=2"
_LATER = "phases="
"""The steady state: what comes after the first half of the training."""
_ALL = (
    Contestant("sgd", "main", synchronous(1)),
    Contestant("ddp", "replica[0]", synchronous(WORKERS)),
    Contestant("lapsgd", "replica[0].worker[0]", independent(WORKERS), (_TWO_WORKERS, _LATER)),
    Contestant("lppsgd", "replica[0].worker[0]", coupled(2, 2), (_TWO_WORKERS, "in_flight=3", _LATER)),
    Contestant("async-lu", "backward[0]", pipelined(2)),
    Contestant("layup", "replica[0]", independent(WORKERS)),
)
CONTESTANTS = {contestant.name: contestant for contestant in _ALL}


def simulated_rate(contestant: Contestant, delay: float) -> float:
    """Microbatches per T that `asyncpipe simulate --delay` states, in the steady state."""
    program = compile_schedule(contestant.schedule(), STAGES).program()
    forward = sum(program.costs[Op.F]) * program.unit
    delays = {contestant.late: delay * float(forward)} if delay else {}
    return float(simulate(program, delays=delays).throughput * forward)
