"""The two compiled levels as data: L1 tables of actions, and L2 stream programs. The package's only door."""

from asyncpipe.ir.action import AUTHORED, TRANSFERS, Action, Op, parse_action, parse_relative, relative_text
from asyncpipe.ir.parser import parse_program, parse_table
from asyncpipe.ir.partition import Blocks
from asyncpipe.ir.program import Instruction, Kind, Launch, Program, ProgramStream
from asyncpipe.ir.replay import Event, TicksOf, replay, replay_replicas
from asyncpipe.ir.table import Cell, Table, TableStream
from asyncpipe.ir.timed import DeviceClock, TimedAction, TimedRun

__all__ = [
    "AUTHORED",
    "TRANSFERS",
    "Action",
    "Blocks",
    "Cell",
    "DeviceClock",
    "Event",
    "Instruction",
    "Kind",
    "Launch",
    "Op",
    "Program",
    "ProgramStream",
    "Table",
    "TableStream",
    "TicksOf",
    "TimedAction",
    "TimedRun",
    "parse_action",
    "parse_program",
    "parse_relative",
    "parse_table",
    "relative_text",
    "replay",
    "replay_replicas",
]
