"""The report for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from asyncpipe.runtime.backends import resolve_backend
from asyncpipe.tools.fit.examine import Examined
from asyncpipe.tools.fit.findings import Finding
from asyncpipe.tools.fit.fit import Fit
from asyncpipe.tools.fit.memory import StageMemory
from asyncpipe.tools.fit.stages import in_a_row, ranges_text
from asyncpipe.tools.fit.wording import bytes_text, counted, several

__all__ = ["report"]

WIDTH = 120
_MOST_ROWS = 16
_MOST_PLACES = 6


def report(found: Fit, next_command: str) -> str:
    """Layers, proposed stages, memory, findings, and what to run next."""
    lines = [*_head(found.examined), "", *_layers(found.examined), "", *_stages(found.examined), ""]
    if found.examined.memory:
        lines += [*_memory(found.examined), ""]
    lines += [*_findings(found.findings), "", *_next(found, next_command)]
    return "\n".join(lines) + "\n"


def _head(found: Examined) -> Iterator[str]:
    subject, asked = found.subject, found.asked
    yield f"{subject.name} under {asked.schedule.name} on {resolve_backend(asked.backend)}"
    few = len(found.layers.sample)
    ran = "" if few == subject.batch else f"; {few} samples of it ran, sizes follow from theirs"
    yield f"input {subject.shape}, {subject.source}{ran}"


def _layers(found: Examined) -> Iterator[str]:
    """One row for each layer."""
    total = sum(found.layers.seconds) or 1.0
    rows = [
        (
            str(number),
            name,
            several([type(child).__name__ for child in layer]),
            f"{cost.parameters:,}",
            f"{100 * seconds / total:.1f} %",
            bytes_text(cost.activation_bytes),
        )
        for number, ((name, layer), cost, seconds) in enumerate(
            zip(found.layers.named, found.layers.costs, found.layers.seconds, strict=True)
        )
    ]
    yield from _table(("layer", "name", "modules", "parameters", f"forward ({found.asked.costs})", "output"), rows, 3)


def _stages(found: Examined) -> Iterator[str]:
    if not found.proposals:
        yield "stages  1: there is nowhere to cut"
        return
    rows = [
        (
            str(len(one.parts)),
            ranges_text(one.parts),
            in_a_row([f"{100 * share:.0f}" for share in one.shares]) + " %",
            f"{one.balance:.2f}",
            _handed_over(one.handed_over),
            one.asked_by,
        )
        for one in found.proposals
    ]
    headings = ("stages", "layers of each", "forward of each", "largest/mean", "handed over", "how to ask for it")
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    if sum(widths) > WIDTH:
        rows = [(*row[:5], row[5] if row[5].startswith("--") else "see --json") for row in rows]
    yield from _table(headings, rows, 6)


def _handed_over(sizes: Sequence[int]) -> str:
    return " ".join(map(bytes_text, sizes)) if len(sizes) < 4 else f"at most {bytes_text(max(sizes))}"


def _memory(found: Examined) -> Iterator[str]:
    rows = [
        (
            str(number),
            bytes_text(stage.parameters + stage.buffers),
            bytes_text(stage.optimizer),
            bytes_text(stage.gradients),
            bytes_text(stage.copies),
            _activations(stage),
            bytes_text(stage.total),
        )
        for number, stage in enumerate(found.memory)
    ]
    headings = ("memory of stage", "parameters", "optimizer", "gradients", "copies", "activations", "in all")
    yield from _table(headings, rows, 1)
    kept = ", ".join(f"{name} {bytes_text(size)}" for name, size in found.optimizers.items())
    yield f"optimizer state of the model: {kept}"


def _activations(stage: StageMemory) -> str:
    if stage.held == stage.in_flight * stage.activations:
        return f"{stage.in_flight} x {bytes_text(stage.activations)}"
    return f"{bytes_text(stage.held)}, recomputed"


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        yield from _wrapped(f"{finding.severity:<5} {finding.check}: {finding.message}", "      ")
        for place in finding.places[:_MOST_PLACES]:
            yield f"      in {place}"
        if len(finding.places) > _MOST_PLACES:
            yield f"      and in {len(finding.places) - _MOST_PLACES} more"
        if finding.todo:
            yield from _wrapped(f"      do: {finding.todo}", "          ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _next(found: Fit, command: str) -> Iterator[str]:
    counts = {severity: sum(f.severity == severity for f in found.findings) for severity in ("warn", "fail")}
    if counts["fail"]:
        yield f"{counted(counts['fail'], 'failure')}, {counted(counts['warn'], 'warning')}; once mended:"
    else:
        yield f"{counted(counts['warn'], 'warning')}; next:"
    yield f"  {command}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """The first `left` columns begin at the same place, the others end there. Of many rows the first and the last."""
    if len(rows) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        rest = ("...", *("" for _ in headings[1:]))
        rows = [*rows[:half], rest, *rows[-half:]]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in [headings, *rows]:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
