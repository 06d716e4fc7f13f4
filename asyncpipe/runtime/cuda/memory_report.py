"""A plan of memory for people and programs: what fits, what does not, and what ran out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from asyncpipe.errors import Diagnostic, OutOfMemoryError
from asyncpipe.runtime.cuda.api import DeviceMemory
from asyncpipe.runtime.cuda.memory_knobs import knobs
from asyncpipe.runtime.cuda.memory_plan import CLASSES, DevicePlan, MemoryPlan

__all__ = ["exhausted", "plan_as_json", "require_room", "sized"]

_WORDS = {"optimizer": "optimizer state", "versions": "versions of weights", "graph": "graph itself"}
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def require_room(plan: MemoryPlan) -> None:
    """AP706 for the first device on which the plan does not fit."""
    for device in plan.devices:
        if not device.fits:
            raise OutOfMemoryError.of(_does_not_fit(plan, device))


def _does_not_fit(plan: MemoryPlan, device: DevicePlan) -> Diagnostic:
    needed, free = sized(device.total - device.exists), sized(device.available)
    message = f"the training needs {needed} more on device {device.device}, which has {free} left"
    rows = [f"{_words(name):<20} {sized(device.bytes[name]):>10}" for name in CLASSES if device.bytes[name]]
    return Diagnostic("AP706", message, hint=_hint(plan, device), notes=_notes([*rows, *_unknown(plan)]))


def exhausted(
    plan: MemoryPlan, device: int, held: Mapping[str, int], now: DeviceMemory, error: OutOfMemoryError
) -> OutOfMemoryError:
    """The error with a table of what was planned and what was held when memory ended. `now`: with how much left."""
    planned = plan.of(device)
    rows = [f"{'':<20} {'planned':>10} {'held':>10}"]
    for name in (name for name in CLASSES if planned.bytes[name] or held.get(name)):
        found = sized(held[name]) if name in held else "-"
        rows.append(f"{_words(name):<20} {sized(planned.bytes[name]):>10} {found:>10}")
    rows.append(f"{'all else':<20} {'-':>10} {sized(max(0, now.used - sum(held.values()))):>10}")
    return OutOfMemoryError.of(
        Diagnostic("AP707", error.message, hint=_hint(plan, planned), notes=_notes([*rows, *_unknown(plan)]))
    )


def _hint(plan: MemoryPlan, device: DevicePlan) -> str:
    changes = [f"{knob.name} {knob.change} ({sized(knob.frees)})" for knob in knobs(plan, device.device)]
    known = f"these free about: {', '.join(changes)}" if changes else "use a smaller model or batch"
    return f"{known}; or spread the stages over more devices"


def _words(name: str) -> str:
    return _WORDS.get(name, name)


def _unknown(plan: MemoryPlan) -> Iterator[str]:
    if plan.unknown:
        yield f"not known before it runs: {', '.join(plan.unknown)}"


def _notes(rows: list[str]) -> tuple[tuple[str, None], ...]:
    return tuple((row, None) for row in rows)


def plan_as_json(plan: MemoryPlan) -> dict[str, Any]:
    """Bytes by device and class, and what would free how much."""
    return {
        "devices": [
            {
                "device": device.device,
                "planned": dict(device.bytes),
                "total": device.total,
                "available": device.available + device.exists,
                "frees": [{"knob": k.name, "change": k.change, "bytes": k.frees} for k in knobs(plan, device.device)],
            }
            for device in plan.devices
        ],
        "unknown": list(plan.unknown),
    }


def sized(count: int) -> str:
    """`640 B`, `1.5 KiB`, `12.0 GiB`."""
    power = min((max(count, 1).bit_length() - 1) // 10, len(_UNITS))
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}" if power else f"{count} B"
