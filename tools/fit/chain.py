"""Where a module that is no nn.Sequential could be cut: the order of its children, and what passes between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.tools.fit.places import Place, Places
from asyncpipe.tools.fit.record import Key, Operation, Recorder, tensors_in

__all__ = ["Chain", "Link", "find_chain"]

_CONTAINERS = (nn.ModuleList, nn.ModuleDict)
_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "view": nn.Flatten,
    "_unsafe_view": nn.Flatten,
}
"""Operations that a module stands for; whether it does here, a comparison of outputs shows."""


@dataclass(frozen=True)
class Link:
    """One call of a child. crossing: the bytes of each tensor that is made before its end and read after it.

    glue: operations between it and the next child, outside of any.
    """

    name: str
    crossing: tuple[int, ...]
    glue: tuple[tuple[str, Place], ...]

    @property
    def is_cut(self) -> bool:
        return len(self.crossing) == 1


@dataclass(frozen=True)
class Chain:
    """The children in the order of their calls. before: glue ahead of the first. rewritten: code of an nn.Sequential
    that gives the same output on this sample, or nothing."""

    links: tuple[Link, ...]
    before: tuple[tuple[str, Place], ...] = ()
    rewritten: str = ""

    @property
    def glue(self) -> Iterator[tuple[str, Place]]:
        yield from self.before
        for link in self.links:
            yield from link.glue


@dataclass
class _Call:
    name: str
    module: nn.Module
    begin: int
    end: int = -1


@dataclass
class _Observed:
    recorder: Recorder
    calls: list[_Call] = field(default_factory=list)
    hooks: list[Any] = field(default_factory=list)

    def watch(self, name: str, module: nn.Module) -> None:
        self.hooks.append(module.register_forward_pre_hook(lambda owner, _: self._begin(name, owner)))
        self.hooks.append(module.register_forward_hook(lambda *_: self._end(name)))

    def _begin(self, name: str, module: nn.Module) -> None:
        self.calls.append(_Call(name, module, len(self.recorder.operations)))

    def _end(self, name: str) -> None:
        call = next(call for call in reversed(self.calls) if call.name == name and call.end < 0)
        call.end = len(self.recorder.operations)


def find_chain(model: nn.Module, sample: Tensor) -> Chain:
    """Runs the model once in evaluation mode, and twice more to compare if it can be rewritten."""
    model.eval()
    observed = _Observed(Recorder(Places(model)))
    for name, unit in _units(model):
        observed.watch(name, unit)
    given = sample.clone()
    inputs = observed.recorder.see([given])
    try:
        with torch.no_grad(), observed.recorder:
            output = model(given)
    finally:
        for hook in observed.hooks:
            hook.remove()
    outputs = observed.recorder.see(tensors_in(output))
    return _chain(model, sample, observed, inputs, outputs)


def _units(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The children, and instead of containers what these hold."""
    for name, child in module.named_children():
        if type(child) is nn.Sequential or isinstance(child, _CONTAINERS):
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _chain(
    model: nn.Module, sample: Tensor, observed: _Observed, inputs: frozenset[Key], outputs: frozenset[Key]
) -> Chain:
    calls, operations = observed.calls, observed.recorder.operations
    if not calls:
        return Chain(())
    data = _depending(operations, inputs)
    ends = [*(call.begin for call in calls[1:]), len(operations)]
    gaps = [operations[call.end : end] for call, end in zip(calls, ends, strict=True)]
    before = operations[: calls[0].begin]
    links = tuple(
        Link(call.name, _crossing(observed.recorder, call.end, data, inputs, outputs), _glue(gap))
        for call, gap in zip(calls, gaps, strict=True)
    )
    return Chain(links, _glue(before), _rewritten(model, sample, calls, [before, *gaps]))


def _depending(operations: Sequence[Operation], inputs: frozenset[Key]) -> set[Key]:
    """Storages whose content follows from the input."""
    data = set(inputs)
    for operation in operations:
        if not data.isdisjoint(operation.reads):
            data |= operation.makes | operation.overwrites
    return data


def _crossing(
    recorder: Recorder, end: int, data: set[Key], inputs: frozenset[Key], outputs: frozenset[Key]
) -> tuple[int, ...]:
    made = inputs.union(*(operation.makes for operation in recorder.operations[:end]))
    read = outputs.union(*(operation.reads for operation in recorder.operations[end:]))
    return tuple(recorder.bytes[key] for key in sorted(made & read & data))


def _glue(operations: Sequence[Operation]) -> tuple[tuple[str, Place], ...]:
    return tuple((operation.name, operation.place) for operation in operations)


def _rewritten(model: nn.Module, sample: Tensor, calls: Sequence[_Call], gaps: Sequence[Sequence[Operation]]) -> str:
    """Children and glue in a row, if that is what the model computes."""
    row: list[tuple[str, nn.Module]] = []
    for call, gap in zip([None, *calls], gaps, strict=True):
        if call is not None:
            row.append((call.name, call.module))
        for operation in gap:
            if operation.name not in _MODULES:
                return ""
            module = _MODULES[operation.name]()
            row.append((f"torch.nn.{module}", module))
    sequence = nn.Sequential(*(module for _, module in row)).eval()
    return _code(model, row) if _agree(model, sequence, sample) else ""


def _agree(model: nn.Module, sequence: nn.Module, sample: Tensor) -> bool:
    with torch.no_grad():
        try:
            expected, found = model(sample.clone()), sequence(sample.clone())
        except Exception:  # whatever this row of modules cannot do
            return False
    return isinstance(expected, Tensor) and isinstance(found, Tensor) and torch.equal(expected, found)


def _code(model: nn.Module, row: Sequence[tuple[str, nn.Module]]) -> str:
    """`torch.nn.Sequential(model.stem, *model.blocks, model.head)`."""
    parts: list[str] = []
    names = [name for name, _ in row]
    at = 0
    while at < len(names):
        container, _, last = ("", "", "") if names[at].startswith("torch.nn.") else names[at].rpartition(".")
        whole = [f"{container}.{name}" for name, _ in model.get_submodule(container).named_children()]
        if container and last == "0" and names[at : at + len(whole)] == whole:
            parts.append(f"*{_expression(container)}")
            at += len(whole)
        else:
            parts.append(names[at] if names[at].startswith("torch.nn.") else _expression(names[at]))
            at += 1
    return f"torch.nn.Sequential({', '.join(parts)})"


def _expression(name: str) -> str:
    """`model.blocks[0]`, of blocks.0."""
    return "model" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in name.split("."))
