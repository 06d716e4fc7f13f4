"""Before the clock: does every contender train, and do the synchronous ones compute the same?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["UPDATES", "judge", "loss_at_equal_time"]

UPDATES = 40
"""That every contender makes first, from the same weights and on the same batches."""
_COMPARED = 8
_TOLERANCES = {("cpu", "float32"): 2e-3, ("cpu", "bf16"): 5e-2, ("cuda", "float32"): 2e-2, ("cuda", "bf16"): 5e-2}
"""Of a loss: order of summation, TF32 and bfloat16 make that much of a difference within the first updates."""


def judge(losses: Mapping[str, Sequence[float]], sync: Sequence[str], device: str, precision: str) -> dict[str, Any]:
    """For each contender its losses, whether they fall, and by how much they differ from those of the first sync one.

    `wrong`: what is wrong with it, or nothing. A wrong one is measured, and counts for no ratio.
    """
    tolerance = _TOLERANCES[device, precision]
    reference = next((losses[name] for name in losses if name in sync), None)
    found: dict[str, Any] = {}
    for name, values in losses.items():
        first, last = _ends(values)
        difference = _difference(values, reference) if name in sync and reference is not None else None
        wrong = _wrong(first, last, difference, tolerance)
        found[name] = {"first": first, "last": last, "difference": difference, "wrong": wrong}
    return found


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The mean loss of the first quarter, and of the last."""
    quarter = max(1, len(values) // 4)
    return statistics.fmean(values[:quarter]), statistics.fmean(values[-quarter:])


def _difference(values: Sequence[float], reference: Sequence[float]) -> float:
    """The largest relative one within the first updates; later ones amplify any rounding."""
    pairs = zip(values[:_COMPARED], reference[:_COMPARED], strict=True)
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in pairs)


def _wrong(first: float, last: float, difference: float | None, tolerance: float) -> str:
    if not (math.isfinite(first) and math.isfinite(last)):
        return "its loss is not finite"
    if last >= first:
        return f"its loss does not fall: {first:.4g}, then {last:.4g}"
    if difference is not None and not difference <= tolerance:
        return f"its first losses differ by {difference:.1%} from those of the first synchronous contender"
    return ""


def loss_at_equal_time(losses: Mapping[str, Sequence[float]], seconds: Mapping[str, float]) -> dict[str, float]:
    """The mean of the last quarter of each one's losses within the time in which the fastest has made all its updates.

    seconds: of one update. So a larger batch, whose update takes no longer, is compared by what it learns meanwhile.
    """
    known = {name: values for name, values in losses.items() if name in seconds}
    if not known:
        return {}
    time = min(len(values) * seconds[name] for name, values in known.items())
    found = {}
    for name, values in known.items():
        count = max(1, min(len(values), round(time / seconds[name])))
        found[name] = statistics.fmean(values[count - max(1, count // 4) : count])
    return found
