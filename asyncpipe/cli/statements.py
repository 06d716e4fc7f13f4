"""Statements that `check` and `simulate` share, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from asyncpipe.analysis.bounds import Bounds
from asyncpipe.analysis.loops import Loop
from asyncpipe.analysis.memory import Memory
from asyncpipe.analysis.staleness import Staleness
from asyncpipe.cli.options import counted, several

__all__ = ["binding_text", "bounds_json", "memory_json", "memory_texts", "staleness_json"]


def binding_text(found: Bounds, period: Fraction) -> str:
    """What holds the period back, in words."""
    binding = found.binding(period)
    verb = "is" if len(found.streams) == 1 else "are"
    busy = f"{several(found.streams)} {verb} always busy"
    if binding == "order":
        return f"the order of the streams: {float(period / found.best - 1):.1%} above both bounds"
    if binding == "resource":
        return busy
    cycle = "" if found.cycle is None else f"a cycle through {_ends(found.cycle)}"
    return cycle if binding == "recurrence" else f"{busy}; {cycle}"


def _ends(loop: Loop) -> str:
    """The reason that closes a cycle: its only wait for an earlier microbatch, mostly."""
    reasons = [step.reason for step in (*loop.steps[1:], loop.steps[0])]
    written = [reason for reason in dict.fromkeys(reasons) if reason != "data flow"]
    return ", ".join(written[-2:]) or "data flow"


def memory_texts(found: Memory) -> Iterator[tuple[str, str]]:
    """Per device (one line for all that are equal), or the largest where there are many."""
    each = [(device.activations, device.parameters) for device in found.devices]
    kinds = list(dict.fromkeys(each))
    if len(kinds) > 4:
        most = (max(a for a, _ in each), max(p for _, p in each))
        yield f"{len(each)} devices", f"at most {_held(found.in_bytes, *most)}"
        return
    for kind in kinds:
        devices = [found.devices[i].device for i, other in enumerate(each) if other == kind]
        name = f"device {devices[0]}" if len(devices) == 1 else f"{len(devices)} devices"
        yield name, _held(found.in_bytes, *kind)


def _held(in_bytes: bool, activations: int, parameters: int) -> str:
    if in_bytes:
        return f"{_bytes(activations + parameters)}: activations {_bytes(activations)}, parameters {_bytes(parameters)}"
    return f"activations of {counted(activations, 'stage')}, parameters of {counted(parameters, 'stage')}"


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def staleness_json(found: Staleness) -> dict[str, Any]:
    return {
        "apply": [float(value) for value in found.apply],
        "max": list(found.max),
        "forward_backward": [float(value) for value in found.forward_backward],
    }


def bounds_json(found: Bounds, unit: Fraction) -> dict[str, float | None]:
    """Per microbatch; a recurrence of 0 where nothing waits in a cycle, null where that was not looked for."""
    recurrence = None if found.recurrence is None else float(found.recurrence * unit)
    return {"resource": float(found.resource * unit), "recurrence": recurrence}


def memory_json(found: Memory) -> dict[str, Any]:
    """Peaks per device: in bytes, or in stages."""
    rows = [{"device": d.device, "activations": d.activations, "parameters": d.parameters} for d in found.devices]
    return {"unit": "bytes" if found.in_bytes else "stages", "devices": rows}
