"""Timelines for the tests of pictures: programs written by hand, and plans of schedules."""

from __future__ import annotations

from functools import cache

from asyncpipe.compiler import Compiled, compile_instance, stage_count
from asyncpipe.errors import Report
from asyncpipe.ir import Action, Program, parse_action, parse_program
from asyncpipe.pictures.timeline import Box, Row, Timeline
from asyncpipe.schedule import load

__all__ = ["SCHEDULES", "boxes_of", "compiled", "hand_made", "launched", "program", "times_of"]

PER_DEVICE = ("devices=2", "streams={compute: {runs: [F, B, U], per: device}}", "in_flight=S - s")
TWO_SIDES = ("devices=2", "streams={forward: {runs: [F], device: 0}, backward: {runs: [B, U], device: 1}}")
SCHEDULES = [
    ("async-lu",),
    ("async-bu",),
    ("hogwild",),
    ("async-lu", "update={every: 3}"),
    ("async-lu", "recompute=full"),
    ("async-lu", "weights={forward: lag(2), backward: same}"),
    ("sgd-ready", "streams={main: {runs: [F, I]}, side: {runs: [W, U]}}"),
    ("sgd", "recompute=full", "streams={main: {runs: [F, R, B, U]}}"),
    ("async-lu", *PER_DEVICE),
    ("async-lu", *TWO_SIDES, "costs={SEND: 1/2, U: 1/3}"),
]
"""Names with overrides: every op and every kind of stream."""

HEADER = """\
program by-hand
stages {stages} every {every} start 0 step 1 iterations 0 microbatches {microbatches}
slots {slots}
place {place}
update ordered mean shared all 1
weights {weights}
gradient
recompute none
aux chain
replicas 1
versions {versions}
costs unit {unit} {costs}
{streams}
warmup
{warmup}
body
cooldown
"""


def program(
    *instructions: str,
    streams: tuple[str, ...] = ("main device 0 runs F B U",),
    stages: int = 1,
    microbatches: int = 2,
    every: int = 1,
    weights: str = "latest latest",
    unit: str = "1",
    costs: str = "F 1 B 2 U 0",
) -> Program:
    """A program of the first instructions: `main launch 0F0`; a cost holds for every stage."""
    each = {"slots": "1", "place": "0", "versions": "1"}
    spread = " ".join(word if word.isalpha() or "_" in word else " ".join([word] * stages) for word in costs.split())
    text = HEADER.format(
        stages=stages,
        every=every,
        microbatches=microbatches,
        weights=weights,
        unit=unit,
        costs=spread,
        streams="\n".join(f"stream {stream}" for stream in streams),
        warmup="\n".join(f"  {line}" for line in instructions),
        **{key: " ".join([value] * stages) for key, value in each.items()},
    )
    return parse_program(text)


def hand_made(**rows: list[tuple[str, float, float]]) -> Timeline:
    """Rows by name; each box is (action, start, end)."""
    made = tuple(
        Row(name, 0, tuple(Box(parse_action(text), start, end) for text, start, end in boxes))
        for name, boxes in rows.items()
    )
    return Timeline(made, max((box.end for row in made for box in row.boxes), default=0.0))


@cache
def compiled(schedule: tuple[str, ...], stages: int | None = None) -> Compiled:
    """A name with overrides, for so many stages or those that it expects."""
    name, *overrides = schedule
    loaded, report = load(name, overrides), Report()
    found = compile_instance(loaded, stage_count(loaded, stages), loaded.costs, report)
    assert found is not None, [diagnostic.message for diagnostic in report.diagnostics]
    return found


def boxes_of(timeline: Timeline) -> dict[str, Box]:
    """The boxes by the text of their action."""
    return {str(box.action): box for row in timeline.rows for box in row.boxes}


def times_of(timeline: Timeline) -> dict[Action, tuple[float, float]]:
    return {box.action: (box.start, box.end) for row in timeline.rows for box in row.boxes}


def launched(program: Program) -> list[list[str]]:
    """The actions of each stream in order, by the program alone."""
    return [[str(launch.action) for launch in program.launches(i)] for i in range(len(program.streams))]
