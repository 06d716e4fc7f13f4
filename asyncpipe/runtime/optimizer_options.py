"""Options of the built-in optimizers: what each accepts, its defaults, and errors that name the remedy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from asyncpipe.errors import UsageError

__all__ = ["OPTIONS", "Option", "read_options", "suggestion"]


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


def non_negative(default: float) -> Option:
    return Option(default, "a finite number of at least 0", read_non_negative)


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
}
"""Names, meanings and defaults are those of torch.optim."""


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
    if not problems and values.get("nesterov") and (values["momentum"] == 0 or values["dampening"] != 0):
        problems.append("optimizer sgd: nesterov needs a momentum above 0 and a dampening of 0")
    if problems:
        expected = "; ".join(f"{name}: {option.expected}" for name, option in allowed.items())
        raise UsageError("; ".join(problems), f"options of {use}: {expected}")
    return values


def suggestion(word: str, known: Collection[str]) -> str:
    """' (did you mean ...?)' where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
