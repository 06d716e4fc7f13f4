"""The format of what an action means: updates, weights, gradients, recomputation, replicas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from asyncpipe.errors import Position
from asyncpipe.schedule.expression import ExpressionError
from asyncpipe.schedule.format_streams import STAGE_SPAN
from asyncpipe.schedule.kinds import (
    MISSING,
    Choice,
    Integer,
    Key,
    ListOf,
    Object,
    OneOf,
    Parsed,
    Real,
    found,
    fraction,
)
from asyncpipe.schedule.spec import ALL_STAGES, Aux, Phase, Recompute, Replicas, Sync, Transform, Update, Weights
from asyncpipe.schedule.variants import Boolean, OneKey

__all__ = ["AUX", "GRADIENT", "PHASES", "RECOMPUTE", "REPLICAS", "UPDATE", "WEIGHTS"]

Places = Mapping[str, Position]
_MOST = 4096


def _update(places: Places, **values: Any) -> Update:
    return Update(**values)


_SCOPE = Choice(("all", "partition", "alternate"))

UPDATE = Object(
    "update",
    (
        Key("every", Integer(1, _MOST), 1, "how many microbatches make one update"),
        Key(
            "write",
            Choice(("ordered", "racy", "atomic", "overwrite")),
            "ordered",
            "ordered: the updates of a stage form a chain; racy: plain stores; atomic: additions that are never lost;"
            " overwrite: a private copy replaces the shared one",
        ),
        Key("owner", Choice(("shared", "stream")), "shared", "who owns the optimizer state"),
        Key("reduce", Choice(("mean", "sum")), "mean", "how the gradients of one update are joined"),
        Key(
            "scope",
            _SCOPE,
            "all",
            "partition: a worker updates, and back-propagates to, its own block of stages; alternate: every other time",
        ),
        Key("commit", Integer(1, 64), 1, "n: only every n-th update is committed, the others are tentative"),
    ),
    _update,
)


def _forward(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"lag\(\s*([^)]*?)\s*\)", text.strip())
    if match is not None:
        if not match[1].isascii() or not match[1].isdigit() or not 0 < int(match[1][:9]) <= _MOST:
            raise ExpressionError(f"expected lag(n) with n from 1 to {_MOST:,}, found {text!r}", 0, len(text))
        return "lag", int(match[1])
    if text not in ("latest", "predict"):
        raise ExpressionError(f"expected latest, lag(n) or predict, found {text!r}", 0, len(text))
    return text, 0


def _backward(text: str) -> tuple[str, Fraction]:
    match = re.fullmatch(r"ema\(\s*([0-9./]{1,60})\s*\)", text.strip())
    if match is not None or text.strip().startswith("ema"):
        gamma = None if match is None else fraction(match[1])
        if gamma is None or not 0 <= gamma < 1:
            message = f"expected ema(gamma) with a decay from 0 to less than 1, as in ema(0.9), found {text!r}"
            raise ExpressionError(message, 0, len(text))
        return "ema", gamma
    if text not in ("latest", "same", "private"):
        raise ExpressionError(f"expected latest, same, ema(gamma) or private, found {text!r}", 0, len(text))
    return text, Fraction(0)


def _weights(places: Places, forward: Any, backward: Any) -> Weights:
    # A default is a plain word.
    (reads, lag), (reads_back, gamma) = (
        value if isinstance(value, tuple) else (value, 0) for value in (forward, backward)
    )
    return Weights(reads, reads_back, lag, Fraction(gamma))


WEIGHTS = Object(
    "weights",
    (
        Key(
            "forward",
            Parsed(
                "latest, lag(n) or predict",
                _forward,
                "AP105",
                pattern=r"^\s*(latest|predict|lag\(\s*[0-9]{1,4}\s*\))\s*$",
                examples=("latest", "lag(1)", "predict"),
            ),
            "latest",
            "latest when the action starts; lag(n): version g-n; predict: extrapolated by the stage's staleness",
        ),
        Key(
            "backward",
            Parsed(
                "latest, same, ema(gamma) or private",
                _backward,
                "AP105",
                pattern=r"^\s*(latest|same|private|ema\(\s*[0-9./]{1,20}\s*\))\s*$",
                examples=("latest", "same", "ema(0.9)", "private"),
            ),
            "latest",
            "same: what its forward read; ema: the forward's weights, estimated; private: the stream's own copy",
        ),
    ),
    _weights,
)


def _transform(kind: str, value: Any, where: Position) -> Transform:
    return Transform(kind, None if value is True else value, where)


_TRANSFORM = OneKey(
    "a gradient transform",
    (
        Key("shrink", Real(), about="the incoming gradient times this factor, at every stage but the last (FDG)"),
        Key("clip_norm", Real(), about="at most this norm, for each stage by itself"),
        Key("delay_compensation", Real(), about="g + lambda * g * g * (w - w read by the forward) (DC-ASGD)"),
        Key("lr_over_staleness", Real(), about="the learning rate divided by staleness ** p"),
        Key("spike", Boolean(only=True), about="spike compensation of the momentum (pipelined backpropagation)"),
    ),
    _transform,
    refused=(
        (
            "clip_global_norm",
            "one norm over all stages makes every update wait for the whole backward; use clip_norm, for each stage",
        ),
    ),
)
GRADIENT = ListOf(_TRANSFORM, what="a list of gradient transforms, as in [{shrink: 0.5}]")


def _recompute(places: Places, mode: str, stages: Any) -> Recompute:
    return Recompute(mode, stages)


class _ModeOrObject(OneOf):
    """`full`, or `{mode: full, stages: 0..last-1}`."""

    def read(self, node: Any, report: Any) -> Any:
        value = super().read(node, report)
        return Recompute(value) if isinstance(value, str) else value


_MODE = Choice(("none", "full", "invert"))
RECOMPUTE = _ModeOrObject(
    "none, full, invert, or {mode, stages}",
    (_MODE, Object("recompute", (Key("mode", _MODE), Key("stages", STAGE_SPAN, ALL_STAGES)), _recompute)),
)


def _aux(places: Places, gradient: str, stages: Any) -> Aux:
    return Aux(gradient, stages)


AUX = Object(
    "aux",
    (
        Key(
            "gradient",
            Choice(("local", "synthetic")),
            about="local: an auxiliary loss at the stage; synthetic: a model predicts the gradient",
        ),
        Key("stages", STAGE_SPAN, Aux().stages, "default: all but the last"),
    ),
    _aux,
)


def _outer(places: Places, every: int, lr: Fraction, momentum: Fraction, nesterov: bool) -> Sync:
    return Sync("outer", every, lr=lr, momentum=momentum, nesterov=nesterov)


def _average(places: Places, every: int, blocking: bool) -> Sync:
    return Sync("average", every, blocking)


def _push(places: Places, to: str, granularity: str) -> Sync:
    return Sync("push", blocking=False, granularity=granularity)


def _sync(kind: str, value: Any, where: Position) -> Sync:
    if isinstance(value, Sync):
        return value
    if kind == "average":
        return Sync("average", value)
    return Sync(kind, blocking=kind != "push")


_EVERY = Integer(1, _MOST)
_SYNC = OneKey(
    "a way to synchronise replicas",
    (
        Key("allreduce", Choice(("grad",)), about="gradients are averaged before each update"),
        Key(
            "average",
            OneOf(
                "a number of updates, or {every, blocking}",
                (_EVERY, Object("average", (Key("every", _EVERY), Key("blocking", Boolean(), True)), _average)),
            ),
            about="parameters are averaged every so many updates; blocking false: added as a difference, nobody waits",
        ),
        Key(
            "outer",
            Object(
                "outer",
                (
                    Key("every", _EVERY, about="inner updates in one outer step"),
                    Key("lr", Real(), Sync("outer").lr),
                    Key("momentum", Real(), Sync("outer").momentum),
                    Key("nesterov", Boolean(), True),
                ),
                _outer,
            ),
            about="an outer optimizer steps along the mean change of the replicas (DiLoCo)",
        ),
        Key(
            "push",
            OneOf(
                "random, or {to: random, granularity}",
                (
                    Choice(("random",)),
                    Object(
                        "push",
                        (Key("to", Choice(("random",)), "random"), Key("granularity", Choice(("stage", "model")))),
                        _push,
                    ),
                ),
            ),
            about="new parameters go to a random peer, which mixes them in on arrival (LayUp)",
        ),
    ),
    _sync,
)


def _replicas(places: Places, count: int, sync: Sync | None) -> Replicas:
    return Replicas(count, sync)


REPLICAS = Object(
    "replicas",
    (
        Key("count", Integer(1, 65_536), about="how many full copies of the parameters"),
        Key("sync", _SYNC, about="how they stay together"),
    ),
    _replicas,
)


def _phase(places: Places, until: int | Fraction, update: str | None, replicas: Sync | None) -> Phase:
    return Phase(until, update, replicas, places[""])


def _alone(places: Places, **values: Any) -> Any:
    (value,) = values.values()
    return value


class _Until(OneOf):
    """Updates, or a share of the training."""

    def read(self, node: Any, report: Any) -> Any:
        value = super().read(node, report)
        if isinstance(value, Fraction) and not 0 < value < 1:
            report.error("AP105", f"expected {self.expects}, found {found(node)}", node.where)
            return MISSING
        return value


PHASES = ListOf(
    Object(
        "a phase",
        (
            Key(
                "until",
                _Until("a number of updates, or a share of the training such as 1/2", (Integer(1), Real())),
                about="where the phase ends: after so many updates, or after that share of the training",
            ),
            Key("update", Object("update", (Key("scope", _SCOPE),), _alone), None, "another scope"),
            Key("replicas", Object("replicas", (Key("sync", _SYNC),), _alone), None, "another way to stay together"),
        ),
        _phase,
    ),
    what="a list of phases, as in [{until: 1/2, replicas: {sync: {average: 1}}}]",
)
