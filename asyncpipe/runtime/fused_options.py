"""The options of a built-in optimizer as the fused kernels take them: flags of the code, numbers on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncpipe.errors import UsageError
from asyncpipe.kernels.fused.options import Options
from asyncpipe.runtime.attachments import Attachments

__all__ = ["RULE_OF", "FusedOptions", "fused_options"]

RULE_OF: Mapping[str, str] = {"sgd": "sgd", "adam": "adam", "adamw": "adam", "nadam": "nadam", "lion": "lion"}
"""The kernel of each optimizer."""
DECOUPLED = ("adamw", "lion")
"""Those whose weight decay never goes through the gradient; others may have the option."""
FLAGS = ("nesterov", "amsgrad", "maximize")
NUMBERS = ("weight_decay", "eps", "dampening", "momentum_decay")


@dataclass(frozen=True)
class FusedOptions:
    """`rule` names the kernel's rule; `scalars` are all numbers but lr."""

    rule: str
    options: Options
    scalars: Mapping[str, float]


def fused_options(use: str, values: Mapping[str, Any], attachments: Attachments) -> FusedOptions:
    """`values` as `read_options` returns them; UsageError where they contradict the attachments."""
    attachments.require_options(use, values)
    try:
        options = Options(
            transforms=tuple(attachments.transforms),
            lr_over_staleness=attachments.staleness_power != 0,
            decay=_decay(use, values),
            atomic=attachments.atomic,
            momentum=values.get("momentum", 0.0) != 0,
            spike=attachments.spike,
            **{name: values.get(name, False) for name in FLAGS},
        )
    except ValueError as error:
        raise UsageError(f"optimizer {use}: {error}") from error
    return FusedOptions(RULE_OF[use], options, _scalars(values, attachments))


def _decay(use: str, values: Mapping[str, Any]) -> Any:
    if values["weight_decay"] == 0:
        return "none"
    return "decoupled" if use in DECOUPLED or values.get("decoupled_weight_decay", False) else "coupled"


def _scalars(values: Mapping[str, Any], attachments: Attachments) -> dict[str, float]:
    beta1, beta2 = values.get("betas", (values.get("momentum", 0.0), 0.0))
    return {
        **{name: values[name] for name in NUMBERS if name in values},
        **{str(name): number for name, number in attachments.transforms.items()},
        "beta1": beta1,
        "beta2": beta2,
        "staleness": attachments.staleness,
        "staleness_power": attachments.staleness_power,
        "horizon": attachments.horizon,
        "drift_decay": attachments.drift_decay or 0.0,
        "drift_horizon": attachments.drift_horizon,
    }
