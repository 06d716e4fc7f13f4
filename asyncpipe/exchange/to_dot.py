"""The dependency diagram of a few microbatches as a graph for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from asyncpipe.compiler import Compiled
from asyncpipe.exchange.losses import resolved_predecessors
from asyncpipe.ir import Action, Program

__all__ = ["dot_text"]


def dot_text(compiled: Compiled, microbatches: int) -> str:
    """Streams are boxes with their actions in order (dotted); solid edges are data, those of rules bear their text."""
    program = compiled.program(microbatches)
    streams = [(index, list(_authored(program, index))) for index in range(len(program.streams))]
    lines = [
        f"digraph {_quoted(program.schedule)} {{",
        "  rankdir=LR; node [shape=box, fontname=monospace]; edge [fontname=monospace, fontsize=9];",
    ]
    for index, actions in streams:
        if actions:
            lines += _cluster(index, program.streams[index].name, actions)
    for _, actions in streams:
        for action in actions:
            lines += _edges(compiled, action, microbatches)
    return "\n".join([*lines, "}"]) + "\n"


def _authored(program: Program, stream: int) -> Iterator[Action]:
    return (launch.action for launch in program.launches(stream) if not launch.action.op.is_transfer)


def _cluster(index: int, name: str, actions: list[Action]) -> Iterator[str]:
    yield f"  subgraph cluster_{index} {{ label={_quoted(name)};"
    yield f"    {' '.join(f'{_quoted(str(action))};' for action in actions)}"
    for before, after in pairwise(actions):
        yield f"    {_quoted(str(before))} -> {_quoted(str(after))} [style=dotted, arrowhead=none];"
    yield "  }"


def _edges(compiled: Compiled, action: Action, microbatches: int) -> Iterator[str]:
    for source, origin in dict(resolved_predecessors(compiled, action, microbatches)).items():
        written = f" [color=red, label={_quoted(origin.text)}]" if origin.where else ""
        yield f"  {_quoted(str(source))} -> {_quoted(str(action))}{written};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
