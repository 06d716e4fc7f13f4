"""Models that cannot be trained as they are cut, or as they have become."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from asyncpipe.errors import UsageError
from asyncpipe.runtime.stage_functions import StageFunctions

__all__ = ["refuse_changed_model", "refuse_tied_stages"]

Layer = tuple[str, nn.Sequential]


def refuse_tied_stages(cut: list[list[Layer]]) -> None:
    """AP601's runtime twin: one parameter in two stages would get two optimizers and two staleness values."""
    owner: dict[int, int] = {}
    for number, part in enumerate(cut):
        for _, module in part:
            for name, parameter in module.named_parameters():
                other = owner.setdefault(id(parameter), number)
                if other != number:
                    raise UsageError(
                        f"parameter {name} is tied between the stages {other} and {number}",
                        "cut the model so that tied parameters share a stage, or use --stages 1",
                    )


def refuse_changed_model(parts: Sequence[StageFunctions]) -> None:
    """The slots share the weights that the model had at its first `fit`; other ones would not be trained."""
    for stage in parts:
        known = zip(stage.arena.names, stage.arena.views, stage.trainable, strict=True)
        found = dict(stage.module.named_parameters(remove_duplicate=False))
        for name, view, trainable in known:
            if found[name].data_ptr() != view.data_ptr() or found[name].requires_grad != trainable:
                raise UsageError(
                    f"parameter {name} of stage {stage.number} was replaced, frozen or thawed since the first fit",
                    "make a new Trainer for the changed model",
                )
