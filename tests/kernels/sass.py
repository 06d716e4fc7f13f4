"""What a cubin says of itself: its resources, its instructions, and those that its widest accesses surround."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "KINDS",
    "Instruction",
    "count",
    "disassemble",
    "is_global_access",
    "parse",
    "path_of_wide_accesses",
    "resources",
    "wide_accesses",
    "width",
]

LINE = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@(?P<guard>!?U?P\w+)\s+)?(?P<name>[A-Z][\w.]*)(?P<operands>[^;]*);")
LABEL = re.compile(r"^(\.L\w+):")
TARGET = re.compile(r"`\((\.L\w+)\)")
GLOBAL = re.compile(r"(LDG|STG|LD|ST|RED|REDG|ATOM|ATOMG)(\.|$)")
VECTOR = re.compile(r"\.(?:BF|F)(\d+)x(\d)")
BITS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "F64": 64, "128": 128}
ENDS = ("BRA", "EXIT", "RET")
KINDS = {"LDG": "load", "LD": "load", "STG": "store", "ST": "store"}
"""Opcodes of accesses to global memory; the others are atomic."""


@dataclass(frozen=True)
class Instruction:
    """`name` with its modifiers, such as LDG.E.128; `guard` is the predicate, or nothing; `target` of a branch."""

    name: str
    guard: str = ""
    target: str = ""


@dataclass
class Block:
    """Instructions of which all are executed once the first one is."""

    labels: list[str]
    instructions: list[Instruction]


def resources(cuobjdump: str, cubin: Path) -> dict[str, int]:
    """REG (registers of a thread), STACK, LOCAL and SHARED (bytes) of the only kernel in it."""
    command = [cuobjdump, "--dump-resource-usage", str(cubin)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", text)}


def disassemble(nvdisasm: str, cubin: Path) -> list[Block]:
    """The blocks of the only kernel in it, in the order of their addresses."""
    return parse(subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout)


def parse(text: str) -> list[Block]:
    """Blocks of the text that nvdisasm prints."""
    blocks = [Block([], [])]
    for line in text.splitlines():
        if label := LABEL.match(line):
            if blocks[-1].instructions:
                blocks.append(Block([], []))
            blocks[-1].labels.append(label[1])
        elif found := LINE.match(line):
            target = TARGET.search(found["operands"])
            blocks[-1].instructions.append(
                Instruction(found["name"], found["guard"] or "", target[1] if target else "")
            )
            if _is(blocks[-1].instructions[-1], ENDS):
                blocks.append(Block([], []))
    return [block for block in blocks if block.instructions]


def is_global_access(name: str) -> bool:
    """Whether an instruction loads, stores, reduces or exchanges in global memory."""
    return GLOBAL.match(name) is not None


def width(name: str) -> int:
    """Bits that one thread accesses with one instruction."""
    if vector := VECTOR.search(name):
        return int(vector[1]) * int(vector[2])
    return next((BITS[part] for part in name.split(".") if part in BITS), 32)


def wide_accesses(names: Mapping[str, int]) -> dict[str, int]:
    """Accesses of 16 bytes among so many instructions of each name; atomic ones of fewer count by their bytes."""
    found = {"load": 0, "store": 0, "atomic": 0}
    for name, number in names.items():
        if is_global_access(name):
            kind = KINDS.get(name.split(".")[0], "atomic")
            found[kind] += number * width(name) // 128 if kind == "atomic" else number * (width(name) == 128)
    return found


def count(instructions: Iterable[Instruction]) -> dict[str, int]:
    """How many there are of each name."""
    return dict(Counter(instruction.name for instruction in instructions))


def path_of_wide_accesses(blocks: Sequence[Block], bits: int = 128) -> list[Instruction]:
    """All that a thread may meet between two accesses of so many bits without a branch backwards: one turn of a loop.

    What the loop may do instead of them, such as a masked block, is not part of it.
    """
    ahead = [[to for to in successors if to > at] for at, successors in enumerate(_successors(blocks))]
    reached = [any(is_global_access(i.name) and width(i.name) >= bits for i in block.instructions) for block in blocks]
    reaches = list(reached)
    for at, successors in enumerate(ahead):
        for to in successors:
            reached[to] |= reached[at]
    for at in reversed(range(len(blocks))):
        reaches[at] |= any(reaches[to] for to in ahead[at])
    inside = (block for block, *both in zip(blocks, reached, reaches, strict=True) if all(both))
    return [instruction for block in inside for instruction in block.instructions]


def _successors(blocks: Sequence[Block]) -> Iterator[list[int]]:
    """A call goes on with what follows it, since subroutines return."""
    places = {label: at for at, block in enumerate(blocks) for label in block.labels}
    for at, block in enumerate(blocks):
        last = block.instructions[-1]
        jumps = [places[last.target]] if _is(last, ["BRA"]) and last.target in places else []
        goes_on = (last.guard != "" or not _is(last, ENDS)) and at + 1 < len(blocks)
        yield jumps + [at + 1] * goes_on


def _is(instruction: Instruction, names: Sequence[str]) -> bool:
    return instruction.name.split(".")[0] in names
