"""Options of the built-in optimizers: what each accepts, its defaults, and errors that name the remedy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from asyncpipe.errors import UsageError

__all__ = ["CHOICES", "OPTIONS", "Option", "read_options", "suggestion"]


@dataclass(frozen=True)
class Option:
    """A default, and what is accepted: `read` returns the plain value or raises ValueError."""

    default: object
    expected: str
    read: Callable[[object], object]


def read_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def read_non_negative(value: object) -> float:
    number = read_number(value)
    if number < 0:
        raise ValueError
    return number


def read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def read_betas(value: object) -> tuple[float, float]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError
    first, second = map(read_non_negative, value)
    if max(first, second) >= 1:
        raise ValueError
    return first, second


def read_coefficients(value: object) -> tuple[float, float, float]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3:
        raise ValueError
    first, second, third = map(read_number, value)
    return first, second, third


def read_iterations(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 100:
        raise ValueError
    return value


def read_adjustment(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value in ADJUSTMENTS):
        return value
    raise ValueError


def non_negative(default: float) -> Option:
    return Option(default, "a finite number of at least 0", read_non_negative)


ADJUSTMENTS = ("original", "match_rms_adamw")
FLAG = Option(False, "true or false", read_flag)
BETAS = Option((0.9, 0.999), "two numbers from 0 up to, but not including, 1", read_betas)
ADAM = {
    "betas": BETAS,
    "eps": non_negative(1e-8),
    "weight_decay": non_negative(0.0),
    "amsgrad": FLAG,
    "maximize": FLAG,
}

OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "sgd": {
        "momentum": non_negative(0.0),
        "dampening": Option(0.0, "a finite number", read_number),
        "weight_decay": non_negative(0.0),
        "nesterov": FLAG,
        "maximize": FLAG,
    },
    "adam": ADAM | {"decoupled_weight_decay": FLAG},
    "adamw": ADAM | {"weight_decay": non_negative(1e-2)},
    "nadam": {
        "betas": BETAS,
        "eps": non_negative(1e-8),
        "weight_decay": non_negative(0.0),
        "momentum_decay": non_negative(4e-3),
        "decoupled_weight_decay": FLAG,
        "maximize": FLAG,
    },
    "lion": {
        "betas": replace(BETAS, default=(0.9, 0.99)),
        "weight_decay": non_negative(0.0),
        "maximize": FLAG,
    },
    "muon": {
        "weight_decay": non_negative(0.1),
        "momentum": non_negative(0.95),
        "nesterov": replace(FLAG, default=True),
        "ns_coefficients": Option((3.4445, -4.7750, 2.0315), "three finite numbers", read_coefficients),
        "eps": non_negative(1e-7),
        "ns_steps": Option(5, "a whole number from 0 to 99", read_iterations),
        "adjust_lr_fn": Option(None, f"null, {' or '.join(ADJUSTMENTS)}", read_adjustment),
        "adamw_lr_ratio": non_negative(1.0),
        "adamw_betas": BETAS,
        "adamw_eps": non_negative(1e-8),
        "adamw_weight_decay": non_negative(1e-2),
    },
}
"""Names, meanings and defaults are those of torch.optim; of lion, which it lacks, those of the paper.

`adamw_*` are for the parameters that muon leaves to AdamW, whose rate is `adamw_lr_ratio` times lr.
"""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "arithmetic": ("default", "fused"),
    "precision": ("plain", "master", "stochastic"),
}
"""What can be chosen beside the options of any optimizer; the first is the default."""


def read_options(use: str, options: Mapping[str, object]) -> dict[str, object]:
    """All options of the built-in `use`, defaults filled in; UsageError lists everything that it refuses."""
    allowed = OPTIONS[use]
    values = {name: option.default for name, option in allowed.items()}
    problems: list[str] = []
    for name, value in options.items():
        if name not in allowed:
            problems.append(f"optimizer {use} has no option {name!r}{suggestion(str(name), allowed)}")
            continue
        try:
            values[name] = allowed[name].read(value)
        except ValueError:
            problems.append(f"optimizer {use}: {name} must be {allowed[name].expected}, found {value!r}")
    if not problems and use == "sgd" and values["nesterov"] and (values["momentum"] == 0 or values["dampening"] != 0):
        problems.append("optimizer sgd: nesterov needs a momentum above 0 and a dampening of 0")
    if problems:
        expected = "; ".join(f"{name}: {option.expected}" for name, option in allowed.items())
        raise UsageError("; ".join(problems), f"options of {use}: {expected}")
    return values


def suggestion(word: str, known: Collection[str]) -> str:
    """' (did you mean ...?)' where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
