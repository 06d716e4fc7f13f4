"""The job: model, data, loss, optimizer, train. Separate from schedules, so every schedule runs on every job.

    model: {use: convnet, channels: [16, 32, 32]}
    data: digits
    loss: cross_entropy
    optimizer: {use: sgd, lr: 0.05, momentum: 0.5}
    train: {batch: 32, epochs: 12, seed: 0, lr: {schedule: cosine, warmup: 0}}

`use` is a built-in's name, `package.module:callable` or `./file.py:callable`, relative to the job file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as MappingType
from collections.abc import Sequence as SequenceType
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asyncpipe.errors import Position, UsageError, did_you_mean
from asyncpipe.schedule.kinds import MISSING, Choice, Integer, Key, Object, Real, Text, found
from asyncpipe.schedule.load import JOB_KEYS, SCHEDULE_KEYS, apply_overrides, has_keys, library
from asyncpipe.schedule.source import Mapping, Node, Report, Scalar, Sequence, file_beside, parse_text, read_file

__all__ = [
    "DEFAULT_JOB",
    "LOSSES",
    "NUMERICS",
    "Component",
    "JobSpec",
    "RateSpec",
    "TrainSpec",
    "job_library",
    "job_text",
    "read_job",
]

DEFAULT_JOB = "digits"
LOSSES = ("cross_entropy", "mse", "l1", "bce_with_logits")
"""The built-in losses."""
NUMERICS: MappingType[str, tuple[str, ...]] = {
    "autocast": ("none", "bf16"),
    "dtype": ("preserve", "bf16"),
    "memory_format": ("preserve", "channels_last"),
    "compile": ("none", "inductor"),
}
"""How numbers are kept and computed; the first word of each is the default, and changes nothing."""
_LIBRARY = Path(__file__).resolve().parent.parent / "schedules" / "jobs"


@dataclass(frozen=True)
class Component:
    """A named part with its options: plain values, checked by whoever builds it."""

    use: str
    options: MappingType[str, Any] = field(default_factory=dict)
    where: Position | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RateSpec:
    """The learning rate over the run; `warmup` in epochs."""

    schedule: str = "constant"
    warmup: float = 0.0
    warmup_start: float = 0.0
    min_lr: float = 0.0


@dataclass(frozen=True)
class TrainSpec:
    batch: int = 32
    epochs: int = 10
    seed: int = 0
    evaluate_every: int = 1
    """Epochs between evaluations; each drains the pipeline."""
    intra_op_threads: int | None = None
    lr: RateSpec = RateSpec()
    autocast: str = "none"
    dtype: str = "preserve"
    memory_format: str = "preserve"
    compile: str = "none"

    @property
    def numerics(self) -> dict[str, str]:
        """The words for each key of `NUMERICS`."""
        return {name: getattr(self, name) for name in NUMERICS}


@dataclass(frozen=True)
class JobSpec:
    model: Component
    data: Component
    loss: Component
    optimizer: Component
    train: TrainSpec
    name: str = field(default="", compare=False)
    file: str = field(default="", compare=False)


def job_library() -> dict[str, Path]:
    """The built-in jobs by name."""
    return {path.stem: path for path in sorted(_LIBRARY.glob("*.yaml"), key=lambda path: path.stem)}


class _ComponentKind:
    """`name`, or `{use: name, option: value ...}`."""

    expects = "a name, or a mapping with `use`"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, Mapping) or (isinstance(node, Scalar) and isinstance(node.value, str))

    def read(self, node: Node, report: Report) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return Component(node.value, {}, node.where)
        use = node.get("use") if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or not isinstance(use, Scalar) or not isinstance(use.value, str):
            what = f"{found(node)}{' without `use`' if isinstance(node, Mapping) and use is None else ''}"
            report.error(
                "AP105", f"expected {self.expects}, found {what}", node.where, "as in {use: mlp, hidden: [64]}"
            )
            return MISSING
        options = {key.text: plain(value) for key, value in node.items if key.text != "use"}
        return Component(use.value, options, use.where)


def plain(node: Node) -> Any:
    """A node as plain Python values."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key.text: plain(value) for key, value in node.items}


def _rate(places: Any, **values: Any) -> RateSpec:
    return RateSpec(**values)


def _train(places: Any, **values: Any) -> TrainSpec:
    return TrainSpec(**values)


def _job(places: Any, **values: Any) -> JobSpec:
    return JobSpec(**values)


_NUMBER = Real(exact=False)
_RATE = Object(
    "lr",
    (
        Key("schedule", Choice(("constant", "cosine")), "constant"),
        Key("warmup", _NUMBER, 0.0, "epochs"),
        Key("warmup_start", _NUMBER, 0.0),
        Key("min_lr", _NUMBER, 0.0),
    ),
    _rate,
)
_TRAIN = Object(
    "train",
    (
        Key("batch", Integer(1), 32),
        Key("epochs", Integer(1), 10),
        Key("seed", Integer(0, 2**31 - 1), 0),
        Key("evaluate_every", Integer(1), 1, "epochs between evaluations"),
        Key("intra_op_threads", Integer(1, 1024), None),
        Key("lr", _RATE, RateSpec()),
        *(Key(name, Choice(words), words[0]) for name, words in NUMERICS.items()),
    ),
    _train,
)
JOB = Object(
    "a job",
    (
        Key("name", Text(), "", "default: the name of the file"),
        Key("model", _ComponentKind()),
        Key("data", _ComponentKind()),
        Key("loss", _ComponentKind(), Component("cross_entropy")),
        Key("optimizer", _ComponentKind()),
        Key("train", _TRAIN, TrainSpec()),
    ),
    _job,
)


def read_job(source: str | Node | None, report: Report, overrides: SequenceType[str] = ()) -> JobSpec | None:
    """The job that a name, a file, or a `job:` section states; None: the default job. Findings go into the report.

    Of the overrides, those of `job.` count. A file that a schedule names is relative to the schedule.
    """
    if source is None or isinstance(source, str | Scalar):
        path = _find(source or DEFAULT_JOB, report)
        text = None if path is None else read_file(path, report, source.where if isinstance(source, Scalar) else None)
        node = None if text is None else parse_text(text, str(path), report)
        label, file = (path.stem, str(path)) if path else ("", "")
    else:
        # Of an override, whose value may hold slashes, only the last part: code is then beside the working directory.
        node, label, file = source, "job", str(file_beside(source.where, Path(source.where.file).name))
    if node is None or _refuse_schedule(node, file, report):
        return None
    job = JOB.read(apply_overrides(node, overrides, report, "job."), report)
    if job is MISSING:
        return None
    assert isinstance(job, JobSpec)
    return replace(job, name=job.name or label, file=file)


def _refuse_schedule(node: Node, file: str, report: Report) -> bool:
    """One error instead of one for each key."""
    if not has_keys(node, SCHEDULE_KEYS, JOB_KEYS):
        return False
    hint = f"this looks like a schedule: `asyncpipe run {file} --job NAME|FILE`"
    report.error("AP105", "expected a job, found a schedule", node.where, hint)
    return True


def _find(source: str | Scalar, report: Report) -> Path | None:
    """UsageError for an unknown name on the command line, AP107 for one in a schedule."""
    name = source.text if isinstance(source, Scalar) else source
    path = file_beside(source.where, name) if isinstance(source, Scalar) else Path(name)
    if os.path.exists(path) or path.suffix or "/" in name:
        return path
    known = job_library()
    if name in known:
        return known[name]
    message, hint = f"no job named {name!r} in the library, and no such file", did_you_mean(name, list(known))
    if name in library():
        hint = f"{name!r} is a schedule; the jobs are {', '.join(known)}"
    if not isinstance(source, Scalar):
        raise UsageError(message, hint)
    report.error("AP107", message, source.where, hint)
    return None


def job_text(job: JobSpec) -> str:
    """The job as YAML with every default written out; it reads back equal."""
    import json

    train = job.train
    names = ("schedule", "warmup", "warmup_start", "min_lr")
    lr = "{" + ", ".join(f"{name}: {getattr(train.lr, name)}" for name in names) + "}"
    threads = "" if train.intra_op_threads is None else f", intra_op_threads: {train.intra_op_threads}"
    numerics = ", ".join(f"{name}: {word}" for name, word in train.numerics.items())
    lines = [
        f"{name}: {_component_text(getattr(job, name), json.dumps)}" for name in ("model", "data", "loss", "optimizer")
    ]
    lines.append(
        f"train: {{batch: {train.batch}, epochs: {train.epochs}, seed: {train.seed},"
        f" evaluate_every: {train.evaluate_every}{threads}, lr: {lr}, {numerics}}}"
    )
    return "\n".join(lines) + "\n"


def _component_text(component: Component, dumps: Any) -> str:
    options = "".join(f", {key}: {dumps(value)}" for key, value in component.options.items())
    return f"{{use: {dumps(component.use)}{options}}}"
