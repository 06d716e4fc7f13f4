"""What the costs trial measured, as times of any cut of the model under any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asyncpipe.analysis.memory import StageSizes
from asyncpipe.analysis.workers import Workers
from asyncpipe.errors import UsageError
from asyncpipe.ir import TRANSFERS, Op
from asyncpipe.models.describe import LayerCost
from asyncpipe.schedule import Costs
from asyncpipe.staging import cut_evenly

__all__ = ["Profile", "read_profile"]

Cut = Sequence[range]
Seconds = Callable[[Op, int], float]
_OWN = frozenset(op.value for op in Op if op not in TRANSFERS)
_FORWARD_SHARE = 1 / 3
"""Of a microbatch, where only its whole time is known: a backward costs about two forwards."""


@dataclass(frozen=True)
class Profile:
    """Seconds of a microbatch of `batch` samples. `threads`, `workers` and `cut` are those of the file's setting."""

    layers: tuple[LayerCost, ...]
    input_bytes: int
    batch: int
    cut: tuple[range, ...]
    threads: int
    workers: int
    cores: int
    alone: Mapping[int, Mapping[str, Any]] = field(repr=False)
    together: Mapping[str, Sequence[float]] | None = field(repr=False)
    multiprocessors: int = 0
    """Of the GPU."""
    most_threads: int = 1
    """Of an action, unless a job says otherwise: torch's own setting."""
    others: float | None = None
    """How many cores others used meanwhile."""

    @property
    def knows_layers(self) -> bool:
        """Whether any cut can be planned, or only the file's own."""
        known = [times["layers"] is not None or "whole_s" in times for times in self.alone.values()]
        return bool(known) and all(known)

    def seconds(self, cut: Cut, threads: int) -> Seconds:
        """The time of an op at a stage of this cut, alone on its cores."""
        if not self.knows_layers:
            return self._own_seconds
        times = self._times(threads)
        if "whole_s" in times:
            return self._estimated(cut, times["whole_s"])
        return lambda op, stage: _stage_seconds(times["layers"], times["whole"], op, cut[stage])

    def _times(self, threads: int) -> Mapping[str, Any]:
        """Those of a GPU do not depend on the threads of the host."""
        return self.alone.get(threads) or next(iter(self.alone.values()), {"hand_over": 0.0})

    def _own_seconds(self, op: Op, stage: int) -> float:
        """Of the file's own cut, as measured beside other actions."""
        times = (self.together or {}).get(op.value)
        return times[stage] if times else 0.0

    def _estimated(self, cut: Cut, whole: float) -> Seconds:
        """Where no action can be timed by itself: the whole time, by FLOPs."""
        work = [sum(self.layers[i].forward_flops + 1 for i in part) for part in cut]

        def seconds(op: Op, stage: int) -> float:
            share = {Op.F: _FORWARD_SHARE, Op.B: 1 - _FORWARD_SHARE}.get(op, _FORWARD_SHARE)
            return 0.0 if op in (*TRANSFERS, Op.U, Op.SYNC) else whole * share * work[stage] / sum(work)

        return seconds

    def at(self, costs: Costs) -> Profile:
        """With the times of a measured profile of the file's own cut; UsageError where that had other stages."""
        stages = len(self.cut)
        wrong = next((len(times) for _, times in costs.values if len(times) not in (1, stages)), None)
        if wrong is not None:
            message = f"--costs: the profile has the times of {wrong} stages, but the model is cut into {stages}"
            raise UsageError(message, f"use --stages {wrong}, or profile this cut")
        known = dict(costs.values)
        times = {op: [float(costs.of(Op(op), s)) for s in range(stages)] for op in known if op in _OWN}
        return replace(self, together=times, alone={})

    def on(self, streams: int, threads: int) -> Workers:
        """The workers that run so many streams, with what slows them down."""
        times = self._times(threads)
        hand_over = float(times["hand_over"])
        count = streams if "whole_s" in times else max(1, min(streams, self.cores // threads))
        busy = range(count)
        return Workers(count, hand_over, hand_over, tuple(1 + self._contention * n * threads for n in busy))

    def default_threads(self, streams: int) -> int:
        """The intra-op threads that `run` takes for so many streams."""
        return max(1, min(self.most_threads, self.cores // streams))

    @property
    def _contention(self) -> float:
        """By how much an action slows down for each further core that is busy; 0 where it was not seen."""
        if self.together is None or self.workers < 2 or not self.knows_layers:
            return 0.0
        seconds = self.seconds(self.cut, self.threads)
        pairs = [(t, seconds(Op(op), s)) for op, times in self.together.items() for s, t in enumerate(times)]
        beside, alone = sum(t for t, _ in pairs), sum(t for _, t in pairs)
        return max(0.0, (beside / alone - 1) / ((self.workers - 1) * self.threads)) if alone else 0.0

    def balanced(self, stages: int, threads: int) -> Cut | None:
        """The cut into so many stages whose longest is as short as possible, by measured times; None without any."""
        times = self._times(threads).get("layers")
        if times is None or stages > len(self.layers):
            return None
        return cut_evenly([sum(each) for each in zip(*times.values(), strict=True)], stages)

    def sizes(self, cut: Cut) -> tuple[StageSizes, ...]:
        """Bytes of each stage, for one microbatch."""
        found, entering = [], self.input_bytes
        for part in cut:
            own = [self.layers[i] for i in part]
            kept = sum(layer.activation_bytes for layer in own)
            found.append(StageSizes(sum(layer.parameter_bytes for layer in own), entering, kept))
            entering = own[-1].activation_bytes
        return tuple(found)


OpSeconds = Mapping[str, Sequence[float]]


def _stage_seconds(layers: OpSeconds, whole: OpSeconds, op: Op, part: range) -> float:
    """The layers' times, less what each cut between two of them had cost."""
    if op is Op.B and "B" not in layers:
        return sum(_stage_seconds(layers, whole, half, part) for half in (Op.I, Op.W))
    name = "F" if op is Op.R else op.value
    if name not in layers:
        return 0.0
    each = layers[name]
    extra = max(0.0, sum(each) - sum(whole[name])) / max(1, len(each) - 1)
    return max(0.0, sum(each[i] for i in part) - extra * (len(part) - 1))


def read_profile(result: Mapping[str, Any]) -> Profile:
    """From the result of a `costs` trial."""
    begin, cut = 0, []
    for count in result["cut"]:
        cut.append(range(begin, begin + count))
        begin += count
    return Profile(
        tuple(LayerCost(**layer) for layer in result["layers"]),
        result["input_bytes"],
        result["batch"],
        tuple(cut),
        result["threads"],
        result["workers"],
        result["cores"],
        {int(threads): times for threads, times in result["alone"].items()},
        result["together"],
        result["multiprocessors"],
        result["most_threads"],
        result["others"],
    )
