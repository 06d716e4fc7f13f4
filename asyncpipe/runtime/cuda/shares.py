"""Which SMs of a device streams get for themselves: what can be asked for, decided without a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpipe.errors import Diagnostic, MachineError

__all__ = ["Granularity", "Share", "require_shares", "smallest_groups"]


@dataclass(frozen=True)
class Share:
    """What one stream asks for: `sms` of its own, or 0 for all that no stream has asked for."""

    stream: str
    sms: int
    priority: int = 0


@dataclass(frozen=True)
class Granularity:
    """The SMs of a device, given out in multiples of `step`, at least `least`: on Hopper (9.0) 8 and 8."""

    total: int
    least: int = 8
    step: int = 8

    @property
    def shared(self) -> int:
        """How many can be given out; a last part stays."""
        return self.total // self.step * self.step


def require_shares(device: int, shares: Sequence[Share], of: Granularity) -> None:
    """AP705 for the first of the asks that the device cannot meet."""
    if (reason := _refused(device, shares, of)) is not None:
        raise MachineError.of(Diagnostic("AP705", *reason))


def _refused(device: int, shares: Sequence[Share], of: Granularity) -> tuple[str, None, str] | None:
    asks = [share for share in shares if share.sms]
    for share in asks:
        if share.sms % of.step or share.sms < of.least:
            message = (
                f"stream {share.stream} asks for {share.sms} SMs; device {device} gives them out in multiples of"
                f" {of.step}, at least {of.least}"
            )
            return message, None, f"set `sms` to {_nearest(share.sms, of)}"
    asked = sum(share.sms for share in asks)
    text = " + ".join(str(share.sms) for share in asks) + (f" = {asked}" if len(asks) > 1 else "")
    if asked > of.shared:
        message = f"the streams ask for {text} SMs; device {device} has {of.total}, of which it gives out {of.shared}"
        return message, None, "ask for fewer, or leave `sms` out: streams then share all of them"
    others = [share.stream for share in shares if not share.sms]
    if others and asked == of.shared:
        message = f"the streams ask for {text} SMs, all that device {device} gives out; none are left for {others[0]}"
        return message, None, f"leave at least {of.least}, or give every stream its `sms`"
    return None


def _nearest(sms: int, of: Granularity) -> str:
    below, above = sms // of.step * of.step, -(-sms // of.step) * of.step
    return f"{max(above, of.least)}" if below < of.least else f"{below} or {above}"


def smallest_groups(shares: Sequence[Share], of: Granularity) -> list[range]:
    """Of the device's smallest groups, numbered from 0, those of each stream; streams without an ask have the rest."""
    found, at = [], 0
    for share in shares:
        found.append(range(at, at + share.sms // of.step))
        at += share.sms // of.step
    rest = range(at, of.total // of.step)
    return [groups if share.sms else rest for share, groups in zip(shares, found, strict=True)]
