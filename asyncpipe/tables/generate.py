"""The published orders by name, for any size that they are defined for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from asyncpipe.errors import did_you_mean
from asyncpipe.ir import Action
from asyncpipe.tables import looped, v_shaped
from asyncpipe.tables.wording import counted

__all__ = ["NAMES", "TableError", "rows"]

_Order = Callable[[int, int, int, int], Iterable[Action]]


class TableError(ValueError):
    """No table of this name, or none of this size: `message` is the reason, `hint` what to change."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


_ORDERS: dict[str, _Order] = {
    "gpipe": looped.gpipe,
    "1f1b": looped.one_forward_one_backward,
    "interleaved-1f1b": looped.interleaved,
    "zb-h1": looped.zb_h1,
    "looped-bfs": looped.looped_bfs,
    "zbv": v_shaped.zbv,
    "dualpipev": v_shaped.dualpipev,
}
NAMES = tuple(_ORDERS)


def rows(name: str, devices: int, stages: int, microbatches: int) -> tuple[tuple[Action, ...], ...]:
    """The order of each device for one update of `microbatches` microbatches: F, B, I and W, no gaps.

    TableError for an unknown name, and for a size that the order is not defined for.
    """
    if name not in _ORDERS:
        raise TableError(f"no table is called {name!r}", did_you_mean(name, NAMES))
    if min(devices, stages, microbatches) < 1:
        last = counted(microbatches, "microbatch", "microbatches")
        counts = f"{counted(devices, 'device')}, {counted(stages, 'stage')} and {last}"
        raise TableError(f"{name} cannot order {counts}", "each of the three must be at least 1")
    _check_stages(name, devices, stages)
    _check_microbatches(name, devices, microbatches)
    order = _ORDERS[name]
    return tuple(tuple(order(device, devices, stages, microbatches)) for device in range(devices))


def _check_stages(name: str, devices: int, stages: int) -> None:
    if name in ("gpipe", "1f1b") and stages != devices:
        other = "looped-bfs" if name == "gpipe" else "interleaved-1f1b"
        message = f"{name} has one stage on each device, not {counted(stages, 'stage')} on {counted(devices, 'device')}"
        raise TableError(message, f"set stages to {devices}, or use the table {other}")
    if name in ("zbv", "dualpipev") and stages != 2 * devices:
        message = (
            f"{name} has two stages on each device, not {counted(stages, 'stage')} on {counted(devices, 'device')}"
        )
        raise TableError(message, f"set stages to {2 * devices}")
    if stages % devices:
        lower = stages - stages % devices
        choices = f"{lower} or {lower + devices}" if lower else f"{devices}"
        message = f"{name} has equally many stages on each device; {stages} is not a multiple of {devices} devices"
        raise TableError(message, f"set stages to {choices}")


def _check_microbatches(name: str, devices: int, microbatches: int) -> None:
    if name == "dualpipev" and microbatches < 2 * devices:
        message = f"dualpipev needs as many microbatches as stages, {2 * devices}, not {microbatches}"
        raise TableError(message, f"accumulate at least {2 * devices} microbatches in each update")
    if name not in ("interleaved-1f1b", "zb-h1"):
        return
    if not _in_equal_rounds(devices, microbatches):
        rounds = microbatches // devices
        message = f"{name} runs {microbatches} microbatches in {rounds} rounds, and all must be of one size"
        lower = next(m for m in range(microbatches, 0, -1) if _in_equal_rounds(devices, m))
        upper = next(m for m in range(microbatches, 2 * microbatches + 1) if _in_equal_rounds(devices, m))
        raise TableError(message, f"accumulate {lower} or {upper} microbatches in each update")


def _in_equal_rounds(devices: int, microbatches: int) -> bool:
    """A round has as many microbatches as there are devices, or some more; fewer only where it is the only one."""
    return microbatches % max(1, microbatches // devices) == 0
