"""What a run tells people at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncpipe.training.sessions import record_text
from asyncpipe.training.virtual_time import pace_text

__all__ = ["result_text"]


def result_text(summary: Mapping[str, Any]) -> str:
    """The result for people."""
    accuracy = summary["eval"]["accuracy"]
    shown = f"test accuracy {100 * accuracy:.2f} %, " if accuracy is not None else ""
    measured = summary["staleness_measured"]["device"] or summary["staleness_measured"]
    stale = " ".join("-" if value is None else f"{value:.2f}" for value in measured["apply"])
    most = " ".join(max(counts, key=int, default="-") for counts in measured["histogram"])
    stages = f"{summary['stages']} stage{'s' * (summary['stages'] != 1)}"
    planned = " ".join(f"{value:g}" for value in summary["staleness"])
    return (
        f"{summary['schedule']} on {summary['job']}, {summary['backend']}, {stages}:"
        f" {shown}test loss {summary['eval']['loss']:.4f}\n"
        f"{summary['steps']} updates, {summary['samples']} samples in {summary['wall_s']:.1f} s"
        f" ({summary['samples_per_s']:.0f} samples/s while training)\n"
        f"staleness per stage: measured {stale}, at most {most}; planned {planned}\n"
        f"{pace_text(summary['virtual'])}{record_text(summary)}"
        f"{_graph_text(summary)}{_rate_text(summary)}{_measured_text(summary)}{_target_text(summary)}"
        f"run directory {summary['out']}"
    )


def _graph_text(summary: Mapping[str, Any]) -> str:
    """A line on the graph that was launched, if one was."""
    graph = summary["graph"]
    if graph is None:
        return ""
    nodes = "" if graph["nodes"] is None else f"{graph['nodes']} nodes, "
    return (
        f"graph of {graph['period']} microbatches: {nodes}captured in {graph['capture_s']:.1f} s,"
        f" {graph['pool_bytes'] / 2**20:.0f} MiB\n"
    )


def _rate_text(summary: Mapping[str, Any]) -> str:
    """A line on what `lr: {auto: ...}` made of the learning rate."""
    lr = summary["lr"]
    if not lr["auto"]:
        return ""
    each = " ".join(f"{lr['stated'] * factor:.3g}" for factor in lr["factors"])
    return f"lr per stage: {each}; {lr['stated']:g} without staleness\n"


def _measured_text(summary: Mapping[str, Any]) -> str:
    """A line on the divergence of the weights, if it was measured."""
    divergence, gradient = summary["divergence"], summary["gradient"]
    if divergence is None:
        return ""
    moved = " ".join("-" if value is None else f"{value:.2g}" for value in divergence["forward_backward"])
    ratio = None if gradient is None else gradient["sigma_stale_over_sgd"]
    noise = "" if ratio is None else f"; sigma_stale / sigma_sgd {ratio:.2g}"
    return f"weights move between forward and backward by {moved} per stage{noise}\n"


def _target_text(summary: Mapping[str, Any]) -> str:
    """A line on when the target was reached, if one was set."""
    target = summary["target"]
    if target is None:
        return ""
    reached, shown = target["reached"], f"test accuracy {100 * target['accuracy']:g} %"
    if reached is None:
        return f"{shown} was not reached\n"
    virtual = "" if reached["virtual_time"] is None else f", virtual time {reached['virtual_time']:g}"
    return f"{shown} after {reached['samples']} samples, {reached['train_s']:.1f} s of training{virtual}\n"
