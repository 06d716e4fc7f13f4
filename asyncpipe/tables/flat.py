"""Flat tables: explicit orders of a million actions, generated, lowered, verified and timed as arrays.

    table = generate("interleaved-1f1b", devices=8, stages=32, microbatches=5320)
    graph = verify(lower(table))                    # Graph, or Faults
    times = simulate(graph, {"F": 1, "B": 2})       # exact, in ticks
    times = retime(times, {"F": 3, "B": 5})

numpy is imported here and in the files beside it, which are imported only where a table is large.
"""

from __future__ import annotations

from asyncpipe.tables.flat_faults import Fault, Faults
from asyncpipe.tables.flat_generate import FLAT_NAMES, generate
from asyncpipe.tables.flat_graph import Graph
from asyncpipe.tables.flat_lower import lower
from asyncpipe.tables.flat_simulate import TickCosts, Times, retime, simulate
from asyncpipe.tables.flat_table import OPS, FlatTable, Site, from_text
from asyncpipe.tables.flat_verify import verify

__all__ = [
    "FLAT_NAMES",
    "OPS",
    "Fault",
    "Faults",
    "FlatTable",
    "Graph",
    "Site",
    "TickCosts",
    "Times",
    "from_text",
    "generate",
    "lower",
    "retime",
    "simulate",
    "verify",
]
