"""Why clocks are not at their highest: the bits of NVML's mask as words."""

from __future__ import annotations

__all__ = ["is_power_cap", "is_slowdown", "throttle_words"]

_WORDS = {
    0x001: "idle",
    0x002: "application clocks",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability limit",
}
"""Both `nvmlClocksEventReason*` and the older `nvmlClocksThrottleReason*`, whose numbers are the same."""
_SLOWDOWNS = {_WORDS[bit] for bit in (0x008, 0x020, 0x040, 0x080)}
_POWER_CAPS = {_WORDS[bit] for bit in (0x004, 0x200)}


def throttle_words(mask: int) -> tuple[str, ...]:
    """Every reason in the mask, lowest bit first; a bit that has no word is written as a number."""
    bits = (1 << position for position in range(mask.bit_length()))
    return tuple(_WORDS.get(bit, f"reason {bit:#x}") for bit in bits if mask & bit)


def is_slowdown(reason: str) -> bool:
    """Heat or the power supply: a measurement of that time says nothing about the program."""
    return reason in _SLOWDOWNS


def is_power_cap(reason: str) -> bool:
    """The limit on power, which kernels that fill the GPU reach in ordinary work."""
    return reason in _POWER_CAPS
