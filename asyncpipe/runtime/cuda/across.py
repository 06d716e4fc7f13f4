"""What several real devices cannot do that one can."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from asyncpipe.ir import Op, Program
from asyncpipe.runtime.cuda.apart import streams_apart
from asyncpipe.runtime.cuda.device_streams import lessons_across
from asyncpipe.runtime.platform import Refusal

__all__ = ["cannot_cross"]

_EMULATE = "add --emulate, which runs all of them on one device, or place the streams with their stages"
_STREAMS = "use --backend streams, or --emulate"

_NEEDS: dict[str, Callable[[Program], bool]] = {
    "weights: {backward: private}": lambda program: program.backward_weights == "private",
    "weights: {forward: latest}": lambda program: program.forward_weights == "latest",
    "update: {write: overwrite}": lambda program: program.write == "overwrite",
    "one replica": lambda program: program.replicas == 1,
    "no recompute": lambda program: program.recompute == "none",
    "no aux": lambda program: program.aux == "chain",
    "no gradient transforms but shrink and clip_norm": lambda program: all(
        text.startswith(("shrink", "clip_norm")) for text in program.gradient
    ),
}
"""Of a program with backwards on other devices than their stages (apart.py)."""


def cannot_cross(program: Program, real: Sequence[int], in_graphs: bool) -> list[Refusal]:
    """`real`: the device of each logical one."""
    return [*_split_stages(program, real), *_lessons(program, real, in_graphs)]


def _split_stages(program: Program, real: Sequence[int]) -> Iterator[Refusal]:
    for stage in range(program.stages):
        apart = streams_apart(program, real, stage)
        if not apart:
            continue
        names = " and ".join(program.streams[stream].name for stream in apart)
        where = f"stage {stage} is on device {program.place[stage]}, and {names} on others work on it"
        missing = [words for words, holds in _NEEDS.items() if not holds(program)]
        if any(not set(program.streams[stream].runs) <= {Op.B, Op.U} for stream in apart):
            missing.append("only whole backwards (B) and updates (U) there")
        if missing:
            yield Refusal("streams", "AP716", f"{where}, which needs {'; '.join(missing)}", _EMULATE)
        return


def _lessons(program: Program, real: Sequence[int], in_graphs: bool) -> Iterator[Refusal]:
    across = lessons_across(program, real) if in_graphs else []
    if across:
        stages = ", ".join(str(stage) for stage in sorted({stage for _, stage in across}))
        text = f"backwards of other devices teach the predictors of stages {stages}, and no graph can hold such lessons"
        yield Refusal("aux", "AP713", text, _STREAMS)
